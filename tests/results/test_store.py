from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from repro.errors import DataError
from repro.experiment.config import find_table, runs_of
from repro.experiment.schema import Run
from repro.results import (
    RunFolder,
    RunRecord,
    find_record,
    load_records,
    read_failure,
    read_record,
    write_failure,
    write_record,
)

MakeRecord = Callable[..., RunRecord]


def test_a_runs_folder_is_its_id(tmp_path: Path, run: Run) -> None:
    folder = RunFolder.of(tmp_path, run)
    assert folder.path == tmp_path / "demo" / "shufflenetv2" / "inverse_bias" / "seed-0"
    assert not folder.path.exists()
    assert find_record(folder) is None


def test_a_committed_record_is_found_and_leaves_nothing_else(tmp_path: Path, run: Run, make_record: MakeRecord) -> None:
    folder = RunFolder.of(tmp_path, run)
    write_failure(folder, "no memory")
    for leftover in (folder.checkpoint, folder.previous_checkpoint, folder.path / ".checkpoint.pt.77.part"):
        leftover.touch()
    folder.log.write_text("kept")
    record = make_record()
    write_record(folder, record)
    assert find_record(folder) == record
    assert {path.name for path in folder.path.iterdir()} == {"run.json", "run.log"}


def test_records_are_loaded_by_table_in_the_order_of_their_paths(tmp_path: Path, make_record: MakeRecord) -> None:
    overridden = find_table("demo+recipe.decay_epochs=[1,2]")
    runs = [*runs_of(find_table("demo").cells, [0, 1]), *runs_of(overridden.cells, [0])]
    for run in runs:
        write_record(RunFolder.of(tmp_path, run), make_record(run))
    assert len(load_records(tmp_path)) == 12
    assert [found.record.id for found in load_records(tmp_path, ["demo"]) if found.record] == sorted(
        run.id for run in runs if run.cell.table == "demo"
    )
    assert len(load_records(tmp_path, [overridden.id])) == 4
    assert load_records(tmp_path, ["table2"]) == []
    assert load_records(tmp_path / "absent") == []


def test_a_damaged_record_is_found_with_its_problem(tmp_path: Path, run: Run, make_record: MakeRecord) -> None:
    folder = RunFolder.of(tmp_path, run)
    write_record(folder, make_record())
    folder.record.write_bytes(folder.record.read_bytes().replace(b"61.25", b"99.25"))
    [found] = load_records(tmp_path)
    assert found.record is None
    assert found.problem is not None
    assert "the seal is broken" in found.problem
    with pytest.raises(DataError, match="the seal is broken"):
        find_record(folder)


def test_a_record_copied_to_another_seed_does_not_count_for_it(
    tmp_path: Path, run: Run, make_record: MakeRecord
) -> None:
    folder = RunFolder.of(tmp_path, run)
    write_record(folder, make_record())
    copy = folder.path.with_name("seed-1")
    shutil.copytree(folder.path, copy)
    assert [found.problem for found in load_records(tmp_path)] == [
        None,
        "this is the record of another run, demo/shufflenetv2/inverse_bias/seed-0",
    ]
    with pytest.raises(DataError, match="another run"):
        find_record(RunFolder(copy))


def test_a_results_folder_may_be_moved_whole(tmp_path: Path, run: Run, make_record: MakeRecord) -> None:
    write_record(RunFolder.of(tmp_path / "results", run), make_record())
    (tmp_path / "results").rename(tmp_path / "elsewhere")
    assert find_record(RunFolder.of(tmp_path / "elsewhere", run)) == make_record()


def test_a_record_is_found_from_inside_its_folder(
    tmp_path: Path, run: Run, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.of(tmp_path, run)
    write_record(folder, make_record())
    monkeypatch.chdir(folder.path)
    assert read_record(Path("run.json")) == make_record()


def test_what_cannot_be_read_is_said_so(tmp_path: Path, run: Run) -> None:
    folder = RunFolder.of(tmp_path, run)
    folder.record.mkdir(parents=True)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        find_record(folder)


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_folder_that_may_not_be_read_is_not_silently_passed_over(
    level: int, tmp_path: Path, run: Run, make_record: MakeRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder.of(tmp_path, run)
    write_record(folder, make_record())
    (tmp_path / "notes.txt").write_text("no folder")
    (tmp_path / "demo" / "to itself").symlink_to("to itself")
    closed = [folder.path, *folder.path.parents][level]
    assert len(load_records(tmp_path)) == 1
    iterdir = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return iterdir(path)

    def refused(path: Path) -> bytes:  # root, who may read everything, runs tests too
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "iterdir", refusing)
    monkeypatch.setattr(Path, "read_bytes", refused)
    (closed / "run.json").touch()
    [found] = load_records(tmp_path)
    assert found.problem == "cannot be read: Permission denied"
    assert found.path.is_relative_to(closed)


def test_attempts_are_counted(tmp_path: Path, run: Run) -> None:
    folder = RunFolder.of(tmp_path, run)
    assert read_failure(folder) is None
    assert write_failure(folder, "first").attempts == 1
    second = write_failure(folder, "second")
    assert (second.cause, second.attempts) == ("second", 2)
    assert read_failure(folder) == second


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "null", '{"cause": "x"}', '{"cause": "x", "attempts": Infinity, "at": ""}', "\udc80"]
)
def test_a_failure_note_that_cannot_be_read_only_fails_to_inform(tmp_path: Path, run: Run, text: str) -> None:
    folder = RunFolder.of(tmp_path, run)
    folder.path.mkdir(parents=True)
    folder.failure.write_bytes(text.encode(errors="surrogateescape"))
    assert read_failure(folder) is None
