"""One owner a run: whoever is second is told by whom, whoever is dead is succeeded, whoever slept finds out."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from commits import a_record, commit, folder_in, newest
from disk import Disk, installed

from repro.errors import RunFailure, UserError
from repro.results import find_record, write_record, write_weights
from repro.results import ownership as ownership_module
from repro.results.disk_space import failed_writes_explained
from repro.results.durable import link_new
from repro.results.inspection import inspect
from repro.results.ownership import SILENT_SECONDS, OwnedElsewhere, own, owner_of
from repro.results.process import is_alive, process_start, this_place

Prove = Callable[[str], None]
HOLDER = """
import sys, time
from pathlib import Path
from repro.results import RunFolder
from repro.results.ownership import own
with own(RunFolder(Path(sys.argv[1]))):
    print("owned", flush=True)
    time.sleep(600)
"""
TAKER = """
import sys
from pathlib import Path
from repro.results import RunFolder
from repro.results.ownership import OwnedElsewhere, own
won = 0
for line in sys.stdin:
    try:
        with own(RunFolder(Path(line.strip()))):
            print("won", flush=True)
            sys.stdin.readline()
    except OwnedElsewhere:
        print("lost", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(params=["hard links", "no hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no hard links":

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)
    return str(request.param)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns the run."""
    process = start(HOLDER, str(folder_in(tmp_path).path))
    assert process.stdout is not None
    assert process.stdout.readline() == "owned\n"
    yield process
    process.kill()
    process.communicate()


def start(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


@contextmanager
def on_another_machine() -> Iterator[None]:
    """What is owned here is owned by a machine that this one knows nothing of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership_module, "this_place", lambda: "another boot pid:[1]")
        patch.setattr("socket.gethostname", lambda: "node7")
        yield


def age(results: Path, seconds: float) -> None:
    """The owner sent no heartbeat for so long."""
    [path] = folder_in(results).path.glob("owner-*.json")
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_the_second_is_told_who_is_first(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(OwnedElsewhere) as caught, own(folder_in(tmp_path)):
        pass
    owner = owner_of(folder_in(tmp_path))
    assert owner is not None
    assert caught.value.exit_code == 75
    said = str(caught.value)
    assert f"in training by process {holder.pid} on {owner.host}, since {owner.since}" in said
    assert str(folder_in(tmp_path).path) in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_dead_owner_is_succeeded_at_once_even_as_a_zombie(
    tmp_path: Path, holder: subprocess.Popen[str], number: int
) -> None:
    holder.send_signal(number)
    while is_alive(holder.pid, process_start(holder.pid)):
        time.sleep(0.01)
    assert Path(f"/proc/{holder.pid}").exists()  # nobody waited for it yet
    with own(folder_in(tmp_path)):
        assert owner_of(folder_in(tmp_path)).pid == os.getpid()  # type: ignore[union-attr]


def test_a_stopped_owner_on_this_machine_is_never_succeeded(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGSTOP)
    age(tmp_path, 100 * SILENT_SECONDS)
    with pytest.raises(OwnedElsewhere) as caught, own(folder_in(tmp_path)):
        pass
    assert f"kill -CONT {holder.pid} continues it" in str(caught.value)
    assert "takes the run over" not in str(caught.value)


def test_a_process_that_got_the_number_of_a_dead_owner_is_not_that_owner(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    with ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(ownership_module, "process_start", lambda pid: "1")
        stack.enter_context(own(folder))
        with own(folder) as successor:
            successor.check()


@pytest.mark.parametrize(
    ("silent", "free"),
    [(0.0, False), (SILENT_SECONDS - 5, False), (SILENT_SECONDS + 5, True), (-600.0, False), (-1e7, True)],
)
def test_a_silent_owner_on_another_machine_is_succeeded_after_the_stated_time(
    tmp_path: Path, silent: float, free: bool
) -> None:
    folder = folder_in(tmp_path)
    with on_another_machine():
        theirs = own(folder)
        ownership = theirs.__enter__()
    age(tmp_path, silent)
    if free:
        with own(folder), pytest.raises(OwnedElsewhere, match="taken over"):
            ownership.check()
    else:
        with pytest.raises(OwnedElsewhere, match=r"on node7.*\n.*heartbeat was .+ ago.*takes the run over 2 min after"):
            own(folder).__enter__()
        ownership.check()
    theirs.__exit__(None, None, None)


def test_what_the_clock_of_this_machine_says_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with on_another_machine():
        theirs = own(folder_in(tmp_path))
        theirs.__enter__()
    for wrong in (-1e9, 1e9):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: 1.7e9 + wrong)
        with pytest.raises(OwnedElsewhere):
            own(folder_in(tmp_path)).__enter__()
        assert owner_of(folder_in(tmp_path)) is not None
        age(tmp_path, SILENT_SECONDS + 5)
        assert owner_of(folder_in(tmp_path)) is None
        age(tmp_path, -SILENT_SECONDS - 5)
    theirs.__exit__(None, None, None)
    assert [path.name for path in folder_in(tmp_path).path.iterdir()] == ["owner-1.json"]


def test_a_heartbeat_is_dated_after_its_file_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = ownership_module.read_file

    def opened(path: Path) -> bytes:
        os.utime(path)  # as an NFS client does with what it remembers of a file
        return read(path)

    with own(folder_in(tmp_path)):
        age(tmp_path, 70.0)
        monkeypatch.setattr(ownership_module, "read_file", opened)
        owner = owner_of(folder_in(tmp_path))
        assert owner is not None
        assert owner.silent_seconds < 60


def test_nobody_is_seen_to_own_a_run_whose_folder_cannot_be_read_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_in(tmp_path)
    with own(folder):

        def stale(path: Path) -> Iterator[Path]:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))

        monkeypatch.setattr(Path, "iterdir", stale)
        assert owner_of(folder) is None
        with pytest.raises(UserError, match="Stale file handle"):  # and whoever wants it does not take it for free
            own(folder).__enter__()
        monkeypatch.undo()


