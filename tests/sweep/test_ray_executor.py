"""When a run on Ray counts as silent, without a Ray; the real one is in tests/clusters."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from repro.errors import UserError
from repro.experiment.schema import Run
from repro.results import ownership
from repro.results.ownership import SILENT_SECONDS, last_owner, own
from repro.sweep.cluster_node import NotShared
from repro.sweep.executor import Ended, Job, Started
from repro.sweep.ray.executor import RayExecutor, _Task


@pytest.fixture
def job(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> Job:
    return make_job(demo_runs[0])


@contextmanager
def owned_elsewhere(job: Job) -> Iterator[None]:
    """A process of another machine has the run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership, "this_place", lambda: "another machine")
        with own(job.folder):
            patch.undo()
            yield


def looked_at(results: Path, job: Job, *, former_owner: str | None, after_seconds: float) -> tuple[list[Any], bool]:
    """What a look at a job that Ray has finds so many seconds from now, and whether its task was cancelled."""
    cancelled: list[object] = []
    executor = object.__new__(RayExecutor)
    executor._ray = SimpleNamespace(
        cancel=lambda reference, force: cancelled.append(reference), exceptions=SimpleNamespace(RayError=RuntimeError)
    )
    task = _Task(job=job, reference=object(), former_owner=former_owner)
    executor._tasks = {job.id: task}
    return executor._end_if_silent(task, lambda: time.time() + after_seconds), bool(cancelled)


@pytest.mark.parametrize(("after_seconds", "is_silent"), [(SILENT_SECONDS - 30, False), (SILENT_SECONDS + 1, True)])
def test_a_run_is_silent_by_its_heartbeat_whether_it_said_a_word_or_not(
    results: Path, job: Job, after_seconds: float, is_silent: bool
) -> None:
    with owned_elsewhere(job):
        events, cancelled = looked_at(results, job, former_owner=None, after_seconds=after_seconds)
    assert [type(event) for event in events] == ([Started, Ended] if is_silent else [])
    assert cancelled == is_silent


def test_who_had_the_run_before_says_nothing_of_a_task_that_waits(results: Path, job: Job) -> None:
    with owned_elsewhere(job):
        former = last_owner(job.folder)
        assert former is not None
        events, cancelled = looked_at(results, job, former_owner=former.token, after_seconds=2 * SILENT_SECONDS)
    assert (events, cancelled) == ([], False)


def test_a_process_of_this_machine_is_alive_by_its_number(results: Path, job: Job) -> None:
    with own(job.folder):
        assert looked_at(results, job, former_owner=None, after_seconds=2 * SILENT_SECONDS) == ([], False)


class _TaskError(Exception):
    """As Ray's RayTaskError: what a task raised is its ``cause``."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::_train() (pid=7)\n{type(cause).__name__}: {cause}")
        self.cause = cause


def collected(job: Job, cause: Exception) -> list[Any]:
    """The events of a task that raised ``cause`` on its node."""

    def get(reference: object) -> None:
        raise _TaskError(cause)

    executor = object.__new__(RayExecutor)
    errors = SimpleNamespace(TaskCancelledError=TimeoutError, RayTaskError=_TaskError)
    executor._ray = SimpleNamespace(get=get, exceptions=errors)
    return executor._collect(_Task(job=job, reference=object()))


def test_a_node_that_does_not_see_the_results_fails_its_run_and_no_other(job: Job) -> None:
    cause = NotShared(
        "on n1 this is not the results folder that the sweep writes to", where="/results", hint="Share it."
    )
    started, ended = collected(job, cause)
    assert (type(started), ended.fate, ended.displaced, ended.cause) == (Started, "failed", False, str(cause))


def test_a_node_without_the_package_ends_the_sweep(job: Job) -> None:
    with pytest.raises(UserError, match="a node of the cluster could not start: ImportError: no submitit"):
        collected(job, ImportError("no submitit"))
