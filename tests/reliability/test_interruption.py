"""Asked to stop, a run ends its step, commits, and says how to go on; asked twice it leaves at once, without damage."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from killing import CELLS, EXPERIMENT, Zygote, place_of, record_of, without_times, zygote

from repro.results import RunFolder
from repro.results.checkpoint_file import check_checkpoint
from repro.results.ownership import owner_of

CELL = CELLS[0]
Train = Callable[..., tuple[str, ...]]
STUCK = """
import hashlib, sys
from repro.interruption import StopRequests, leave_at_once
with StopRequests(on_second=leave_at_once):
    print("stuck", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # as a GPU that hangs: no Python runs in this thread
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("commands")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    with zygote(folder) as running:
        yield running


@pytest.fixture
def train(commands: Zygote, tmp_path: Path) -> Train:
    def arguments(*more: str, results: Path = tmp_path) -> tuple[str, ...]:
        experiment = commands.log.parent / "tiny.yaml"
        shared = ("--keep-weights", "--device", "cpu", "--threads", "1", "--results", str(results))
        return ("train", f"{experiment}{CELL}", *shared, *more)

    return arguments


@pytest.fixture(scope="module")
def whole(commands: Zygote, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The record of the run that nobody interrupted."""
    results = tmp_path_factory.mktemp("whole")
    experiment = commands.log.parent / "tiny.yaml"
    shared = ("--keep-weights", "--device", "cpu", "--threads", "1", "--results", str(results))
    assert commands.run("train", f"{experiment}{CELL}", *shared) == 0
    return without_times(record_of(results, CELL))


def begin(commands: Zygote, arguments: tuple[str, ...], results: Path) -> int:
    """Start a run that commits at epochs' ends alone, and wait until it trains."""
    commands.log.unlink(missing_ok=True)
    pid = commands.begin(*arguments, checkpoint_seconds=180.0)
    folder = RunFolder(place_of(results, CELL))
    wait_until(folder.checkpoint.exists, commands)
    return pid


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGUSR2, 143), (signal.SIGHUP, 143)],
)
def test_a_run_that_is_asked_to_stop_commits_its_step_and_goes_on_from_there(
    number: int, code: int, commands: Zygote, train: Train, whole: bytes, tmp_path: Path
) -> None:
    for attempt in range(5):  # a run may be over before the signal comes: then there was nothing to stop
        results = tmp_path / str(attempt)
        folder = RunFolder(place_of(results, CELL))
        pid = begin(commands, train(results=results), results)
        before = check_checkpoint(folder.checkpoint)
        os.kill(pid, number)
        if (status := commands.status()) or not folder.record.exists():
            break
    assert status == code
    said = commands.log.read_text()
    stopped_at = check_checkpoint(folder.checkpoint)
    assert (stopped_at.epoch, stopped_at.step) >= (before.epoch, before.step)
    assert f"checkpoint saved at epoch {stopped_at.epoch}, step {stopped_at.step}" in said
    [told] = [line for line in said.splitlines() if line.startswith("resume with")]
    assert shlex.split(told.removeprefix("resume with"))[:2] == ["biasrepro", "train"]
    assert owner_of(folder) is None
    assert commands.run(*train(results=results)) == 0
    assert without_times(record_of(results, CELL)) == whole


def wait_until(condition: Callable[[], object], commands: Zygote) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, commands.log.read_text()
        time.sleep(0.01)


def is_delivered(pid: int, number: int) -> bool:
    """Whether the process has no signal of this number waiting: a second one would be lost on it."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return not int(fields["ShdPnd"], 16) & 1 << (number - 1)


@pytest.mark.slow
@pytest.mark.parametrize("call", [33, 40, 46])
def test_asked_twice_it_leaves_at_once_and_nothing_is_damaged(
    call: int, commands: Zygote, train: Train, whole: bytes, tmp_path: Path
) -> None:
    folder = RunFolder(place_of(tmp_path, CELL))
    commands.log.unlink(missing_ok=True)
    pid = commands.begin(*train(), checkpoint_seconds=0.0, stall_at=call)  # in a commit, on a disk that does not answer
    wait_until(lambda: commands.log.exists() and "stalled" in commands.log.read_text(), commands)
    os.kill(pid, signal.SIGINT)
    wait_until(lambda: is_delivered(pid, signal.SIGINT), commands)
    assert owner_of(folder) is not None  # asked once, it waits for the disk
    os.kill(pid, signal.SIGINT)
    assert commands.status() == 130
    assert "resume with" not in commands.log.read_text()  # which it says once it has committed
    check_checkpoint(folder.checkpoint)
    assert commands.run(*train()) == 0
    assert without_times(record_of(tmp_path, CELL)) == whole


@pytest.mark.slow
def test_a_worker_that_its_scheduler_and_its_sweep_both_ask_still_commits(
    commands: Zygote, train: Train, whole: bytes, tmp_path: Path
) -> None:
    folder = RunFolder(place_of(tmp_path, CELL))
    worker = ("--progress", "json", "--stop-at-eof")
    pid = begin(commands, train(*worker), tmp_path)
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
        os.kill(pid, number)
    assert commands.status() == 143
    assert '"phase": "interrupted"' in commands.log.read_text()
    assert owner_of(folder) is None
    assert commands.run(*train()) == 0
    assert without_times(record_of(tmp_path, CELL)) == whole


def test_the_second_request_is_heard_while_no_python_runs(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize(("number", "requests"), [(signal.SIGTERM, 1), (signal.SIGUSR1, 1), (signal.SIGINT, 2)])
def test_a_program_that_repeats_its_signal_asks_once_and_a_person_twice(
    number: int, requests: int, watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``timeout`` sends its signal to the process and then to its group."""
    from repro import interruption

    monkeypatch.setattr(interruption, "ONE_REQUEST_SECONDS", 5.0)
    left = threading.Event()
    with interruption.StopRequests(on_second=(lambda code: left.set()) if watched else None) as stop:
        for _ in range(2):
            os.kill(os.getpid(), number)
        assert stop.count == requests
        if watched:
            assert left.wait(5.0 if requests == 2 else 0.2) == (requests == 2)
        if requests == 1:
            monkeypatch.setattr(interruption, "ONE_REQUEST_SECONDS", 0.0)  # a second later
            os.kill(os.getpid(), number)
            assert stop.count == 2
            assert not watched or left.wait(5.0)


def test_what_was_started_with_nohup_does_not_mind_a_closed_terminal() -> None:
    from repro.interruption import StopRequests

    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked()
            for count, number in enumerate((signal.SIGUSR1, signal.SIGUSR2), start=1):
                assert signal.getsignal(number) is not signal.SIG_DFL  # else it would end these tests
                os.kill(os.getpid(), number)
                assert (stop.count, stop.exit_code) == (count, 143)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
