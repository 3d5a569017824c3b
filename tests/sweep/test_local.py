from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.schema import Run
from repro.results import RunFolder, find_record, read_failure
from repro.results.ownership import Owner
from repro.results.process import this_place
from repro.sweep.devices.slots import VISIBLE, Slot, cpu_slots, gpu_slots
from repro.sweep.driver import run_sweep
from repro.sweep.executor import Ended, Event, Job, Notice, Reported, Started
from repro.sweep.local.executor import NOTED_CHECKS, LocalExecutor

Started_ = Callable[[], list[dict[str, Any]]]
PATIENCE_SECONDS = 30.0

TWO_SLOTS = cpu_slots(cores=2, jobs=2, threads=1)


@pytest.fixture
def jobs(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> list[Job]:
    return [make_job(run) for run in demo_runs]


@pytest.fixture
def executor(worker_command: tuple[str, ...]) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(TWO_SLOTS, worker_command)
    yield executor
    executor.close()


def run_to_the_end(executor: LocalExecutor, *jobs: Job) -> list[Event]:
    """All events until each job has ended."""
    for job in jobs:
        executor.submit(job)
    events: list[Event] = []
    wait_until(lambda: events.extend(executor.poll(0.1)) or len(endings(events)) == len(jobs))
    return events


def endings(events: list[Event]) -> list[Ended]:
    return [event for event in events if isinstance(event, Ended)]


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # A zombie that nobody reaps (there may be no init in a container) is gone all the same.
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


FAILS_ON_ONE_GPU = f"""
import os, sys, time
from repro.progress import Progress
if os.environ["{VISIBLE}"] == "broken":
    print(Progress("a run", "failed", message="no CUDA device", trouble="device_lost").to_line(), flush=True)
    sys.exit(1)
time.sleep(0.2)
"""


def test_a_gpu_that_every_run_loses_does_not_take_all_that_wait(jobs: list[Job]) -> None:
    def run_all(*gpus: str) -> list[Event]:
        slots = gpu_slots(gpus, wanted=None, jobs_per_gpu=1, cores=2, threads=1)
        executor = LocalExecutor(slots, (sys.executable, "-c", FAILS_ON_ONE_GPU))
        try:
            return run_to_the_end(executor, *jobs[:6])
        finally:
            executor.close()

    events = run_all("well", "broken")
    assert sum(ended.returncode for ended in endings(events)) == 2
    [said] = [event.text for event in events if isinstance(event, Notice)]
    assert said == "cuda:1: 2 runs lost it one after the other; no run starts there while another works"
    # Without another GPU, each run says what it met.
    events = run_all("broken")
    assert [ended.returncode for ended in endings(events)] == [1] * 6
    assert not any(isinstance(event, Notice) for event in events)


def test_a_job_starts_reports_and_ends_in_this_order(executor: LocalExecutor, jobs: list[Job], results: Path) -> None:
    events = run_to_the_end(executor, jobs[0])
    assert isinstance(events[0], Started)
    assert events[0].place == "cpu"
    assert [event.progress.phase for event in events if isinstance(event, Reported)] == [
        "starting",
        *["epoch_done"] * jobs[0].run.cell.recipe.epochs,
        "completed",
    ]
    (ended,) = endings(events)
    assert ended.returncode == 0
    assert ended.last is not None
    assert ended.last.phase == "completed"
    assert find_record(RunFolder.of(results, jobs[0].run)) is not None


def test_a_worker_that_is_suspended_is_told_of_once_with_the_way_out(
    executor: LocalExecutor, jobs: list[Job], behave: Callable[[dict[str, str]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.sweep.local.watchdog.CHECK_SECONDS", 0.0)
    behave({jobs[0].id: "wait"})
    executor.submit(jobs[0])
    events: list[Event] = []
    wait_until(lambda: events.extend(executor.poll(0.0)) or any(isinstance(event, Reported) for event in events))
    [worker] = executor._workers
    me = Owner(token="x", host="h", pid=worker.process.pid, place=this_place(), process_start=None, since="")
    (jobs[0].folder.path / "owner-1.json").write_bytes(me.to_bytes())
    for _ in range(3 * NOTED_CHECKS):
        events += executor.poll(0.0)
    [notice] = [event for event in events if isinstance(event, Notice)]
    assert notice.text.startswith(f"{jobs[0].id}: no heartbeat of process {me.pid} for ")
    assert f"kill -CONT {me.pid} continues it" in notice.text


def test_each_job_sees_the_gpu_of_its_slot_alone(
    jobs: list[Job], worker_command: tuple[str, ...], started: Started_, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "7,GPU-abc,MIG-x")
    slots = gpu_slots(("7", "GPU-abc", "MIG-x"), wanted=[2, 1], jobs_per_gpu=1, cores=8, threads=None)
    run_sweep(jobs[:2], LocalExecutor(slots, worker_command))
    noted = {note["gpu"]: (note["device"], note["threads"], note["omp"]) for note in started()}
    assert noted == {"MIG-x": ("cuda", "4", "4"), "GPU-abc": ("cuda", "4", "4")}


def test_a_slot_that_is_free_again_takes_the_next_job(
    jobs: list[Job], worker_command: tuple[str, ...], started: Started_
) -> None:
    slot = Slot("cuda:0", "cuda", 1, {VISIBLE: "3"})
    sweep = run_sweep(jobs[:3], LocalExecutor([slot], worker_command))
    assert len(sweep.having("completed")) == 3
    assert [note["gpu"] for note in started()] == ["3"] * 3


def test_what_is_no_message_goes_to_the_log(
    executor: LocalExecutor, jobs: list[Job], behave: Callable[[dict[str, str]], None]
) -> None:
    behave({jobs[0].id: "noise"})
    (ended,) = endings(run_to_the_end(executor, jobs[0]))
    log = jobs[0].folder.log.read_text()
    for words in ("not a message", "nor {this}", "a warning on standard error"):
        assert words in log
        assert words in (ended.last_words or "")
    assert "--seed 0" in log.splitlines()[0]


def test_a_log_that_cannot_be_written_is_no_trouble_to_the_runs(
    executor: LocalExecutor,
    jobs: list[Job],
    behave: Callable[[dict[str, str]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class LateToSaySo(io.FileIO):
        def close(self) -> None:
            if not self.closed:
                super().close()
                raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("repro.sweep.local.worker.open_log", lambda path: LateToSaySo("/dev/full", "ab"))
    behave({jobs[0].id: "noise"})
    ended = endings(run_to_the_end(executor, *jobs[:2]))
    assert [(one.job, one.returncode, one.last_words) for one in ended if one.job is jobs[1]] == [(jobs[1], 0, "")]
    assert [one.last_words for one in ended] == ["", ""]


@pytest.mark.timeout(20)
def test_a_log_that_is_a_link_or_a_pipe_is_not_written_to(
    executor: LocalExecutor, jobs: list[Job], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    for job in jobs[:2]:
        job.folder.path.mkdir(parents=True)
    jobs[0].folder.log.symlink_to(victim)
    os.mkfifo(jobs[1].folder.log)
    ended = endings(run_to_the_end(executor, *jobs[:2]))
    assert [one.returncode for one in ended] == [1, 1]
    assert all("it is a pipe or a symbolic link" in str(one.last_words) for one in ended)
    assert victim.read_bytes() == b""


def test_what_a_start_notes_is_in_the_log(
    executor: LocalExecutor, jobs: list[Job], behave: Callable[[dict[str, str]], None]
) -> None:
    behave({jobs[0].id: "note"})
    (ended,) = endings(run_to_the_end(executor, jobs[0]))
    assert "--- read from the shared file" in jobs[0].folder.log.read_text().splitlines()
    assert ended.last_words == ""


def test_the_last_words_are_those_of_this_attempt(
    executor: LocalExecutor, jobs: list[Job], behave: Callable[[dict[str, str]], None]
) -> None:
    behave({jobs[0].id: "misuse"})
    run_to_the_end(executor, jobs[0])
    behave({jobs[0].id: "traceback"})
    (ended,) = endings(run_to_the_end(executor, jobs[0]))
    assert ended.last_words is not None
    assert ended.last_words.endswith("RuntimeError: a defect")
    assert "--pixels" not in ended.last_words
    assert "--pixels" in jobs[0].folder.log.read_text()


def test_a_job_that_is_to_be_alone_on_its_device_is_alone(executor: LocalExecutor, jobs: list[Job]) -> None:
    events = run_to_the_end(executor, jobs[0], replace(jobs[1], alone=True), jobs[2])
    running: set[str] = set()
    for event in events:
        if isinstance(event, Started):
            running.add(event.job.id)
        elif isinstance(event, Ended):
            running.remove(event.job.id)
        assert jobs[1].id not in running or len(running) == 1


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV"])
def test_a_worker_that_dies_without_a_word_is_a_failure_with_the_signal(
    jobs: list[Job],
    worker_command: tuple[str, ...],
    behave: Callable[[dict[str, str]], None],
    results: Path,
    name: str,
) -> None:
    behave({jobs[0].id: name})
    sweep = run_sweep(jobs[:2], LocalExecutor(TWO_SLOTS, worker_command))
    (failed,) = sweep.having("failed")
    assert failed.job is jobs[0]
    assert f"killed by {name}" in (failed.cause or "")
    assert len(sweep.having("completed")) == 1
    failure = read_failure(RunFolder.of(results, jobs[0].run))
    assert failure is not None
    assert name in failure.cause


def test_a_closed_output_is_not_the_end_of_a_worker(
    executor: LocalExecutor, jobs: list[Job], behave: Callable[[dict[str, str]], None]
) -> None:
    behave({jobs[0].id: "mute"})
    began = time.process_time()
    (ended,) = endings(run_to_the_end(executor, jobs[0]))
    assert ended.returncode == 0
    assert time.process_time() - began < 0.2, "it was waited for in a busy loop"


def test_a_program_that_is_not_there_is_a_failure_of_each_job(jobs: list[Job]) -> None:
    sweep = run_sweep(jobs[:2], LocalExecutor(TWO_SLOTS, ("/no/such/program",)))
    assert ["No such file" in (ended.cause or "") for ended in sweep.having("failed")] == [True, True]


def test_stop_lets_workers_commit(
    executor: LocalExecutor, jobs: list[Job], behave: Callable[[dict[str, str]], None], started: Started_
) -> None:
    behave({job.id: "wait" for job in jobs})
    for job in jobs[:3]:
        executor.submit(job)
    events: list[Event] = []
    wait_until(lambda: events.extend(executor.poll(0.1)) or sum(_is_training(event) for event in events) == 2)
    executor.stop()
    wait_until(lambda: events.extend(executor.poll(0.1)) or len(endings(events)) == 3)
    assert sorted(ended.returncode for ended in endings(events)) == [-signal.SIGTERM, 143, 143]
    assert [job.folder.checkpoint.exists() for job in jobs[:3]] == [True, True, False]
    assert len(started()) == 2


def _is_training(event: Event) -> bool:
    return isinstance(event, Reported) and event.progress.phase == "training"


def test_close_leaves_nothing_running_however_deaf_it_is(
    jobs: list[Job], worker_command: tuple[str, ...], behave: Callable[[dict[str, str]], None], started: Started_
) -> None:
    behave({job.id: "stubborn" for job in jobs})
    executor = LocalExecutor(TWO_SLOTS, worker_command)
    executor.submit(jobs[0])
    wait_until(lambda: any(_is_training(event) for event in executor.poll(0.1)))
    executor.stop()
    assert not any(isinstance(event, Ended) for event in executor.poll(0.3))
    executor.close()
    assert all(is_gone(note["pid"]) for note in started())


def test_what_a_worker_leaves_behind_is_swept_up(
    executor: LocalExecutor, jobs: list[Job], behave: Callable[[dict[str, str]], None], results: Path
) -> None:
    behave({jobs[0].id: "grandchild"})
    run_to_the_end(executor, jobs[0])
    grandchild = int((results / "grandchild.pid").read_text())
    wait_until(lambda: is_gone(grandchild))


def test_workers_commit_and_end_when_their_sweep_is_killed(
    jobs: list[Job],
    worker_command: tuple[str, ...],
    behave: Callable[[dict[str, str]], None],
    started: Started_,
    tmp_path: Path,
) -> None:
    behave({job.id: "wait" for job in jobs})
    script = tmp_path / "sweep.py"
    script.write_text(f"""
import sys
from pathlib import Path
from repro.experiment.config import find_table
from repro.results import RunFolder
from repro.sweep.driver import run_sweep
from repro.sweep.devices.slots import cpu_slots
from repro.sweep.executor import Job
from repro.sweep.local.executor import LocalExecutor
from repro.sweep.selection import selected_runs

results = Path({str(jobs[0].folder.path.parents[3])!r})
arguments = lambda run: ("train", run.cell.id, "--seed", str(run.seed), "--results", str(results))
jobs = [Job(run, RunFolder.of(results, run), arguments(run)) for run in selected_runs(find_table("demo"), (0, 1))]
run_sweep(jobs, LocalExecutor(cpu_slots(cores=2, jobs=2, threads=1), {worker_command!r}))
""")
    sweep = subprocess.Popen([sys.executable, str(script)])
    try:
        wait_until(lambda: all((job.folder.path / "ready").exists() for job in jobs[:2]))
    finally:
        sweep.kill()
        sweep.wait()
    wait_until(lambda: all(is_gone(note["pid"]) for note in started()))
    assert [job.folder.checkpoint.exists() for job in jobs[:3]] == [True, True, False]


def test_output_that_closes_as_it_is_read_leaves_its_number_to_the_next(
    jobs: list[Job], worker_command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is ever ready to be read, so that a worker's end is what has its output read, up to its close.
    monkeypatch.setattr("selectors.DefaultSelector.select", lambda _self, timeout: time.sleep(timeout) or [])
    executor = LocalExecutor(TWO_SLOTS[:1], worker_command)
    try:
        assert len(endings(run_to_the_end(executor, *jobs[:3]))) == 3
    finally:
        executor.close()


def test_a_worker_sees_no_setting_that_is_not_of_its_parent_s_choice(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTHONINSPECT", "MPLBACKEND", "OMP_DYNAMIC", "SCRATCH"):
        monkeypatch.setenv(name, "1")
    executor = LocalExecutor(
        TWO_SLOTS, (sys.executable, "-c", "import os, sys; print(sorted(os.environ), file=sys.stderr)")
    )
    run_to_the_end(executor, jobs[0])
    executor.close()
    log = jobs[0].folder.log.read_text()
    assert "'SCRATCH'" in log
    assert "'OMP_NUM_THREADS'" in log
    assert not any(name in log for name in ("PYTHONINSPECT", "MPLBACKEND", "OMP_DYNAMIC"))
