from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from repro.cli.sweep.view import whole_line
from repro.experiment.schema import Run
from repro.progress import Progress
from repro.sweep.executor import Job
from repro.sweep.sweep_state import SweepState


@pytest.fixture
def jobs(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> list[Job]:
    return [make_job(run) for run in demo_runs]


def sweep_of(jobs: list[Job], capacity: int | None = 2) -> SweepState:
    return SweepState(jobs, before=4, capacity=capacity)


def report(sweep: SweepState, job: Job, eta_seconds: float | None, epoch: int = 1) -> None:
    said = Progress(job.id, "training", epoch=epoch, epochs=5, test_top1_percent=50.0, eta_seconds=eta_seconds)
    sweep.hear(job, said)


def test_every_run_is_counted_once_wherever_it_stands(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs)
    sweep.start(jobs[0], "cpu", now=0.0)
    sweep.start(jobs[1], "cpu", now=0.0)
    sweep.end(jobs[0], "completed", None, now=10.0)
    sweep.end(jobs[2], "elsewhere", None, now=10.0)
    assert (len(sweep.waiting), len(sweep.running), len(sweep.finished)) == (5, 1, 2)
    assert sweep.total == 4 + len(jobs)


def test_nothing_is_foretold_before_anything_is_known(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs)
    assert sweep.eta_seconds(now=0.0) is None
    sweep.start(jobs[0], "cpu", now=0.0)
    assert sweep.eta_seconds(now=5.0) is None


def test_waiting_runs_take_as_long_as_those_like_them(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs)
    for job in jobs[:2]:
        sweep.start(job, "cpu", now=0.0)
        report(sweep, job, eta_seconds=90.0)
    # At second 10 each of the two takes 100 s in all; six more such runs on two slots after 90 s.
    assert sweep.eta_seconds(now=10.0) == pytest.approx((2 * 90 + 6 * 100) / 2)


def test_where_a_queue_decides_as_many_as_run_now_share_what_waits(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs, capacity=None)
    for job in jobs[:2]:
        sweep.start(job, "n1 cpu", now=0.0)
        report(sweep, job, eta_seconds=90.0)
    assert sweep.eta_seconds(now=10.0) == pytest.approx((2 * 90 + 6 * 100) / 2)
    for job in jobs[:2]:
        sweep.end(job, "completed", None, now=100.0)
    assert sweep.eta_seconds(now=100.0) is None  # nobody knows when the queue lets the next ones run
    for job in jobs[2:5]:
        sweep.start(job, "n1 cpu", now=130.0)
    assert sweep.eta_seconds(now=130.0) == pytest.approx(6 * 100 / 3)


def test_a_finished_run_counts_what_it_took(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:3], capacity=1)
    sweep.start(jobs[0], "cpu", now=0.0)
    report(sweep, jobs[0], eta_seconds=None)
    sweep.end(jobs[0], "completed", None, now=40.0)
    assert sweep.eta_seconds(now=40.0) == pytest.approx(80.0)


def test_a_run_that_resumed_counts_as_the_share_that_it_trained(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:3], capacity=1)
    sweep.start(jobs[0], "cpu", now=0.0)
    sweep.hear(jobs[0], Progress(jobs[0].id, "starting", epoch=1, epochs=5, message="the newest checkpoint is damaged"))
    report(sweep, jobs[0], eta_seconds=30.0, epoch=5)
    # At second 10 its last fifth takes 40 s in all, so each of the two others takes 200 s.
    assert sweep.eta_seconds(now=10.0) == pytest.approx(30 + 2 * 200)
    sweep.end(jobs[0], "completed", None, now=40.0)
    assert sweep.eta_seconds(now=40.0) == pytest.approx(2 * 200)
    # Another run of the row, with all its epochs, says five times as much: 40 s and 140 s for a fifth and a whole.
    sweep.start(jobs[1], "cpu", now=40.0)
    report(sweep, jobs[1], eta_seconds=140.0)
    assert sweep.eta_seconds(now=40.0) == pytest.approx(140 + 180 / 1.2)


