"""``biasrepro verify`` says what is damaged, what may go, and what does not belong, and changes nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commits import a_record, a_run, commit, conclude, folder_in

import repro.cli
from repro.results import write_failure, write_record
from repro.results.ownership import own

Verify = Callable[[Path], tuple[int, str]]


@pytest.fixture
def verify(capfd: pytest.CaptureFixture[str]) -> Verify:
    def say(results: Path) -> tuple[int, str]:
        before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
        code = repro.cli.run(["verify", str(results)])
        assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
        out, err = capfd.readouterr()
        return code, out + err

    return say


def lines_with(said: str, *words: str) -> list[str]:
    return [line for line in said.splitlines() if all(word in line for word in words)]


def test_whole_results_are_whole(tmp_path: Path, verify: Verify) -> None:
    write_record(folder_in(tmp_path), a_record())
    other = a_run(seed=1)
    write_failure(folder_in(tmp_path, other), "no luck")
    for number in (1, 2):
        commit(folder_in(tmp_path, other), number, run=other)
    folder_in(tmp_path, other).log.write_text("words")
    (tmp_path / "table1.md").write_text("a rendered table")
    with own(folder_in(tmp_path, other)):
        pass
    code, said = verify(tmp_path)
    assert code == 0
    assert "1 record and 2 checkpoints are whole; none damaged" in said
    assert "Checkpoints of unfinished runs take" in said
    assert not any(line.startswith("unrecognised") for line in said.splitlines())


def test_records_alone_take_no_room_for_checkpoints(tmp_path: Path, verify: Verify) -> None:
    write_record(folder_in(tmp_path), a_record())
    code, said = verify(tmp_path)
    assert (code, "1 record and 0 checkpoints are whole" in said, "Checkpoints" in said) == (0, True, False)


def test_a_run_in_training_is_left_alone(tmp_path: Path, verify: Verify) -> None:
    commit(folder_in(tmp_path), 1)
    with own(folder_in(tmp_path)):
        folder_in(tmp_path).checkpoint.write_bytes(b"being replaced")
        code, said = verify(tmp_path)
    assert code == 0
    assert "1 run in training" in said


def test_damage_is_said_by_name_and_the_exit_code_tells(tmp_path: Path, verify: Verify) -> None:
    write_record(folder_in(tmp_path), a_record())
    path = folder_in(tmp_path).record
    path.write_bytes(path.read_bytes().replace(b"61.25", b"71.25"))
    other, third = a_run(seed=1), a_run(seed=2)
    commit(folder_in(tmp_path, other), 1, run=other)
    checkpoint = folder_in(tmp_path, other).checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    commit(folder_in(tmp_path, third), 1, run=other)  # another run's, copied here
    code, said = verify(tmp_path)
    assert code == 1
    assert lines_with(said, "damaged", str(path), "the seal is broken")
    assert lines_with(said, "damaged", str(checkpoint), "does not match its checksum")
    assert lines_with(said, "damaged", f"{third.id}/checkpoint.pt", f"the checkpoint of another run, {other.id}")
    assert "0 records and 0 checkpoints are whole; 3 damaged" in said


def test_a_record_with_converted_line_endings_is_not_to_be_trained_again(tmp_path: Path, verify: Verify) -> None:
    path = folder_in(tmp_path).record
    write_record(folder_in(tmp_path), a_record())
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    code, said = verify(tmp_path)
    assert code == 1
    assert lines_with(said, "damaged", "the line endings of the record were converted")
    assert "convert them back" in said
    assert "trains the run again" not in said


def test_unrecognised_and_leftover_files_are_listed(tmp_path: Path, verify: Verify) -> None:
    write_record(folder_in(tmp_path), a_record())
    run = folder_in(tmp_path).path
    for stranger in (run / "notes.txt", run.parent / "seed-x", run.parent.parent / "Thumbs.db", run.parent / "seed-01"):
        stranger.mkdir() if "seed" in stranger.name else stranger.write_text("?")
    (run / "nested").mkdir()
    (tmp_path / "mine" / "looks.json").mkdir(parents=True)
    (run / ".checkpoint.pt.0123456789abcdef.part").write_bytes(bytes(5_000_000))
    (run / "checkpoint.pt.damaged").write_bytes(bytes(1_000))
    commit(folder_in(tmp_path), 1)
    code, said = verify(tmp_path)
    assert code == 1
    assert lines_with(said, "damaged", "mine/looks.json: cannot be read: Is a directory")
    assert sum(line.startswith("unrecognised ") for line in said.splitlines()) == 5
    assert lines_with(said, "leftover", ".part", "5.0 MB")
    assert lines_with(said, "leftover", "checkpoint.pt", "its run has finished")
    assert lines_with(said, "quarantined", "checkpoint.pt.damaged")
    assert "may be deleted" in said


@pytest.mark.parametrize("record", [b"damaged", None], ids=["damaged", "unreadable"])
def test_a_checkpoint_beside_a_record_that_is_not_whole_is_kept(
    record: bytes | None, tmp_path: Path, verify: Verify
) -> None:
    commit(folder_in(tmp_path), 1)
    folder_in(tmp_path).record.write_bytes(record) if record else folder_in(tmp_path).record.mkdir()
    code, said = verify(tmp_path)
    assert code == 1
    assert "0 records and 1 checkpoint are whole; 1 damaged" in said
    assert "may be deleted" not in said


def test_what_may_not_be_read_is_named_and_the_rest_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for seed in range(4):
        write_record(folder_in(tmp_path, a_run(seed=seed)), a_record(a_run(seed=seed)))
    (tmp_path / "mine" / "row").mkdir(parents=True)
    looks = tmp_path / "demo" / "looks.json"
    looks.write_text("{}")
    runs = [folder_in(tmp_path, a_run(seed=seed)) for seed in (0, 2, 3)]
    closed = [tmp_path / "mine", runs[0].path, runs[1].path, runs[2].record, looks]
    reading = {"iterdir": Path.iterdir, "read_bytes": Path.read_bytes}

    def refusing(name: str) -> Callable[[Path], Any]:  # root, who may read everything, runs tests too
        def read(path: Path) -> Any:
            if path in closed:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return reading[name](path)

        return read

    with monkeypatch.context() as patch:
        for name in reading:
            patch.setattr(Path, name, refusing(name))
        code = repro.cli.run(["verify", str(tmp_path)])
    said = capfd.readouterr().out
    assert code == 1
    for path in closed:
        assert lines_with(said, "unreadable", f"{path}: cannot be read: Permission denied")
    assert "1 record and 0 checkpoints are whole; none damaged, 5 unreadable" in said


def test_what_was_put_aside_is_checked_before_it_may_be_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Verify
) -> None:
    folder = folder_in(tmp_path)
    for name in ("checkpoint.pt.damaged", "checkpoint.pt.damaged-2", "checkpoint.previous.pt.damaged"):
        commit(folder, 1)
        folder.checkpoint.rename(folder.path / name)
    damaged, closed = folder.path / "checkpoint.pt.damaged-2", folder.path / "checkpoint.previous.pt.damaged"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    size, read = damaged.stat().st_size, Path.read_bytes

    def stale(path: Path) -> bytes:
        if path == closed:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr("repro.results.files.Path.read_bytes", stale)
        code = repro.cli.run(["verify", str(tmp_path)])
        assert code == 1
    monkeypatch.undo()
    code, said = verify(tmp_path)
    assert code == 0
    assert lines_with(said, "misplaced", f"{folder.path}/checkpoint.pt.damaged:", "a whole checkpoint")
    assert lines_with(said, "misplaced", str(closed))
    assert lines_with(said, "quarantined", str(damaged), "it is damaged")
    assert lines_with(said, f"Quarantined and leftover files take {size / 1000:.1f} kB and may be deleted")


def test_weights_are_checked_against_their_record(tmp_path: Path, verify: Verify) -> None:
    folder = folder_in(tmp_path)
    conclude(folder)
    code, said = verify(tmp_path)
    assert (code, "1 record, 1 weights file and 0 checkpoints are whole; none damaged\n" in said) == (0, True)

    folder.weights.write_bytes(b"final w8ights")
    code, said = verify(tmp_path)
    assert code == 1
    assert lines_with(said, "damaged", str(folder.weights), "does not match the hash in its record")
    assert "1 record and 0 checkpoints are whole; 1 damaged" in said

    folder.weights.unlink()
    code, said = verify(tmp_path)
    assert code == 0  # the record is whole, and a copy of the records alone has no weights
    assert lines_with(said, "missing", str(folder.weights), "its record names these weights")
    assert "1 record and 0 checkpoints are whole; none damaged, 1 missing" in said


def test_weights_that_no_record_names_are_leftovers(tmp_path: Path, verify: Verify) -> None:
    write_record(folder_in(tmp_path), a_record())
    other = folder_in(tmp_path, a_run(seed=1))
    other.path.mkdir()
    for folder in (folder_in(tmp_path), other):
        folder.weights.write_bytes(b"final weights")
    code, said = verify(tmp_path)
    assert code == 0
    assert lines_with(said, "leftover", str(folder_in(tmp_path).weights), "its record names no weights")
    assert lines_with(said, "leftover", str(other.weights), "its run has no record")
    with own(other):  # which may be about to write the record
        assert not lines_with(verify(tmp_path)[1], str(other.weights))
    other.record.write_bytes(b"damaged")  # it may have named them
    assert not lines_with(verify(tmp_path)[1], str(other.weights))


def test_results_that_are_not_there_are_a_users_error(tmp_path: Path, verify: Verify) -> None:
    (tmp_path / "file").touch()
    code, said = verify(tmp_path / "file")
    assert code == 2
    assert f"{tmp_path}/file: this is not a folder" in said
    code, said = verify(tmp_path / "absent")
    assert code == 2
    assert "there is no such results folder" in said
    assert "biasrepro sweep demo" in said
