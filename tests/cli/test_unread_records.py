"""Good records that cannot be read now, or by this version, are never called damaged, and never silently left out."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import RunFolder
from repro.results.record import sealed
from repro.results.weights_file import KeptWeights
from repro.sweep.selection import selected_runs

Say = Callable[..., Any]
COMMANDS = (("status",), ("status", "demo"), ("table", "demo"), ("export",), ("export", "demo"), ("verify",))


@pytest.fixture
def runs(finish: Callable[..., None]) -> list[Run]:
    """The demo's first runs, recorded."""
    runs = selected_runs(find_table("demo"), (0, 1, 2))
    for run in runs:
        finish(run)
    return runs


def arguments(command: tuple[str, ...], results: Path) -> list[str]:
    return ["verify", str(results)] if command == ("verify",) else [*command, "--results", str(results)]


@pytest.mark.parametrize("name", ["EACCES", "EMFILE", "EIO", "ESTALE", "ENOMEM", "ETIMEDOUT"])
def test_records_that_could_not_be_read_are_unreadable_for_every_command(
    name: str, say: Say, runs: list[Run], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, read = RunFolder.of(results, runs[0]).record, Path.read_bytes
    number = getattr(errno, name)

    def refuse(path: Path) -> bytes:
        if path == closed:
            raise OSError(number, os.strerror(number), str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    before = closed.stat()
    for command in COMMANDS:
        said = say(*arguments(command, results))
        text = said.out + said.err
        assert said.code == 1, command
        assert f"cannot be read: {os.strerror(number)}" in text, command
        assert "damaged" not in text.replace("none damaged", ""), command
        assert "trained again" not in text, command
    said = say("sweep", "demo", "--results", results)
    assert said.code == 2
    assert "Nothing was started" in said.err
    assert "move none away" in said.err
    assert closed.stat() == before


def test_a_folder_that_cannot_be_listed_now_is_not_empty(
    say: Say, runs: list[Run], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    iterdir = Path.iterdir

    def refuse(path: Path) -> Any:
        if path == results / "demo":
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    said = say("table", "demo", "--results", results)
    assert said.code == 2
    assert f"{results / 'demo'}: cannot be read: Too many open files" in said.err
    assert "ulimit -n" in said.err


def test_a_newer_record_is_newer_for_every_command(say: Say, runs: list[Run], results: Path) -> None:
    file = RunFolder.of(results, runs[0]).record
    body = file.read_bytes().rpartition(b',\n  "seal"')[0]
    file.write_bytes(sealed(body.replace(b'"schema_version": 1', b'"schema_version": 2')))
    for command in COMMANDS:
        said = say(*arguments(command, results))
        text = said.out + said.err
        assert said.code == 1, command
        assert "a newer biasrepro wrote this record: schema version 2, this one reads 1" in text, command
        assert "pdate biasrepro" in text, command
        assert "damaged" not in text.replace("none damaged", ""), command
        assert "trained again" not in text, command


def test_a_link_whose_target_is_away_is_no_free_place(say: Say, runs: list[Run], results: Path, own: Path) -> None:
    record = RunFolder.of(results, runs[0]).record
    record.unlink()
    record.symlink_to("/annex/objects/run.json")
    for command in COMMANDS:
        said = say(*arguments(command, results))
        assert said.code == 1, command
        assert "it is a link to /annex/objects/run.json, which is not there" in said.out + said.err, command
    said = say("sweep", "demo", "--results", results)
    assert said.code == 2
    assert "Nothing was started" in said.err
    file = results.parent / "runs.csv"
    file.write_text(f"row,column,seed,top1\n{runs[0].cell.row.id},{runs[0].cell.column.id},{runs[0].seed},90\n")
    said = say("import", file, "--table", "demo", "--results", results)
    assert said.code == 2
    assert "unreadable" in said.err
    assert record.is_symlink()


def test_weights_that_are_a_link_to_nowhere_are_missing(say: Say, results: Path, finish: Callable[..., None]) -> None:
    [run] = selected_runs(find_table("demo"), (0,))[:1]
    finish(run, weights=KeptWeights.of(b"weights"))
    RunFolder.of(results, run).weights.symlink_to("/annex/objects/weights")
    said = say("verify", results)
    assert said.code == 0
    assert "none damaged, 1 missing" in said.out
