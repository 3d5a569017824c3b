"""A crash, or an error, at every file-system call of every commit: no state is lost, and nothing stands in the way."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commits import RUN, a_record, commit, conclude, folder_in, found_whole, newest
from disk import Crash, Disk, How, installed, strike_everywhere

from repro.errors import Unreadable
from repro.results import find_record, read_failure, write_failure, write_record
from repro.results.ownership import own, owner_of

Prove = Callable[[str], None]
CRASHES: tuple[How, ...] = ("before", "half", "after")
ERRORS = (errno.ENOSPC, errno.EIO)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crash of the program leaves does not depend on what is synced: test_power_loss.py looks at that."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(params=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a file system that has hard links, and with one that has none."""
    if request.param == "no hard links":

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    return str(request.param)


def two_commits(place: Path) -> None:
    with own(folder_in(place)):
        commit(folder_in(place), 1)
        commit(folder_in(place), 2)


def third_commit(place: Path) -> None:
    commit(folder_in(place), 3)


def struck_everywhere(
    place: Path, prepare: Callable[[Path], None], act: Callable[[Path], object]
) -> Iterator[tuple[Path, Disk, bool]]:
    """Every crash and every error, at every call."""
    for how in CRASHES:
        yield from strike_everywhere(place / "crash", prepare, act, how)
    for error in ERRORS:
        yield from strike_everywhere(place / "error", prepare, act, "before", error)
        yield from strike_everywhere(place / "error", prepare, act, "half", error)


def test_a_crash_in_a_checkpoints_commit_leaves_the_old_state_or_the_new(
    tmp_path: Path, links: str, proved: Prove
) -> None:
    struck = 0
    for place, disk, acknowledged in struck_everywhere(tmp_path, two_commits, third_commit):
        found = newest(folder_in(place))
        assert found == 3 if acknowledged else found in (2, 3), (disk.struck, disk.at, disk.how)
        struck += 1
        commit(folder_in(place), 4)
        assert newest(folder_in(place)) == 4
    proved(f"commit of a checkpoint on {links}: struck at {struck} calls, 0 lost states")
    assert struck > 40


def test_a_crash_in_the_first_commit_of_a_run_leaves_nothing_or_the_state(tmp_path: Path, links: str) -> None:
    def first_commit(place: Path) -> None:
        with own(folder_in(place / "new" / "results")) as ownership:
            commit(folder_in(place / "new" / "results"), 1, ownership.write)

    calls = set()
    for place, disk, acknowledged in struck_everywhere(tmp_path, lambda place: None, first_commit):
        folder = folder_in(place / "new" / "results")
        assert newest(folder) == 1 if acknowledged else newest(folder) in (0, 1)
        calls.add(disk.struck)
    assert calls >= {"mkdir", "open", "write", "fsync", "close", "replace", "unlink"}


def test_a_crash_in_a_records_commit_leaves_the_checkpoint_or_the_record(
    tmp_path: Path, links: str, proved: Prove
) -> None:
    def conclude(place: Path) -> None:
        write_record(folder_in(place), a_record())

    struck = 0
    for place, disk, acknowledged in struck_everywhere(tmp_path, two_commits, conclude):
        folder = folder_in(place)
        record = find_record(folder)
        assert record == a_record() if acknowledged else record in (None, a_record())
        assert record is not None or newest(folder) == 2, (disk.struck, disk.at, disk.how)
        struck += 1
        if record is None:  # the next attempt
            write_record(folder, a_record())
            assert find_record(folder) == a_record()
    proved(f"commit of a record on {links}: struck at {struck} calls, 0 lost states")


@pytest.mark.parametrize("how", CRASHES)
def test_a_crash_in_the_commit_of_weights_and_record_leaves_the_checkpoint_or_both(
    how: How, tmp_path: Path, proved: Prove
) -> None:
    struck = without_record = 0
    crashes = strike_everywhere(tmp_path, two_commits, lambda place: conclude(folder_in(place)), how)
    for place, disk, acknowledged in crashes:
        folder = folder_in(place)
        record = found_whole(folder)
        assert record is not None or (not acknowledged and newest(folder) == 2), (disk.struck, disk.at, disk.how)
        struck += 1
        without_record += record is None and folder.weights.exists()
        if record is None and struck % 2:  # the next attempt is to keep its weights, or not
            conclude(folder)
            assert found_whole(folder) is not None
        elif record is None:
            write_record(folder, a_record())
            assert not folder.weights.exists()
    assert without_record > 0  # else no crash came between the two
    proved(
        f"commit of weights and record: crashed {how} each of {struck} calls, 0 lost states, 0 records without weights"
    )


