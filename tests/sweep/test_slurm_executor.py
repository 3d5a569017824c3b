"""The executor for SLURM beside a queue that the test writes; the real one is in tests/clusters."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from repro.experiment.schema import Run
from repro.progress import Progress
from repro.results.ownership import own
from repro.sweep.cluster_node import NodeSettings, RemoteResult
from repro.sweep.executor import Ended, Job, Notice
from repro.sweep.registry import register
from repro.sweep.slurm import executor as slurm_executor
from repro.sweep.slurm import queue as slurm_queue
from repro.sweep.slurm.backend import SlurmBackend, SlurmOptions
from repro.sweep.slurm.batch import Batch
from repro.sweep.slurm.executor import (
    HUNG_SECONDS,
    LAST_POLL_SECONDS,
    LEAVING_SECONDS,
    PENDING_POLL_SECONDS,
    SlurmExecutor,
)
from repro.sweep.slurm.queue import Queued, SlurmError
from repro.sweep.slurm.task import to_bytes
from repro.sweep.sweep_state import SweepState


class Cluster:
    """A queue in which every array is accepted, up to ``room`` of them, and nothing ever happens by itself."""

    def __init__(self, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.results = results
        self.now = 1000.0
        self.room = 100
        self.state = "RUNNING"
        self.queue: dict[tuple[str, int], Queued] = {}
        self.cancelled: list[str] = []
        self.notes: list[str] = []
        fake = {"queued_tasks": lambda: dict(self.queue), "largest_array": lambda: 1, "submit": self.submit}
        for name, does in {**fake, "cancel": self.cancel, "cluster_name": lambda: "alpha"}.items():
            monkeypatch.setattr(slurm_executor, name, does)
        monkeypatch.setattr(slurm_queue, "cancel", self.cancel)
        monkeypatch.setattr(slurm_executor, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))

    def submit(self, tasks: Any, options: Any, terms: Any, *, at_a_time: Any) -> tuple[Batch, str]:
        if len(self.queue) == self.room:
            raise SlurmError("too many jobs")
        folder = self.results / ".sweeps" / "slurm" / f"{len(self.queue):012x}"
        folder.mkdir(parents=True)
        number = str(len(self.queue) + 1)
        self.queue[folder.name, 0] = Queued(number, self.state, "n1")
        return Batch(folder, terms.sweep, tuple(tuple(job.id for job in task) for task in tasks)), number

    def cancel(self, tasks: Any, *, only_pending: bool = False) -> None:
        self.cancelled += tasks

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def polls(self, executor: SlurmExecutor, seconds: float) -> list[Ended]:
        """What ended in that time; what was noted is in ``notes``."""
        ends = []
        until = self.now + seconds
        while self.now <= until:
            for event in executor.poll(0.0):
                if isinstance(event, Notice):
                    self.notes.append(event.text)
                elif isinstance(event, Ended):
                    ends.append(event)
            self.now += LAST_POLL_SECONDS
        return ends


@pytest.fixture
def cluster(results: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(results, monkeypatch)


@pytest.fixture
def jobs(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> list[Job]:
    return [make_job(run) for run in demo_runs[:2]]


def executor_of(cluster: Cluster, jobs: list[Job], *, together: int = 1) -> SlurmExecutor:
    executor = SlurmExecutor(
        SlurmOptions(cpus_per_job=together), NodeSettings("0" * 12, str(cluster.results), threads=1)
    )
    for job in jobs:
        executor.submit(job)
    return executor


def test_a_job_is_not_hung_as_long_as_one_of_its_runs_lives(cluster: Cluster, jobs: list[Job]) -> None:
    executor = executor_of(cluster, jobs, together=2)  # the second has failed, or waits for room on the GPU
    with own(jobs[0].folder) as ownership:
        for beat in range(10):
            os.utime(ownership.path, (beat, beat))
            cluster.polls(executor, HUNG_SECONDS / 3)
        assert cluster.cancelled == []
        cluster.polls(executor, HUNG_SECONDS + 3 * LAST_POLL_SECONDS)
        assert set(cluster.cancelled) == {"1"}


def test_a_bad_moment_of_the_file_server_ends_no_sweep(
    cluster: Cluster, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = executor_of(cluster, jobs)

    def stale(job: Job) -> Ended | None:
        if job is jobs[0] and cluster.now < 1100:
            raise OSError("Stale file handle")
        return Ended(job, 0, fate="completed")

    monkeypatch.setattr(slurm_executor, "recorded", stale)
    assert [event.job for event in cluster.polls(executor, 0)] == [jobs[1]]
    assert [event.job for event in cluster.polls(executor, 100)] == [jobs[0]]


def test_what_is_out_is_followed_while_slurm_takes_no_more(cluster: Cluster, jobs: list[Job]) -> None:
    cluster.room = 1
    executor = executor_of(cluster, jobs)
    assert cluster.polls(executor, 100) == []
    assert cluster.notes[0].startswith("too many jobs; submitted jobs continue")
    assert len(cluster.notes) == 2  # said once, beside where the other waits
    end = RemoteResult(jobs[0].id, "failed", "the pixels ran out", "n1", 1, 1)
    (cluster.results / ".sweeps" / "slurm" / f"{0:012x}" / "ends-0.json").write_bytes(to_bytes([end]))
    assert [(event.job, event.cause) for event in cluster.polls(executor, 0)] == [(jobs[0], "the pixels ran out")]


def test_what_is_noted_of_a_sweep_does_not_grow_with_what_was_submitted_again(
    cluster: Cluster, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = executor_of(cluster, jobs)
    monkeypatch.setattr(slurm_executor, "recorded", lambda job: Ended(job, 1, displaced=True))
    for _ in range(3):
        for ended in cluster.polls(executor, 0):
            executor.submit(ended.job)
    executor.hand_in()
    assert executor.left() == {"slurm": "7,8", "cluster": "alpha"}


def test_folders_of_runs_that_have_not_begun_are_looked_into_now_and_then(
    cluster: Cluster, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Job] = []
    monkeypatch.setattr(slurm_executor, "recorded", looks.append)
    cluster.state = "PENDING"
    cluster.polls(executor_of(cluster, jobs), 10 * PENDING_POLL_SECONDS)
    assert 10 <= looks.count(jobs[0]) <= 12


def test_what_cannot_be_left_whole_is_not_left_in_part(cluster: Cluster, jobs: list[Job]) -> None:
    cluster.room = 1
    with pytest.raises(SlurmError, match="too many jobs"):
        SlurmBackend(SlurmOptions()).leave(jobs, NodeSettings("0" * 12, str(cluster.results)))
    assert cluster.cancelled == ["1"]


@pytest.mark.parametrize("trouble", ["a squeue that fails", "a task that still writes"])
def test_the_files_of_ended_tasks_are_deleted_after_a_moment_of_trouble(
    cluster: Cluster, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    executor = executor_of(cluster, jobs)
    cluster.polls(executor, 0)
    folders = list((cluster.results / ".sweeps" / "slurm").iterdir())
    assert len(folders) == len(jobs)
    ended = cluster.now + LEAVING_SECONDS / 4
    delete = shutil.rmtree

    def squeue() -> dict[tuple[str, int], Queued]:
        if cluster.now >= ended:
            cluster.queue.clear()
        elif trouble == "a squeue that fails":
            raise SlurmError("Socket timed out on send/recv operation")
        return {} if trouble == "a task that still writes" else dict(cluster.queue)

    def rmtree(path: Path, *, ignore_errors: bool) -> None:
        if trouble != "a task that still writes" or cluster.now >= ended:
            delete(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(slurm_executor, "queued_tasks", squeue)
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    executor.close()
    assert [folder for folder in folders if folder.exists()] == []
    assert cluster.now < ended + 2


def test_the_files_of_tasks_that_do_not_end_are_kept(cluster: Cluster, jobs: list[Job]) -> None:
    executor = executor_of(cluster, jobs)
    cluster.polls(executor, 0)
    del cluster.queue[next(iter(cluster.queue))]  # this one ended
    before = cluster.now
    executor.close()
    assert LEAVING_SECONDS <= cluster.now - before < LEAVING_SECONDS + 5
    assert [folder.name for folder in (cluster.results / ".sweeps" / "slurm").iterdir()] == [f"{1:012x}"]


def test_tasks_are_cancelled_as_soon_as_slurm_answers(
    cluster: Cluster, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = executor_of(cluster, jobs)
    cluster.polls(executor, 0)
    answers = cluster.now + LEAVING_SECONDS / 4

    def scancel(tasks: list[str], *, only_pending: bool = False) -> None:
        if cluster.now < answers:
            raise SlurmError("Unable to contact slurm controller")
        cluster.cancelled += tasks if not only_pending else []

    monkeypatch.setattr(slurm_executor, "cancel", scancel)
    executor.kill()
    executor.close()
    assert set(cluster.cancelled) == {"1", "2"}


def test_the_files_of_a_registered_sweep_are_not_stale(cluster: Cluster, jobs: list[Job]) -> None:
    """They are not in this queue, but perhaps in that of another cluster."""
    sweep = register(cluster.results, table="demo", executor="slurm", command="biasrepro sweep demo", detached=True)
    for batch, owner in (("a" * 12, sweep.id), ("b" * 12, "0" * 12)):
        folder = cluster.results / ".sweeps" / "slurm" / batch
        folder.mkdir(parents=True)
        (folder / "plan.json").write_text(json.dumps({"sweep": owner, "tasks": [["a run"]]}))
        folder.chmod(0o700)
        os.utime(folder / "plan.json", (time.time() - 1e6, time.time() - 1e6))
    executor_of(cluster, jobs)
    assert [folder.name for folder in (cluster.results / ".sweeps" / "slurm").iterdir()] == ["a" * 12]


def test_a_sweep_stops_while_the_controller_is_away(
    cluster: Cluster, jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = executor_of(cluster, jobs)
    cluster.polls(executor, 0)

    def away(*_: object, **__: object) -> NoReturn:
        raise SlurmError("Unable to contact slurm controller")

    monkeypatch.setattr(slurm_executor, "queued_tasks", away)
    monkeypatch.setattr(slurm_executor, "cancel", away)
    monkeypatch.setattr(slurm_queue, "run_command", away)
    end = RemoteResult(jobs[0].id, "interrupted", None, "n1", 1)
    (cluster.results / ".sweeps" / "slurm" / f"{0:012x}" / "ends-0.json").write_bytes(to_bytes([end]))
    assert cluster.polls(executor, 100) == []  # before the request, all jobs continue
    executor.stop()
    assert [(event.job, event.fate) for event in cluster.polls(executor, 100)] == [(jobs[0], "interrupted")]
    executor.kill()
    assert [(event.job, event.fate) for event in cluster.polls(executor, 0)] == [(jobs[1], "interrupted")]
    assert cluster.polls(executor, 100) == []
    assert cluster.notes[-1].startswith("Unable to contact slurm controller; submitted jobs continue")
    monkeypatch.setattr(slurm_executor, "cancel", cluster.cancel)
    executor.close()
    assert set(cluster.cancelled) == {"2"}


def test_what_is_left_to_do_is_not_shared_by_the_whole_queue(cluster: Cluster, jobs: list[Job]) -> None:
    sweep = SweepState(jobs, before=0, capacity=executor_of(cluster, jobs).at_a_time)
    sweep.start(jobs[0], "n1 cpu", now=0.0)
    sweep.hear(jobs[0], Progress(jobs[0].id, "training", epoch=1, epochs=5, eta_seconds=100.0))
    assert sweep.eta_seconds(now=0.0) == pytest.approx(200.0)
