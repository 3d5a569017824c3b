"""What a shell completes, by the protocol that its script uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import typer

from repro.cli import app, run


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash is given for ``biasrepro LINE`` with the cursor at its end."""
    words = line.split(" ")
    monkeypatch.setenv("_BIASREPRO_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"biasrepro {line}")
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with suppress(SystemExit):
        run([])
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tab", {"table"}),
        ("table ", {"demo", "table1", "table2", "tiny20"}),
        ("report tiny", {"tiny20"}),
        ("plan table", {"table1", "table2"}),
        ("figure ", {"1", "curves", "deltas", "parameters", "weights"}),
        ("figure deltas ti", {"tiny20"}),
        ("data ", {"fetch", "verify", "info"}),
        ("data fetch ", {"cifar100", "tiny_imagenet", "digits"}),
        ("bench squeezenet", {"squeezenet", "squeezenet_bn"}),
        ("bench --arms plain,g", {"plain,graph"}),
        ("bench --precision ", {"fp32", "bf16"}),
        ("bench --image-size ", {"32", "64"}),
        ("models res", {"resnet18"}),
        ("table demo --rows ", {"shufflenetv2"}),
        ("table demo --columns ce,", {"ce,bias", "ce,mean_bias", "ce,inverse_bias"}),
        ("sweep demo --columns b", {"bias"}),
        ("table --format ", {"markdown", "latex", "csv", "json", "html"}),
        ("report -f ", {"html", "markdown"}),
        ("export --format ", {"csv", "parquet", "schema"}),
        ("compare a b --format ", {"text", "markdown", "json"}),
        ("table --metric ", {"last", "best"}),
        ("figure deltas --metric ", {"last", "best"}),
        ("table --verdicts ", {"words", "stars"}),
        ("train --device ", {"auto", "cpu", "cuda"}),
        ("train demo/shufflenetv2/b", {"demo/shufflenetv2/bias"}),
        ("evaluate demo/shufflenetv2/b", {"demo/shufflenetv2/bias"}),
        ("config demo/shufflenetv2/b", {"demo/shufflenetv2/bias"}),
        ("sweep demo --set recipe.e", {"recipe.epochs=", "recipe.epsilon="}),
        ("sweep demo --set recipe.augmentation.h", {"recipe.augmentation.horizontal_flip="}),
        ("sweep demo --only ", {"failed", "missing"}),
        ("plan --spending ", {"pocock", "obrien_fleming"}),
        ("import x.csv --table ti", {"tiny20"}),
        ("cite table1", {"table1"}),
    ],
)
def test_every_list_is_completed(
    line: str, expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected <= set(completed(line, monkeypatch, capsys))


def parameters(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, sub in getattr(command, "commands", {}).items():
        yield from parameters(sub, f"{path}{name} ")
    if not getattr(command, "commands", {}):
        for parameter in command.params:
            yield f"{path}{parameter.opts[0]}", parameter


# What a parameter's name or its metavar shows to be one of a list.
LISTED = re.compile(r"[a-z]+(\|[a-z]+)+|TABLE|TABLE\|CELL|CELL\|FILE|NETWORK|MODEL|FIGURE|A,B|KEY=VALUE")


def test_every_parameter_with_a_list_has_a_completion(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = []
    for place, parameter in parameters(typer.main.get_command(app)):
        if LISTED.fullmatch(parameter.metavar or "") and place != "sweep --sbatch":  # Slurm's own options
            listed.append(place)
            line = f"{place} " if parameter.param_type_name == "option" else place.rpartition(" ")[0] + " "
            if "--rows" in line or "--columns" in line:
                line = f"{line.split()[0]} demo {line.split()[1]} "
            line = {"figure tables": "figure deltas ", "compare tables": "compare a b "}.get(place, line)
            assert completed(line, monkeypatch, capsys), place
    assert len(listed) > 30
