from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.canonical import digest
from repro.experiment.schema import Run
from repro.progress import Progress, Trouble
from repro.results import RunFolder, read_failure
from repro.results.ownership import own
from repro.sweep.driver import SweepListener, fate_of, run_sweep
from repro.sweep.executor import Ended, Event, Executor, Job, Reported, Started
from repro.sweep.retries import MAX_DISPLACEMENTS, retry_job
from repro.sweep.sweep_state import FinishedRun, SweepState


class Scripted:
    """An executor without processes: each job ends at the poll after its start, with the exit code scripted for it.

    With exit code 0 it leaves a record, if it ``records``.
    """

    records = True

    def __init__(
        self, codes: dict[str, int | list[int]] | None = None, *, capacity: int = 2, endless: bool = False
    ) -> None:
        self.codes = codes or {}
        self._capacity = capacity
        self.endless = endless
        self.out: list[Job] = []
        self.fresh: list[Job] = []
        self.began: list[str] = []
        self.most_at_once = 0
        self.stops = self.kills = self.closes = 0

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def at_a_time(self) -> int:
        return self._capacity

    def submit(self, job: Job) -> None:
        self.fresh.append(job)

    def poll(self, timeout_seconds: float) -> list[Event]:
        ending = [] if self.endless and not self.stops else self.out
        events: list[Event] = [self.end(job) for job in ending]
        self.out = [job for job in self.out if job not in ending] + self.fresh
        for job in self.fresh:
            self.began.append(job.id)
            events += [Started(job, "here"), Reported(job, Progress(job.id, "training", epoch=1, epochs=10))]
        self.fresh = []
        self.most_at_once = max(self.most_at_once, len(self.out))
        return events

    def end(self, job: Job) -> Ended:
        code = self.code(job)
        if code == 0 and self.records:
            known = json.loads((job.folder.results / "prepared.json").read_text())
            job.folder.path.mkdir(parents=True, exist_ok=True)
            job.folder.record.write_text(known[job.id]["completed"])
        return Ended(job, code, self.last(job), "the last words")

    def code(self, job: Job) -> int:
        if self.kills:
            return -signal.SIGKILL
        scripted = self.codes.get(job.id, 0)
        if isinstance(scripted, list):
            return scripted.pop(0)
        return 143 if self.stops and self.endless else scripted

    def last(self, job: Job) -> Progress | None:
        if self.codes.get(job.id) == 1:
            return Progress(job.id, "failed", message="the pixels ran out")
        return None

    def stop(self) -> None:
        self.stops += 1

    def kill(self) -> None:
        self.kills += 1

    def close(self) -> None:
        self.closes += 1


class Notice(SweepListener):
    """A listener that notes which runs are put off, and why."""

    def __init__(self, waits: list[tuple[str, str]]) -> None:
        self.waits = waits

    def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
        self.waits.append((job.id, why))


