"""What the executor for SLURM reports of its queue, with no SLURM: its commands' answers are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from repro.experiment.schema import Run
from repro.progress import Progress
from repro.sweep.cluster_node import NodeSettings, RemoteResult
from repro.sweep.executor import Ended, Event, Job, Notice, Reported, Started
from repro.sweep.slurm import executor as slurm_executor
from repro.sweep.slurm.backend import SlurmOptions
from repro.sweep.slurm.batch import Batch
from repro.sweep.slurm.ended_jobs import lost
from repro.sweep.slurm.queue import parse_ended_task
from repro.sweep.slurm.task import ends_file, to_bytes

ENDED_WITHOUT_A_LOG = "JobId=58 JobState=FAILED ExitCode=0:53 ReqNodeList=(null) ExcNodeList=(null) NodeList=n1"


@pytest.fixture
def job(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> Job:
    return make_job(demo_runs[0])


@pytest.fixture
def events(job: Job, results: Path, monkeypatch: pytest.MonkeyPatch) -> Sequence[Event]:
    """Of a run that was over before SLURM was first looked at, and whose figures nobody saw."""
    batch = Batch(results / "0123456789ab", "a sweep", ((job.id,),))
    batch.folder.mkdir()
    last = Progress(job.id, "completed", test_top1_percent=98.0)
    ends_file(batch.folder, 0).write_bytes(to_bytes([RemoteResult(job.id, "completed", None, "n1 cpu", 1, last=last)]))
    monkeypatch.setattr(slurm_executor, "queued_tasks", lambda: {})
    monkeypatch.setattr(slurm_executor, "largest_array", lambda: 1000)
    monkeypatch.setattr(slurm_executor, "submit", lambda *_, **__: (batch, "27"))
    executor = slurm_executor.SlurmExecutor(SlurmOptions(), NodeSettings("a sweep", str(results), "cpu"))
    executor.submit(job)
    return executor.poll(0.0)


def test_where_the_runs_wait_is_said(events: Sequence[Event]) -> None:
    assert events[0] == Notice("1 run is in SLURM's queue, as job 27; squeue --jobs 27 shows the reason for waiting")


def test_the_end_of_a_run_that_nobody_saw_has_its_accuracy(events: Sequence[Event]) -> None:
    assert [type(event) for event in events[1:]] == [Started, Reported, Ended]
    assert isinstance(events[2], Reported)
    assert events[2].progress.test_top1_percent == 98.0


def test_a_node_that_does_not_see_the_results_is_named_and_not_tried_again(job: Job, results: Path) -> None:
    ended = lost(job, "57_3", parse_ended_task(ENDED_WITHOUT_A_LOG), "", stopping=False)
    assert (ended.fate, ended.returncode) == ("failed", 1)
    assert f"SLURM's job 57_3 could not open its log under {results} on n1" in str(ended.cause)
    assert "all nodes share" in str(ended.cause)
