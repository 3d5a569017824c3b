"""A results folder that does not exist: an error where it was named, and said where it is the default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from repro import cli
from repro.experiment.config import find_table
from repro.results.checkpoint_file import Header, seal
from repro.results.record import to_bytes

# A command line of every command that reads or writes a results folder, and whether it makes that folder.
READING = {
    "table": ["table", "demo"],
    "report": ["report", "demo", "-o", "report.html"],
    "status": ["status", "demo"],
    "figure": ["figure", "deltas", "demo", "-o", "figure.svg"],
    "export": ["export", "demo"],
    "plan": ["plan", "table2"],
    "evaluate": ["evaluate", "demo"],
}
MAKING = {
    "train": ["train", "demo/nothing/ce"],
    "sweep": ["sweep", "demo", "--dry-run", "--no-measure"],
    "import": ["import", "none.csv", "--table", "demo"],
    "doctor": ["doctor", "--no-measure"],
}
ABSENT = "there is no folder results yet: no run is recorded"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIASREPRO_RESULTS", raising=False)


def commands_with_results() -> Iterator[str]:
    app = typer.main.get_command(cli.app)
    for name, command in getattr(app, "commands", {}).items():
        if any(parameter.name == "results" for parameter in command.params):
            yield name


def test_every_command_with_a_results_folder_is_tried_here() -> None:
    assert {*READING, *MAKING, "verify"} == set(commands_with_results())


@pytest.mark.parametrize("command", READING.values(), ids=READING)
@pytest.mark.parametrize("by_environment", [False, True])
def test_a_named_folder_that_does_not_exist_is_refused(
    say: Callable[..., Any], command: list[str], by_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("results").mkdir()
    if by_environment:
        monkeypatch.setenv("BIASREPRO_RESULTS", "reslts")
        said = say(*command)
    else:
        said = say(*command, "--results", "reslts")

    assert said.code == 2
    assert said.err == "error: reslts: there is no such results folder\n  Did you mean results?\n"
    assert not Path("reslts").exists()


@pytest.mark.parametrize("command", [["verify", "none"], ["compare", "none", "other"], ["sweep", "--stop"], ["verify"]])
def test_the_way_out_names_a_command(say: Callable[..., Any], command: list[str]) -> None:
    said = say(*command)

    assert (said.code, said.out) == (2, "")
    assert "there is no such results folder" in said.err
    assert "biasrepro sweep demo" in said.err


@pytest.mark.parametrize("part", ["demo", "demo/shufflenetv2", "demo/shufflenetv2/ce/seed-0"])
@pytest.mark.parametrize("file", ["run.json", "checkpoint.pt", "checkpoint.previous.pt"])
def test_a_part_of_a_results_folder_is_refused_by_all_that_read(
    say: Callable[..., Any], part: str, file: str, tmp_path: Path
) -> None:
    run = Path("results/demo/shufflenetv2/ce/seed-0")
    run.mkdir(parents=True)
    (run / file).write_text("{}")
    reading = [[*words, "--results", f"results/{part}"] for words in READING.values()]
    for command in (["verify", f"results/{part}"], *reading):
        said = say(*command)
        assert said.code == 2
        assert said.err == f"error: results/{part}: this is a part of a results folder\n  Did you mean results?\n"
    absolute = say("verify", tmp_path / "results" / part)
    assert absolute.code == 2
    assert f"Did you mean {tmp_path / 'results'}?" in absolute.err


@pytest.mark.parametrize("is_checkpoint", [False, True])
@pytest.mark.parametrize("place", ["seed-0", "a/b/c/d/e/seed-0"])
def test_a_run_that_lies_where_it_does_not_belong_is_a_part_of_nothing(
    say: Callable[..., Any], place: str, is_checkpoint: bool, fake_runs: Any, tmp_path: Path
) -> None:
    record = fake_runs.of(find_table("demo"), [0])[0].record
    folder = tmp_path / place
    folder.mkdir(parents=True)
    if is_checkpoint:
        (folder / "checkpoint.pt").write_bytes(seal(Header(record.id, 1, 1, 0), b"state"))
    else:
        (folder / "run.json").write_bytes(to_bytes(record))
    said = say("verify", folder)
    assert said.code == 0
    assert "part of" not in said.err


@pytest.mark.parametrize("name", ["table", "report", "status", "figure", "export", "plan"])
def test_the_default_folder_may_be_missing_and_that_is_said_once(say: Callable[..., Any], name: str) -> None:
    said = say(*READING[name])

    assert said.code == int(name == "figure")  # which draws nothing without runs
    assert said.err.count(ABSENT) == 1
    assert not Path("results").exists()


@pytest.mark.parametrize("arguments", [[], ["--results", "new"]])
def test_a_sweep_may_make_its_folder_and_says_that_nothing_is_recorded(
    say: Callable[..., Any], arguments: list[str]
) -> None:
    said = say(*MAKING["sweep"], *arguments)

    assert said.code == 0
    folder = arguments[-1] if arguments else "results"
    assert said.err.count(f"there is no folder {folder} yet: no run is recorded") == 1


@pytest.mark.parametrize("command", [["figure", "1", "-o", "one.svg"], ["export", "-f", "schema"]])
def test_what_needs_no_run_says_nothing_of_the_folder(say: Callable[..., Any], command: list[str]) -> None:
    said = say(*command)

    assert said.code == 0
    assert "no folder" not in said.err


def test_another_mistake_is_the_only_thing_said(say: Callable[..., Any]) -> None:
    assert "no folder" not in say("table", "demmo").err


@pytest.mark.slow
def test_a_run_in_a_new_folder_says_so_too(say: Callable[..., Any]) -> None:
    words = ["train", "demo", "--set", "recipe.epochs=1", "--set", "dataset.classes=2", "--device", "cpu"]
    first, second = say(*words), say(*words, "--seed", "1")

    assert (first.code, second.code) == (0, 0)
    assert (first.out + first.err).count(ABSENT) == 1
    assert ABSENT not in second.out + second.err


def test_a_preregistration_may_make_its_folder(say: Callable[..., Any]) -> None:
    said = say("plan", "table2", "--looks", "5,10", "--declare", "--results", "new")

    assert said.code == 0, said.err
    assert Path("new/table2/looks.json").exists()