@pytest.fixture
def jobs(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> list[Job]:
    return [make_job(run) for run in demo_runs]


def test_a_worker_that_a_signal_to_all_ends_at_its_start_is_interrupted_not_failed(jobs: list[Job]) -> None:
    class Signalled(Scripted):
        """The request to stop comes while it waits, and ends a worker that has no handler yet."""

        asked = False

        def code(self, job: Job) -> int:
            self.asked = True
            return -signal.SIGTERM

    executor = Signalled(capacity=1)
    sweep = run_sweep(jobs[:1], executor, stops_asked=lambda: int(executor.asked))
    assert [finished.fate for finished in sweep.having("interrupted", "failed")] == ["interrupted"]
    assert read_failure(jobs[0].folder) is None


def test_the_double_is_an_executor() -> None:
    executor: Executor = Scripted()
    assert executor.capacity == 2


def test_all_jobs_run_and_never_more_than_there_is_room_for(jobs: list[Job]) -> None:
    executor = Scripted()
    sweep = run_sweep(jobs, executor, finished_before=3)
    assert executor.began == [job.id for job in jobs]
    assert executor.most_at_once == 2
    assert len(sweep.having("completed")) == len(jobs)
    assert sweep.total == len(jobs) + 3
    assert executor.closes == 1


def test_no_jobs_are_no_trouble() -> None:
    executor = Scripted()
    assert run_sweep([], executor).finished == []
    assert executor.closes == 1


def test_a_failure_is_noted_and_the_rest_goes_on(jobs: list[Job], results: Path) -> None:
    executor = Scripted({jobs[1].id: 1})
    sweep = run_sweep(jobs, executor)
    assert [(ended.job.id, ended.cause) for ended in sweep.having("failed")] == [(jobs[1].id, "the pixels ran out")]
    assert len(sweep.having("completed")) == len(jobs) - 1
    failure = read_failure(RunFolder.of(results, jobs[1].run))
    assert failure is not None
    assert (failure.cause, failure.attempts) == ("the pixels ran out", 1)
    assert read_failure(RunFolder.of(results, jobs[0].run)) is None


def test_a_failure_that_cannot_be_noted_is_still_a_failure(jobs: list[Job], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("repro.sweep.driver.write_failure", full)
    sweep = run_sweep(jobs, Scripted({jobs[1].id: 1}))
    assert len(sweep.having("failed")) == 1
    assert len(sweep.having("completed")) == len(jobs) - 1


def test_fail_fast_begins_nothing_more_and_asks_the_others_to_commit(jobs: list[Job]) -> None:
    executor = Scripted({jobs[0].id: 1})
    sweep = run_sweep(jobs, executor, fail_fast=True)
    assert executor.stops == 1
    assert executor.kills == 0
    # The failure makes room for the third before it is looked at; nothing begins after that.
    assert len(sweep.waiting) >= len(jobs) - 3
    assert sweep.having("failed")


def test_a_request_to_stop_ends_what_runs_and_keeps_the_rest_for_later(jobs: list[Job]) -> None:
    executor = Scripted(endless=True)
    asked = iter([0, 0, 1])
    sweep = run_sweep(jobs, executor, stops_asked=lambda: next(asked, 1))
    assert executor.stops == 1
    assert executor.kills == 0
    assert len(sweep.having("interrupted")) == 2
    assert len(sweep.waiting) == len(jobs) - 2
    assert not sweep.running


def test_a_second_request_kills(jobs: list[Job]) -> None:
    executor = Scripted(endless=True)
    sweep = run_sweep(jobs, executor, stops_asked=lambda: 2 if executor.began else 0)
    assert (executor.stops, executor.kills) == (1, 1)
    assert len(sweep.having("interrupted")) == 2


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repro.sweep.driver.RECHECK_SECONDS", 0.0)


@pytest.mark.usefixtures("impatient")
def test_a_run_that_another_process_finishes_is_waited_for(
    jobs: list[Job], finish: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Scripted({jobs[2].id: [75]})
    poll, waits = executor.poll, []

    def meanwhile(timeout_seconds: float) -> list[Event]:
        events = poll(timeout_seconds)
        if any(isinstance(event, Ended) and event.returncode == 75 for event in events):
            finish(jobs[2].run)
        return events

    monkeypatch.setattr(executor, "poll", meanwhile)
    sweep = run_sweep(jobs, executor, listen=Notice(waits))
    assert [ended.job.id for ended in sweep.having("elsewhere")] == [jobs[2].id]
    assert len(sweep.having("completed")) == len(jobs) - 1
    assert executor.began.count(jobs[2].id) == 1
    assert waits == [(jobs[2].id, "in training by another process; waiting for it")]


@pytest.mark.usefixtures("impatient")
def test_a_run_that_another_process_is_seen_to_train_is_not_begun(jobs: list[Job], finish: Callable[..., None]) -> None:
    waits: list[tuple[str, str]] = []

    class Finishing(Notice):
        def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
            super().postponed(sweep, job, why)
            finish(job.run)

    with own(jobs[2].folder):
        sweep = run_sweep(jobs, executor := Scripted({}), listen=Finishing(waits))
    assert [ended.job.id for ended in sweep.having("elsewhere")] == [jobs[2].id]
    assert jobs[2].id not in executor.began
    [(_, why)] = waits
    assert why.startswith(f"in training by process {os.getpid()} on ")


@pytest.mark.usefixtures("impatient")
def test_an_owner_that_falls_silent_is_announced_again_with_the_way_out(
    jobs: list[Job], finish: Callable[..., None]
) -> None:
    waits: list[tuple[str, str]] = []

    class Suspending(Notice):
        def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
            super().postponed(sweep, job, why)
            os.utime(ownership.path, (1.0, 1.0)) if len(waits) == 1 else finish(job.run)

    with own(jobs[2].folder) as ownership:
        run_sweep(jobs, Scripted({}), listen=Suspending(waits))
    assert len(waits) == 2
    assert "silent" not in waits[0][1]
    assert re.search(
        rf"silent for .+: it is suspended or stuck; kill -CONT {os.getpid()} continues it, "
        rf"kill -KILL {os.getpid()} ends it and frees the run; waiting for it$",
        waits[1][1],
    )
    assert "taken over" not in waits[1][1]


@pytest.mark.usefixtures("impatient")
def test_a_run_that_another_process_leaves_unfinished_is_taken_on(jobs: list[Job]) -> None:
    sweep = run_sweep(jobs, executor := Scripted({jobs[2].id: [75, 75, 0]}))
    assert len(sweep.having("completed")) == len(jobs)
    assert executor.began.count(jobs[2].id) == 3


def test_a_run_that_is_recorded_by_now_is_not_begun(jobs: list[Job], finish: Callable[..., None]) -> None:
    finish(jobs[0].run)
    finish(jobs[1].run, status="diverged", reason="not finite", last_top1_percent=None)
    jobs[2].folder.path.mkdir(parents=True)
    jobs[2].folder.record.write_text("edited")
    sweep = run_sweep(jobs[:3], executor := Scripted())
    assert executor.began == []
    assert [(ended.job.id, ended.fate) for ended in sweep.finished] == [
        (jobs[0].id, "elsewhere"),
        (jobs[1].id, "diverged"),
        (jobs[2].id, "failed"),
    ]


def test_a_killed_worker_is_tried_again_and_again_and_then_shown(jobs: list[Job]) -> None:
    waits: list[tuple[str, str]] = []
    codes: dict[str, int | list[int]] = {jobs[0].id: [-9, -11, 0], jobs[1].id: [-9, 143, -9], jobs[2].id: 1}
    sweep = run_sweep(jobs, executor := Scripted(codes), listen=Notice(waits))
    assert {ended.job.id for ended in sweep.having("failed")} == {jobs[1].id, jobs[2].id}
    assert len(sweep.having("completed")) == len(jobs) - 2
    assert [executor.began.count(job.id) for job in jobs[:4]] == [3, 3, 1, 1]
    assert sorted(run for run, _ in waits) == sorted([jobs[0].id] * 2 + [jobs[1].id] * 2)
    assert all("tried again from its last checkpoint" in why for _, why in waits)


@pytest.mark.parametrize(
    ("returncode", "trouble", "shared", "attempts", "again"),
    [
        (-9, None, False, 1, "same"),
        (-9, None, False, 2, "same"),
        (-9, None, False, 3, None),
        (-11, None, False, 1, "same"),
        (143, None, False, 1, "same"),
        (130, None, False, 1, "same"),
        (1, None, False, 1, None),
        (2, None, False, 1, None),
        (1, "device_lost", False, 1, "same"),
        (1, "device_lost", False, 3, None),
        (1, "out_of_memory", False, 1, None),
        (1, "out_of_memory", True, 1, "alone"),
        (1, "out_of_memory", True, 3, "alone"),
    ],
)
def test_what_is_worth_another_attempt(
    jobs: list[Job], returncode: int, trouble: Trouble | None, shared: bool, attempts: int, again: str | None
) -> None:
    last = Progress("x", "failed", message="no luck", trouble=trouble)
    ended = Ended(jobs[0], returncode, last, "last words", shared)
    expected = {None: None, "same": jobs[0], "alone": replace(jobs[0], alone=True)}[again]
    assert retry_job(ended, attempts) == expected
    if again == "alone":
        assert retry_job(replace(ended, job=replace(jobs[0], alone=True)), attempts) is None


def test_nothing_is_left_running_when_the_listener_breaks(jobs: list[Job]) -> None:
    class Broken(SweepListener):
        def ended(self, sweep: SweepState, run: FinishedRun) -> None:
            raise BrokenPipeError

    executor = Scripted()
    with pytest.raises(BrokenPipeError):
        run_sweep(jobs, executor, listen=Broken())
    assert (executor.stops, executor.kills, executor.closes) == (1, 0, 1)
    assert not executor.out, "what ran was not waited for"


@pytest.mark.parametrize(
    ("returncode", "last", "stopping", "fate", "cause"),
    [
        (0, None, False, "completed", None),
        (75, None, False, "elsewhere", None),
        (1, Progress("x", "diverged", message="not finite"), False, "diverged", "not finite"),
        (1, Progress("x", "failed", message="no pixels"), False, "failed", "no pixels"),
        (2, None, False, "failed", "ended with exit code 2\nlast words"),
        (-9, None, False, "failed", "killed by SIGKILL (the kernel does so when memory runs out)\nlast words"),
        (-11, None, False, "failed", "killed by SIGSEGV\nlast words"),
        (-64, None, False, "failed", "killed by SIGRTMAX\nlast words"),
        (-63, None, False, "failed", "killed by signal 63\nlast words"),
        (-9, None, True, "interrupted", None),
        (-15, None, True, "interrupted", None),
        (-10, None, True, "interrupted", None),
        (-10, None, False, "failed", "killed by SIGUSR1\nlast words"),
        (143, None, True, "interrupted", None),
        (1, None, True, "failed", "ended with exit code 1\nlast words"),
        (
            143,
            None,
            False,
            "failed",
            "stopped by a SIGTERM from outside this sweep; its checkpoint is saved\nlast words",
        ),
    ],
)
def test_what_became_of_a_worker(
    make_job: Callable[[Run], Job],
    demo_runs: list[Run],
    returncode: int,
    last: Progress | None,
    stopping: bool,
    fate: str,
    cause: str | None,
) -> None:
    ended = Ended(make_job(demo_runs[0]), returncode, last, "last words")
    assert fate_of(ended, stopping=stopping) == (fate, cause)


class Claiming(Scripted):
    """An executor whose jobs end as this says, and leave no record unless somebody else writes one."""

    records = False

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.how = how

    def end(self, job: Job) -> Ended:
        return Ended(job, last_words="the last words", **self.how)


CLAIMS: list[dict[str, Any]] = [
    {"returncode": 0},
    {"returncode": 1, "last": Progress("x", "diverged", message="not finite")},
    {"returncode": 0, "last": Progress("x", "completed")},
    {"returncode": 0, "fate": "completed"},  # as a node reports it
    {"returncode": 1, "fate": "diverged"},
]


@pytest.mark.parametrize("how", CLAIMS)
@pytest.mark.parametrize("record", [None, "damaged", "of another configuration"])
def test_a_run_without_a_good_record_of_its_own_is_not_done(
    how: dict[str, Any],
    record: str | None,
    jobs: list[Job],
    finish: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("repro.sweep.driver.RECORD_SECONDS", 0.0)

    class Recording(Claiming):
        def end(self, job: Job) -> Ended:
            if record is not None:
                other = job.run.configuration() | {"loss": "another"}
                finish(job.run, configuration=other, configuration_hash=digest(other))
            if record == "damaged":
                job.folder.record.write_text("damaged")
            return super().end(job)

    (finished,) = run_sweep(jobs[:1], Recording(**how)).finished
    assert finished.fate == "failed"
    what = {None: "it left no record", "damaged": "damaged: no seal"}.get(record, "other configuration")
    assert what in str(finished.cause)
    assert str(jobs[0].folder.record) in str(finished.cause)
    assert str(finished.cause).endswith("\nthe last words")
    assert read_failure(jobs[0].folder) is not None


def test_a_record_that_a_file_server_shows_late_is_waited_for(jobs: list[Job], finish: Callable[..., None]) -> None:
    looks: list[str] = []

    class Late(SweepListener):
        def tick(self, sweep: SweepState) -> None:
            looks.append("")
            if len(looks) == 4:
                finish(jobs[0].run)

    sweep = run_sweep(jobs[:1], executor := Claiming(returncode=0, fate="completed"), listen=Late())
    assert [run.fate for run in sweep.finished] == ["completed"]
    assert (len(executor.began), len(looks)) == (1, 5)


def test_the_record_alone_says_whether_a_run_diverged(jobs: list[Job], finish: Callable[..., None]) -> None:
    class Diverging(Claiming):
        def end(self, job: Job) -> Ended:
            finish(job.run, status="diverged", reason="not finite", last_top1_percent=None)
            return super().end(job)

    (finished,) = run_sweep(jobs[:1], Diverging(returncode=0)).finished
    assert (finished.fate, finished.cause) == ("diverged", "not finite")


@pytest.mark.parametrize("status", ["completed", "diverged"])
@pytest.mark.parametrize(
    "how",
    [
        {"returncode": -signal.SIGKILL},  # after its record, before its last message
        {"returncode": 1},  # at its start: another sweep recorded that the run diverged
        {"returncode": -signal.SIGKILL, "fate": "failed", "cause": "it sent no heartbeat, and was killed"},
        {"returncode": 0, "fate": "interrupted"},
        {"returncode": -signal.SIGKILL, "cause": "node7 was lost", "displaced": True},
    ],
)
def test_a_worker_that_ends_badly_after_the_record_is_there_did_not_fail(
    how: dict[str, Any], status: str, jobs: list[Job], finish: Callable[..., None]
) -> None:
    fields = {"reason": "not finite", "last_top1_percent": None} if status == "diverged" else {}

    class Killed(Claiming):
        def end(self, job: Job) -> Ended:
            if not job.folder.record.exists():
                finish(job.run, status=status, **fields)
            return super().end(job)

    waits: list[tuple[str, str]] = []
    (finished,) = run_sweep(jobs[:1], executor := Killed(**how), listen=Notice(waits)).finished
    assert (finished.fate, finished.cause) == (status, fields.get("reason"))
    assert (len(executor.began), waits) == (1, [])
    assert not jobs[0].folder.failure.exists()


@pytest.mark.parametrize(
    "how",
    [
        {"returncode": 0, "cause": "SLURM's job 12_3 is gone (NODE_FAIL)"},
        {"returncode": 0, "fate": "interrupted"},
        {"returncode": -signal.SIGKILL, "cause": "node7 was lost"},
    ],
)
def test_a_run_that_takes_its_places_down_is_shown_as_failed(jobs: list[Job], how: dict[str, Any]) -> None:
    class TakesDown(Scripted):
        records = False

        def poll(self, timeout_seconds: float) -> list[Event]:
            events = super().poll(timeout_seconds)
            return [Ended(event.job, displaced=True, **how) if isinstance(event, Ended) else event for event in events]

    executor = TakesDown()
    (finished,) = run_sweep(jobs[:1], executor).finished
    assert (finished.fate, len(executor.began)) == ("failed", MAX_DISPLACEMENTS)
    assert "10 times in a row without progress" in str(finished.cause)
    assert str(how.get("cause", "its node or job was lost")) in str(finished.cause)
