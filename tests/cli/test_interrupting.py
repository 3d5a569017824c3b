"""Real signals to a real sweep: what runs is committed, nothing is left running, and the way on is told."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

DRIVER = Path(__file__).with_name("sweep_with_fakes.py")
PATIENCE_SECONDS = 30.0
SEED_0 = [f"demo/shufflenetv2/{column}/seed-0" for column in ("ce", "inverse_bias", "mean_bias", "bias")]

Behave = Callable[[dict[str, str]], None]
Started = Callable[[], list[dict[str, Any]]]
Sweep = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def sweep(results: Path) -> Iterator[Sweep]:
    """Starts a sweep of the demo as a process of its own, in a process group of its own as a shell does."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, str(DRIVER), "sweep", "demo", "--results", str(results), *arguments]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        processes.append(subprocess.Popen(command, text=True, start_new_session=True, **streams))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until_ready(results: Path, *runs: str) -> None:
    """Wait until signals find the workers of these runs ready."""
    wait_until(lambda: all((results / run / "ready").exists() for run in runs))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_sweep_commits_and_says_how_to_go_on(
    sweep: Sweep, results: Path, behave: Behave, started: Started, number: int, code: int
) -> None:
    behave(dict.fromkeys(SEED_0, "wait"))
    process = sweep("--seeds", "1")
    wait_until_ready(results, *SEED_0[:2])
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == code
    assert all(is_gone(note["pid"]) for note in started())
    assert len(started()) == 2, "a run was begun after the interruption"
    assert [(results / run / "checkpoint.pt").exists() for run in SEED_0] == [True, True, False, False]
    assert not list(results.rglob("failure.json"))
    assert "stop   interrupted: waiting for 2 running runs to save a checkpoint" in out
    assert "2 interrupted, 2 not started" in out
    command = re.search("^resume with  (.*)$", err, re.MULTILINE)
    assert command is not None
    assert shlex.split(command[1]) == ["biasrepro", "sweep", "demo", "--results", str(results), "--seeds", "1"]
    behave({})
    assert sweep("--seeds", "1").wait(PATIENCE_SECONDS) == 0
    assert len(list(results.rglob("run.json"))) == 4


def test_a_second_interruption_leaves_at_once(sweep: Sweep, results: Path, behave: Behave, started: Started) -> None:
    behave(dict.fromkeys(SEED_0, "stubborn"))
    process = sweep("--seeds", "1")
    wait_until_ready(results, *SEED_0[:2])
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None, "the first interruption waits for the workers"
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 130
    assert all(is_gone(note["pid"]) for note in started())


def test_a_killed_sweep_leaves_no_orphans(sweep: Sweep, results: Path, behave: Behave, started: Started) -> None:
    behave(dict.fromkeys(SEED_0, "wait"))
    process = sweep("--seeds", "1")
    wait_until_ready(results, *SEED_0[:2])
    process.kill()
    process.communicate()
    wait_until(lambda: all(is_gone(note["pid"]) for note in started()))
    assert (results / SEED_0[0] / "checkpoint.pt").exists()


def test_output_that_nobody_reads_any_more_ends_the_sweep_in_good_order(
    sweep: Sweep, results: Path, behave: Behave, started: Started
) -> None:
    behave({SEED_0[0]: "wait", SEED_0[1]: "slow"})
    process = sweep("--seeds", "1")
    wait_until_ready(results, SEED_0[0])
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE_SECONDS) == 141
    assert (results / SEED_0[0] / "checkpoint.pt").exists()
    assert all(is_gone(note["pid"]) for note in started())


def test_on_a_terminal_the_running_runs_are_shown_live(sweep: Sweep, results: Path, behave: Behave) -> None:
    pty = pytest.importorskip("pty")
    behave({SEED_0[0]: "slow", SEED_0[1]: "fail"})
    ours, theirs = pty.openpty()
    variables = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    variables |= {"TERM": "xterm-256color", "COLUMNS": "140", "LINES": "30"}
    process = sweep("--seeds", "1", stdout=theirs, stderr=theirs, env=variables)
    os.close(theirs)
    written = b""
    try:
        while chunk := os.read(ours, 4096):
            written += chunk
    except OSError:  # Linux says so when the other side is closed
        pass
    os.close(ours)
    assert process.wait(PATIENCE_SECONDS) == 1
    shown = written.decode()
    assert "\x1b[?25l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is hidden"
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert "━" in plain, "no bar"
    assert "of 4 done" in plain
    assert "the pixels ran out" in plain
    assert "4 runs: 3 done, 1 failed" in plain
    assert (results / SEED_0[0] / "run.json").exists()