def test_a_run_that_resumed_and_does_not_say_yet_needs_the_time_of_its_share(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:2], capacity=1)
    sweep.start(jobs[0], "cpu", now=0.0)
    report(sweep, jobs[0], eta_seconds=None)
    sweep.end(jobs[0], "completed", None, now=100.0)
    sweep.start(jobs[1], "cpu", now=100.0)
    report(sweep, jobs[1], eta_seconds=None, epoch=5)
    assert sweep.eta_seconds(now=105.0) == pytest.approx(100 / 5 - 5)


def test_a_run_that_was_not_seen_to_train_foretells_nothing(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:3], capacity=1)
    sweep.start(jobs[0], "a node", now=0.0)
    sweep.hear(jobs[0], Progress(jobs[0].id, "completed", epoch=5, epochs=5))
    sweep.end(jobs[0], "completed", None, now=0.0)
    assert sweep.eta_seconds(now=0.0) is None


def test_a_failed_run_foretells_nothing(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:3], capacity=1)
    sweep.start(jobs[0], "cpu", now=0.0)
    sweep.end(jobs[0], "failed", "cause", now=1.0)
    assert sweep.eta_seconds(now=1.0) is None


def test_a_run_that_does_not_say_yet_is_taken_to_be_like_the_others(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:2])
    sweep.start(jobs[0], "cpu", now=0.0)
    sweep.start(jobs[1], "cpu", now=10.0)
    report(sweep, jobs[0], eta_seconds=70.0)
    # The first takes 90 s at second 20; of the other's 90 s, 10 are over.
    assert sweep.eta_seconds(now=20.0) == pytest.approx(max((70 + 80) / 2, 80))


def test_the_longest_run_bounds_the_whole(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:2])
    for job, eta in zip(jobs[:2], (10.0, 500.0), strict=True):
        sweep.start(job, "cpu", now=0.0)
        report(sweep, job, eta_seconds=eta)
    assert sweep.eta_seconds(now=1.0) == 500.0


def test_an_end_keeps_time_and_accuracy(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs)
    sweep.start(jobs[0], "cuda:1", now=5.0)
    report(sweep, jobs[0], eta_seconds=1.0)
    ended = sweep.end(jobs[0], "completed", None, now=17.0)
    assert (ended.seconds, ended.test_top1_percent) == (12.0, 50.0)
    assert sweep.having("completed") == [ended]
    assert sweep.having("failed", "diverged") == []


def test_runs_that_were_put_back_count_as_waiting_once(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs[:3], capacity=1)
    sweep.start(jobs[0], "cpu", now=0.0)
    sweep.put_back(jobs[0])
    sweep.put_back(jobs[0])
    assert list(sweep.waiting) == [jobs[1].id, jobs[2].id, jobs[0].id]
    sweep.start(jobs[1], "cpu", now=0.0)
    report(sweep, jobs[1], eta_seconds=None)
    sweep.end(jobs[1], "completed", None, now=40.0)
    assert sweep.eta_seconds(now=40.0) == pytest.approx(80.0)


class _Counted(dict[str, Job]):
    """Jobs that nobody may go through one by one."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("gone through at an end of a run: the whole sweep then takes the square of its runs")

    values = items = __iter__  # type: ignore[assignment]


class _Ended(list[Any]):
    def __iter__(self) -> NoReturn:
        raise AssertionError("gone through at an end of a run: the whole sweep then takes the square of its runs")


def test_what_is_asked_at_every_end_goes_through_no_run_that_waits_or_has_ended(jobs: list[Job]) -> None:
    sweep = sweep_of(jobs)
    sweep.waiting, sweep.finished = _Counted(sweep.waiting), _Ended()
    sweep.start(jobs[0], "cpu", now=0.0)
    report(sweep, jobs[0], eta_seconds=None)
    sweep.end(jobs[0], "completed", None, now=40.0)
    sweep.end(jobs[1], "failed", "cause", now=40.0)
    assert sweep.eta_seconds(now=40.0) == pytest.approx((len(jobs) - 2) * 40 / 2)
    assert (sweep.total, sweep.count("completed"), sweep.count("failed", "diverged")) == (4 + len(jobs), 1, 1)
    assert whole_line(sweep, now=40.0) == f"5 of {4 + len(jobs)} done  1 failed  6 waiting  about 2 min left"