def test_a_crash_while_damage_is_put_aside_loses_neither_file(tmp_path: Path) -> None:
    def with_damage(place: Path) -> None:
        two_commits(place)
        raw = bytearray(folder_in(place).checkpoint.read_bytes())
        raw[-1] ^= 1
        folder_in(place).checkpoint.write_bytes(raw)

    for place, _, _ in struck_everywhere(tmp_path, with_damage, lambda place: newest(folder_in(place))):
        assert newest(folder_in(place)) == 1
        assert [path.name for path in folder_in(place).path.glob("*.damaged*")] == ["checkpoint.pt.damaged"]


def test_a_crash_while_a_failure_is_noted_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    def noted_once(place: Path) -> None:
        two_commits(place)
        write_failure(folder_in(place), "first")

    def note_again(place: Path) -> None:
        write_failure(folder_in(place), "second")

    for place, _, _ in struck_everywhere(tmp_path, noted_once, note_again):
        noted = read_failure(folder_in(place))
        assert noted is not None
        assert noted.cause in ("first", "second")
        assert newest(folder_in(place)) == 2


@pytest.mark.parametrize("before", ["nobody", "somebody that released it", "somebody dead"])
def test_a_crash_while_a_run_is_taken_or_given_back_leaves_it_free_once_the_process_is_gone(
    tmp_path: Path, links: str, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(place: Path) -> None:
        if before == "somebody that released it":
            two_commits(place)
        elif before == "somebody dead":
            with installed(Disk(place)) as disk, pytest.raises(Crash), own(folder_in(place)):
                disk.dead = True  # so that nothing is released

    def take_and_give_back(place: Path) -> None:
        with own(folder_in(place)) as ownership:
            commit(folder_in(place), 3, ownership.write)

    # This process stands for every owner that crashed here: none of them is taken for alive.
    monkeypatch.setattr("repro.results.ownership.is_alive", lambda pid, start: False)
    if links == "no hard links":  # an owner that died before its name was written is waited for: not here
        monkeypatch.setattr("repro.results.ownership.SILENT_SECONDS", 0.0)
    for place, disk, acknowledged in struck_everywhere(tmp_path, prepare, take_and_give_back):
        assert owner_of(folder_in(place)) is None
        with own(folder_in(place)) as ownership:
            found = newest(folder_in(place))
            assert found == 3 if acknowledged else found in (0, 2, 3), (disk.struck, disk.at, disk.how)
            commit(folder_in(place), 4, ownership.write)
            owners = sorted(path.name for path in folder_in(place).path.glob("owner-*"))
            assert len(owners) == 1
            assert not list(folder_in(place).path.glob(".checkpoint*.part"))
        assert newest(folder_in(place)) == 4


def test_a_record_is_never_replaced(tmp_path: Path, links: str) -> None:
    folder = folder_in(tmp_path)
    write_record(folder, a_record())
    commit(folder, 1)
    with pytest.raises(FileExistsError):
        write_record(folder, a_record(top1_percent=99.0))
    assert find_record(folder) == a_record()
    assert newest(folder) == 1


def test_after_a_failed_sync_nothing_is_synced_again_or_renamed(tmp_path: Path) -> None:
    # The kernel may have dropped what it could not write, and would then report success.
    struck = 0
    for place, disk, acknowledged in strike_everywhere(tmp_path, two_commits, third_commit, "before", errno.EIO):
        if disk.struck == "fsync" and "replace" not in disk.calls[: disk.at]:
            struck += 1
            assert not acknowledged
            assert not {"fsync", "replace"} & set(disk.calls[disk.at :])
            assert not list(folder_in(place).path.glob(".*.part"))
            assert newest(folder_in(place)) == 2
    assert struck == 1


NOT_DAMAGE = ("EACCES", "ESTALE", "EMFILE", "EIO", "ENOMEM", "ETIMEDOUT")


@pytest.mark.parametrize("name", [*NOT_DAMAGE, "MemoryError"])
@pytest.mark.parametrize("which", ["checkpoint", "previous_checkpoint"])
def test_a_checkpoint_that_could_not_be_read_is_left_alone(
    which: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_commits(tmp_path)
    number = getattr(errno, name, errno.ENOMEM)
    failing, read = getattr(folder_in(tmp_path), which), Path.read_bytes

    def refuse(path: Path) -> bytes:
        if path == failing:
            raise OSError(number, os.strerror(number), str(path)) if hasattr(errno, name) else MemoryError
        return read(path)

    before = sorted(folder_in(tmp_path).path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", refuse)
        with pytest.raises(Unreadable, match="cannot be read") as caught:
            newest(folder_in(tmp_path))
    assert str(failing) in str(caught.value)
    assert "It may be whole, and is left as it is." in str(caught.value)
    assert sorted(folder_in(tmp_path).path.iterdir()) == before
    assert newest(folder_in(tmp_path)) == 2
    assert RUN.id in str(folder_in(tmp_path).path)
