"""Every number that a user gives has bounds, by an option, in a list, or in a YAML file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main

from repro.cli import app, run
from repro.experiment.schema import Table


def numeric_options_of(command: Any, path: str = "biasrepro") -> Iterator[tuple[str, Any]]:
    for name, sub in getattr(command, "commands", {}).items():
        yield from numeric_options_of(sub, f"{path} {name}")
    for parameter in command.params:
        annotation = parameter.type_descriptor.annotation if parameter.type_descriptor else bool
        if {int, float} & {annotation, *get_args(annotation)}:
            yield f"{path} {parameter.opts[0]}", parameter


def test_every_numeric_option_has_two_bounds() -> None:
    numeric = dict(numeric_options_of(typer.main.get_command(app)))
    assert len(numeric) > 15
    assert not [name for name, option in numeric.items() if None in (option.min, option.max)]


def numbers_in(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema):
        if isinstance(value, dict | list):
            yield from numbers_in(value, f"{path}/{key}")
    if isinstance(schema, dict) and schema.get("type") in ("integer", "number") and "enum" not in schema:
        yield path, schema


def test_every_number_of_an_experiment_has_two_bounds() -> None:
    found = dict(numbers_in(Table.model_json_schema()))
    assert len(found) > 15
    lower, upper = {"minimum", "exclusiveMinimum"}, {"maximum", "exclusiveMaximum"}
    assert not [path for path, number in found.items() if not (lower & number.keys() and upper & number.keys())]


HUGE = "9" * 5000  # more digits than int() reads
NUMBERS_IN_TEXT = [
    *(["plan", option, f"5,{number}"] for option in ("--at", "--looks") for number in ("10001", "100000000", HUGE)),
    *(["plan", option, ",".join(map(str, range(3, 110)))] for option in ("--at", "--looks")),
    ["plan", "table2", "--looks", "5,1000000000", "--declare"],
    *(["sweep", "demo", "--seeds", number] for number in ("10001", HUGE, f"0,{2**32}")),
    *(["sweep", "demo", "--gpus", number] for number in ("99999", HUGE)),
    *(["sweep", "demo", "--jobs-per-gpu", number] for number in ("65", HUGE)),
    *(["sweep", "demo", "--executor", "slurm", "--time", time] for time in (HUGE, "99999-0", "9:99:99:9")),
    *(["train", "demo", "--device", f"cuda:{number}"] for number in ("99999", HUGE)),
    *(["sweep", "demo", "--executor", "ray", "--memory-per-job", number] for number in ("inf", "1e300", "nan", "-1")),
    ["sweep", "table1", "--seeds", "10000", "--dry-run"],
]


@pytest.mark.parametrize("arguments", NUMBERS_IN_TEXT, ids=lambda arguments: " ".join(arguments)[:40])
def test_a_number_out_of_bounds_is_one_message(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


def test_a_table_of_too_many_runs_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "\n".join(f"  - {{id: r{number}, title: r, model: squeezenet}}" for number in range(101))
    lines = ("table: own", "label: Own", "title: Own", "kind: study", "dataset: {name: digits}", "seeds: 1000")
    columns = "columns: [{id: ce, title: CE, loss: ce}]"
    file = tmp_path / "own.yaml"
    file.write_text("\n".join([*lines, "recipe: {epochs: 1, learning_rate: 0.1}", columns, "rows:", rows, ""]))
    assert run(["status", str(file), "--results", str(tmp_path)]) == 2
    assert "101,000 runs are more than the 100,000 that a table may have" in capsys.readouterr().err