def test_an_owner_sends_heartbeats_as_long_as_it_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership_module, "HEARTBEAT_SECONDS", 0.01)
    with own(folder_in(tmp_path)) as ownership:
        age(tmp_path, 1000.0)
        deadline = time.monotonic() + 10
        while time.time() - ownership.path.stat().st_mtime > 100:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_run_that_is_given_back_is_free_and_says_who_had_it(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    with own(folder):
        pass
    assert owner_of(folder) is None
    [note] = folder.path.glob("owner-*.json")
    assert json.loads(note.read_bytes())["released"] is True
    with own(folder) as ownership:
        write_record(folder, a_record(), ownership.write)
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"token": 1}',
        b"[" * 100_000,
        b'{"token": "x", "host": "\\u001b[31m", "pid": 99999999999999999999, "place": 3, "process_start": {}, '
        b'"since": "", "released": 1}',
        b'{"token": "x", "host": "h", "pid": -1, "place": null, "process_start": null, "since": "", "released": false}',
    ],
)
def test_an_owners_file_that_somebody_edited_counts_for_its_age_alone(tmp_path: Path, content: bytes) -> None:
    folder = folder_in(tmp_path)
    folder.path.mkdir(parents=True)
    (folder.path / "owner-3.json").write_bytes(content)
    (folder.path / "owner-x.json").write_bytes(content)
    (folder.path / "owner-99999999999999999999.json").write_bytes(content)
    with pytest.raises(OwnedElsewhere) as caught:
        own(folder).__enter__()
    assert str(caught.value).isprintable() or "\x1b" not in str(caught.value)
    then = time.time() - SILENT_SECONDS - 5
    os.utime(folder.path / "owner-3.json", (then, then))
    with own(folder) as ownership:
        assert ownership.path.name == "owner-4.json"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["owner-01.json", "owner-0.json", "owner-1.json.json", "owner-\u0661.json"])
