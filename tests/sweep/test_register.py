from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from repro.results.files import file_time
from repro.sweep.registry import FOLDER, FORGOTTEN_SECONDS, Registration, StopPoller, register, registered
from repro.sweep.slurm.backend import SlurmBackend


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    folder.mkdir()
    return folder


def begin(results: Path, *, detached: bool = False) -> Registration:
    return register(results, table="demo", executor="ray", command="biasrepro sweep demo", detached=detached)


def test_a_sweep_is_registered_until_its_end(results: Path) -> None:
    with begin(results).kept() as sweep:
        assert [one.id for one in registered(results)] == [sweep.id]
        assert sweep.lives(file_time(results))
    assert registered(results) == []


def test_a_request_reaches_the_sweep_that_it_was_meant_for_and_no_later_one(results: Path) -> None:
    first = begin(results)
    first.ask_to_stop()
    os.utime(first.path, (time.time() + 9_999, time.time() + 9_999))  # a clock that is ahead
    second = begin(results)
    assert StopPoller(first).count() == 1
    assert StopPoller(second).count() == 0


def test_a_watch_looks_now_and_then(results: Path) -> None:
    now = 0.0
    sweep = begin(results)
    watch = StopPoller(sweep, clock=lambda: now)
    assert watch.count() == 0
    sweep.ask_to_stop()
    assert watch.count() == 0
    now = 2.0
    assert watch.count() == 1


def test_notes_are_read_again(results: Path) -> None:
    sweep = begin(results, detached=True)
    sweep.note_left({"actor": "sweep-1"})
    sweep.note_trouble("no room")
    found = Registration.read(results, sweep.id)
    assert found is not None
    assert (found.left, found.trouble, found.stop) == ({"actor": "sweep-1"}, "no room", None)


def test_a_note_that_found_no_room_takes_nothing_else_with_it(results: Path) -> None:
    sweep = begin(results)
    with sweep.path.open("ab") as file:
        file.write(b'{"left": {"slu')
    assert [one.id for one in registered(results)] == [sweep.id]
    sweep.ask_to_stop()
    assert StopPoller(sweep).count() == 1


def test_a_detached_sweep_lives_by_its_heartbeat_alone(results: Path) -> None:
    sweep = begin(results, detached=True)
    now = file_time(results)
    assert sweep.lives(now)
    assert not sweep.lives(now + 121)


def test_a_conductor_that_is_gone_is_noticed_at_once(results: Path) -> None:
    sweep = begin(results)
    fields = json.loads(sweep.path.read_text())
    sweep.path.write_text(json.dumps({**fields, "pid": 2**22 - 1, "process_start": "1"}) + "\n")
    found = Registration.read(results, sweep.id)
    assert found is not None
    assert not found.lives(file_time(results))


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[]\n", b"\xff\n", b'{"id": 1}\n', b"null\n"])
def test_a_file_that_is_none_of_ours_is_passed_over(results: Path, content: bytes) -> None:
    sweep = begin(results)
    (results / FOLDER / "0123456789ab.jsonl").write_bytes(content)
    assert [one.id for one in registered(results)] == [sweep.id]


def test_a_sweep_takes_the_place_of_one_of_its_table_that_was_killed_and_left_nothing(results: Path) -> None:
    killed = [begin(results), begin(results)]
    for one in killed:
        one.path.write_text(one.path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {2**22 - 1}'))
    killed[1].note_left({"slurm": "12"})  # whose tasks would find that there is no such sweep
    new = begin(results)
    assert {one.id for one in registered(results)} == {killed[1].id, new.id}


def test_a_sweep_long_without_a_heartbeat_is_removed(results: Path) -> None:
    old = begin(results, detached=True)
    long_ago = time.time() - FORGOTTEN_SECONDS - 60
    os.utime(old.path, (long_ago, long_ago))
    new = begin(results)
    assert [one.id for one in registered(results)] == [new.id]


@pytest.mark.parametrize("detached", [True, False])
@pytest.mark.parametrize(("says", "is_own", "is_kept"), [(False, True, True), (True, False, True), (True, True, False)])
def test_what_waits_in_a_queue_is_kept_however_old(
    results: Path, monkeypatch: pytest.MonkeyPatch, detached: bool, says: bool, is_own: bool, is_kept: bool
) -> None:
    old = register(results, table="table2", executor="slurm", command="biasrepro sweep table2", detached=detached)
    old.path.write_text(old.path.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {2**22 - 1}'))
    old.note_left({"slurm": "12"})
    long_ago = time.time() - FORGOTTEN_SECONDS - 60
    os.utime(old.path, (long_ago, long_ago))
    monkeypatch.setattr(SlurmBackend, "is_over", lambda left: says and left == {"slurm": "12"})
    monkeypatch.setattr("os.geteuid", lambda: old.path.stat().st_uid + (not is_own))
    new = begin(results)
    assert {one.id for one in registered(results)} == ({old.id, new.id} if is_kept else {new.id})


@pytest.mark.parametrize("key", ["table", "executor", "command", "host", "since"])
def test_a_registration_with_control_characters_is_none_of_ours(results: Path, key: str) -> None:
    sweep = begin(results)
    fields = json.loads(sweep.path.read_text())
    sweep.path.write_text(json.dumps({**fields, key: f"{fields[key]}\x1b[31m"}) + "\n")
    assert registered(results) == []


@pytest.mark.timeout(20)
def test_a_pipe_or_a_link_in_a_sweep_s_place_is_not_waited_for_or_written_to(results: Path, tmp_path: Path) -> None:
    sweep = begin(results)
    os.mkfifo(results / FOLDER / "0123456789ab.jsonl")
    assert [one.id for one in registered(results)] == [sweep.id]
    sweep.path.rename(tmp_path / "victim")
    before = (tmp_path / "victim").read_bytes()
    sweep.path.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        sweep.ask_to_stop()
    assert (tmp_path / "victim").read_bytes() == before