def test_a_file_that_no_owner_made_is_no_owner(tmp_path: Path, name: str) -> None:
    folder = folder_in(tmp_path)
    folder.path.mkdir(parents=True)
    (folder.path / name).touch()
    assert owner_of(folder) is None
    assert [finding.path.name for finding in inspect(tmp_path).of_kind("unrecognised")] == [name]
    with own(folder) as ownership:
        assert ownership.path.name == "owner-1.json"
        ownership.check()
        write_record(folder, a_record(), ownership.write)
    assert {path.name for path in folder.path.iterdir()} == {name, "run.json"}


@pytest.mark.timeout(20)
def test_a_link_to_nowhere_in_the_owners_place_counts_for_its_age_alone(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.path.mkdir(parents=True)
    link = folder.path / "owner-1.json"
    link.symlink_to("nowhere")
    with pytest.raises(OwnedElsewhere, match="an unknown process"):
        own(folder).__enter__()
    then = time.time() - SILENT_SECONDS - 5
    os.utime(link, (then, then), follow_symlinks=False)
    with own(folder) as ownership:
        assert ownership.path.name == "owner-2.json"
        assert not link.is_symlink()


@pytest.mark.timeout(20)
def test_nobody_follows_the_last_owner_that_has_a_name(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    folder.path.mkdir(parents=True)
    last = folder.path / "owner-999999999.json"
    last.touch()
    then = time.time() - SILENT_SECONDS - 5
    os.utime(last, (then, then))
    for _ in range(2):
        with pytest.raises(UserError, match=r"owner-999999999\.json: no owner can follow.*\n.*Remove the file"):
            own(folder).__enter__()
    assert [path.name for path in folder.path.iterdir()] == [last.name]


@pytest.mark.timeout(20)
def test_a_folder_that_is_removed_meanwhile_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, create = folder_in(tmp_path), ownership_module.create_file

    def too_late(path: Path, data: bytes) -> None:
        monkeypatch.setattr(ownership_module, "create_file", create)
        folder.path.rmdir()
        create(path, data)

    monkeypatch.setattr(ownership_module, "create_file", too_late)
    with own(folder) as ownership:
        ownership.check()


def test_an_owner_notices_that_its_file_names_another(tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    with own(folder) as ownership:
        ownership.path.unlink()  # by hand, as somebody does who is sure that nobody trains here
        with own(folder) as other:
            assert other.path == ownership.path
            with pytest.raises(OwnedElsewhere):
                ownership.check()
            with pytest.raises(OwnedElsewhere):
                commit(folder, 1, ownership.write)
            assert newest(folder) == 0


def test_a_full_disk_is_said_even_if_the_owner_s_file_cannot_be_read_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> Callable[..., bytes]:
        def call(*_: object, **__: object) -> bytes:
            raise OSError(number, os.strerror(number))

        return call

    with own(folder_in(tmp_path)) as ownership, monkeypatch.context() as patch:
        patch.setattr(ownership_module, "write_durably", refuse(errno.ENOSPC))
        patch.setattr(ownership_module, "read_file", refuse(errno.EMFILE))
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            ownership.write(tmp_path / "file", b"")


@pytest.mark.parametrize("name", ["ENFILE", "EMFILE", "EACCES", "EIO", "ENOENT"])
def test_an_owners_own_file_that_cannot_be_read_is_no_takeover(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, number = folder_in(tmp_path), getattr(errno, name)

    def refuse(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    with own(folder) as ownership:
        commit(folder, 1, ownership.write)
        with monkeypatch.context() as patch:
            patch.setattr(ownership_module, "read_file", refuse)
            if name == "ENOENT":  # as where a successor removed it
                with pytest.raises(OwnedElsewhere):
                    commit(folder, 2, ownership.write)
                return
            with (
                pytest.raises(RunFailure, match=f"the checkpoint could not be written: {os.strerror(number)}"),
                failed_writes_explained(folder, "the checkpoint"),
            ):
                commit(folder, 2, ownership.write)
        assert newest(folder) == 1
        commit(folder, 2, ownership.write)
        assert newest(folder) == 2


def test_who_was_slow_to_take_a_term_that_is_free_again_withdraws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, real = folder_in(tmp_path), link_new
    with ExitStack() as others:

        def late(source: Path, target: Path) -> bool:
            monkeypatch.setattr(ownership_module, "link_new", real)
            with own(folder):
                pass
            others.enter_context(own(folder))  # the next term; the one before, which this one wants, is gone
            return real(source, target)

        monkeypatch.setattr(ownership_module, "link_new", late)
        with pytest.raises(OwnedElsewhere), own(folder):
            pass
        assert [path.name for path in folder.path.glob("owner-*.json")] == ["owner-2.json"]


def test_a_folder_in_the_owners_place_is_no_traceback(tmp_path: Path) -> None:
    (folder_in(tmp_path).path / "owner-1.json").mkdir(parents=True)
    with pytest.raises(OwnedElsewhere, match="an unknown process"):
        own(folder_in(tmp_path)).__enter__()


Moment = Callable[[Path], None]


def a_dead_owner(place: Path) -> None:
    with on_another_machine(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership_module.Ownership, "release", lambda self: self._over.set())
        with own(folder_in(place)) as ownership:
            commit(folder_in(place), 1, ownership.write)
    age(place, 10 * SILENT_SECONDS)


def a_released_run(place: Path) -> None:
    with own(folder_in(place)) as ownership:
        commit(folder_in(place), 1, ownership.write)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("before", [lambda place: None, a_released_run, a_dead_owner], ids=["new", "released", "dead"])
@pytest.mark.parametrize("other", ["stays", "leaves", "finishes"])
def test_of_two_takers_one_wins_however_their_calls_interleave(
    before: Moment, other: str, tmp_path: Path, links: str, proved: Prove
) -> None:
    at = interleavings = 0
    while True:
        at += 1
        place = tmp_path / str(at)
        place.mkdir()
        before(place)
        with ExitStack() as owners:
            others: list[Any] = []

            def another_takes_it(place: Path = place, owners: ExitStack = owners, others: list[Any] = others) -> None:
                with suppress(OwnedElsewhere):
                    if other == "stays":
                        others.append(owners.enter_context(own(folder_in(place))))
                        return
                    with own(folder_in(place)) as ownership:
                        if other == "finishes":
                            write_record(folder_in(place), a_record(), ownership.write)

            disk = Disk(place, at, meanwhile=another_takes_it)
            mine = None
            with installed(disk), suppress(OwnedElsewhere):
                mine = owners.enter_context(own(folder_in(place)))
            if not disk.struck:
                break
            interleavings += 1
            holding = [one for one in (mine, *others) if one is not None and holds(one)]
            if links == "hard links" or mine is not None or others:
                assert len(holding) == 1, (disk.struck, disk.at)
            # Where there are no hard links, each may find the other's file without a name yet, and leave.
            assert len(holding) <= 1
    proved(f"two takers of a run, {links}: {interleavings} interleavings, one owner at most in each")
    assert interleavings > 10


def holds(ownership: Any) -> bool:
    try:
        ownership.check()
    except OwnedElsewhere:
        return False
    return True


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("what", ["checkpoint", "record", "weights"])
def test_an_owner_that_slept_through_its_succession_changes_nothing(
    what: str, tmp_path: Path, links: str, proved: Prove
) -> None:
    """It sleeps before every call of a commit; meanwhile another takes the run and comes further."""
    at = slept = 0
    while True:
        at += 1
        place = tmp_path / str(at)
        folder = folder_in(place)
        place.mkdir()
        with ExitStack() as owners:
            with on_another_machine():
                sleeper = owners.enter_context(own(folder))
            commit(folder, 1, sleeper.write)
            commit(folder, 2, sleeper.write)
            found: list[int] = []

            def succeed(
                place: Path = place, owners: ExitStack = owners, found: list[int] = found, folder: Any = folder
            ) -> None:
                age(place, 10 * SILENT_SECONDS)
                successor = owners.enter_context(own(folder))
                if find_record(folder) is not None:
                    found.append(99)
                    return
                found.append(newest(folder))
                commit(folder, 50, successor.write)
                commit(folder, 51, successor.write)
                write_weights(folder, b"the successor's", successor.write)

            disk = Disk(place, at, meanwhile=succeed)
            with installed(disk):
                try:
                    if what == "checkpoint":
                        commit(folder, 3, sleeper.write)
                    elif what == "weights":
                        write_weights(folder, b"the sleeper's", sleeper.write)
                    else:
                        write_record(folder, a_record(), sleeper.write)
                    acknowledged = True
                except OwnedElsewhere:
                    acknowledged = False
            if not disk.struck:
                break
            slept += 1
            where = (disk.struck, disk.at)
            if what == "checkpoint":
                # It counts if the successor saw it, and else it did not happen.
                assert found == ([3] if acknowledged else [2]), where
                assert newest(folder) == 51, where
            elif what == "weights":
                assert folder.weights.read_bytes() == b"the successor's", where
                assert newest(folder) == 51, where
            elif found == [99]:
                assert acknowledged, where
                assert find_record(folder) is not None
            else:
                assert not acknowledged, where
                assert find_record(folder) is None
                assert newest(folder) == 51, where
    proved(f"an owner asleep during the commit of a {what}, {links}: {slept} moments, 0 mixed")
    assert slept > 8


@pytest.mark.slow
def test_of_many_processes_that_take_a_dead_owners_run_one_wins(tmp_path: Path, proved: Prove) -> None:
    takers = [start(TAKER) for _ in range(6)]
    rounds = 60
    for number in range(rounds):
        place = tmp_path / str(number)
        place.mkdir()
        (a_dead_owner, a_released_run, lambda place: None)[number % 3](place)
        for taker in takers:
            assert taker.stdin is not None
            taker.stdin.write(f"{folder_in(place).path}\n")
        for taker in takers:
            assert taker.stdin is not None
            taker.stdin.flush()
        answers = [taker.stdout.readline().strip() for taker in takers]  # type: ignore[union-attr]
        assert sorted(answers) == ["lost"] * 5 + ["won"]
        for taker in takers:
            assert taker.stdin is not None
            taker.stdin.write("\n")
            taker.stdin.flush()
    for taker in takers:
        taker.communicate()
        assert taker.returncode == 0
    proved(f"6 processes after one run: {rounds} races, one winner in each")


def test_numbers_of_processes_mean_something_only_where_they_were_given() -> None:
    place = this_place()
    assert place is not None
    assert "pid:[" in place
    assert is_alive(os.getpid(), process_start(os.getpid())) is True
    assert is_alive(os.getpid(), "1") is False
    assert is_alive(2**22 + 1, "1") is False
    assert is_alive(os.getpid(), None) is None
    assert is_alive(0, "1") is None
    assert is_alive(-1, "1") is None


def test_a_copy_of_a_run_in_training_belongs_to_nobody_once_its_heartbeat_is_old(tmp_path: Path) -> None:
    original, copy = tmp_path / "results", tmp_path / "copy"
    with own(folder_in(original)) as ownership:
        shutil.copytree(original, copy)
        assert (owner := owner_of(folder_in(copy))) is not None
        assert "kill" not in owner.silence
        age(copy, SILENT_SECONDS + 5)
        age(original, SILENT_SECONDS + 5)
        assert owner_of(folder_in(copy)) is None
        with own(folder_in(copy)):
            pass
        assert owner_of(folder_in(original)) is not None
        ownership.check()
