"""A sweep from its first job to its last: keeps the executor busy, notes failures, stops when asked.

Nothing here knows whether the jobs run on this machine or on a cluster.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from repro.progress import Progress
from repro.results import write_failure
from repro.results.lock import OwnedElsewhere, owner_of
from repro.sweep.executor import Ended, Event, Executor, Job, Notice, Reported, Started
from repro.sweep.retries import MAX_DISPLACEMENTS, DisplacementCounter, retry_job
from repro.sweep.survey import Stage, look_at
from repro.sweep.sweep_state import Fate, FinishedRun, RunningRun, SweepState

POLL_SECONDS = 0.2
RECHECK_SECONDS = 2.0  # between two looks at a run that another process trains
LAST_SECONDS = 60.0  # that workers get to commit when the sweep itself breaks down

# How workers end that were asked to, by the sweep or by a scheduler that signals all of them, some before they listen.
_ASKED_TO_STOP = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL}
_ASKED_TO_STOP |= {-signal.SIGINT, -signal.SIGUSR1, -signal.SIGUSR2, -signal.SIGHUP}


class SweepListener(Protocol):
    """Whoever shows a sweep; each call says what just changed in the picture."""

    def started(self, sweep: SweepState, run: RunningRun) -> None:
        """A run began."""

    def said(self, sweep: SweepState, run: RunningRun) -> None:
        """A run reported."""

    def ended(self, sweep: SweepState, run: FinishedRun) -> None:
        """A run ended."""

    def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
        """A run waits: for another attempt, or for the process that trains it."""

    def noted(self, text: str) -> None:
        """The executor says something of the whole."""

    def stopping(self, sweep: SweepState, why: str) -> None:
        """No further run is started; those in training commit their state."""

    def tick(self, sweep: SweepState) -> None:
        """Time went by."""


class _Quiet:
    """A listener that shows nothing."""

    def started(self, sweep: SweepState, run: RunningRun) -> None: ...
    def said(self, sweep: SweepState, run: RunningRun) -> None: ...
    def ended(self, sweep: SweepState, run: FinishedRun) -> None: ...
    def postponed(self, sweep: SweepState, job: Job, why: str) -> None: ...
    def noted(self, text: str) -> None: ...
    def stopping(self, sweep: SweepState, why: str) -> None: ...
    def tick(self, sweep: SweepState) -> None: ...


QUIET: SweepListener = _Quiet()


def run_sweep(
    jobs: Sequence[Job],
    executor: Executor,
    *,
    finished_before: int = 0,
    fail_fast: bool = False,
    wait_for_others: bool = True,
    stops_asked: Callable[[], int] = lambda: 0,
    listen: SweepListener = QUIET,
    clock: Callable[[], float] = time.monotonic,
) -> SweepState:
    """Run ``jobs`` and return the picture at the end; a run that fails is noted in its folder, and the rest goes on.

    A run that another process trains is waited for, and taken on if that process ends without finishing it. Without
    ``wait_for_others`` it is left to that process as soon as it gives a sign of life; a silent one is waited for, and
    succeeded.
    ``stops_asked`` counts the requests to stop: after the first, running jobs commit their state and end, after the
    second they are killed. With ``fail_fast`` the first failure is such a request, and so is an exception in a
    listener. Nothing is left running, however this returns.
    """
    sweep = SweepState(jobs, before=finished_before, capacity=executor.capacity)
    driver = _Driver(sweep, executor, listen, clock, wait_for_others=wait_for_others)
    stopping = killed = False
    try:
        while driver.out or (sweep.waiting and not stopping):
            if not stopping and (why := _reason_to_stop(sweep, stops_asked(), fail_fast)):
                stopping = True
                executor.stop()
                listen.stopping(sweep, why)
            if not killed and stops_asked() > 1:
                killed = True
                executor.kill()
            if not stopping:
                driver.hand_out()
            driver.follow(stopping=stopping)
            listen.tick(sweep)
    except BaseException:
        # A defect, or output that nobody reads any more: the state of what runs is still worth keeping.
        _let_commit(executor, driver.out, stops_asked)
        raise
    finally:
        executor.close()
    return sweep


class _Driver:
    """Hands jobs to the executor, and takes note of what becomes of them.

    ``out`` are the jobs that the executor has taken on and that have not ended.
    """

    def __init__(
        self,
        sweep: SweepState,
        executor: Executor,
        listen: SweepListener,
        clock: Callable[[], float],
        *,
        wait_for_others: bool,
    ) -> None:
        self.sweep = sweep
        self.executor = executor
        self.listen = listen
        self.clock = clock
        self.out: set[str] = set()
        self._wait_for_others = wait_for_others
        self._heard_at: dict[str, float] = {}
        self._attempts: Counter[str] = Counter()
        self._displaced = DisplacementCounter()
        self._hidden: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        self._elsewhere: set[str] = set()

    def hand_out(self) -> None:
        """Give the executor what it has room for, of the jobs that nobody else trains or has finished."""
        room = self.executor.capacity
        if len(self.out) >= room:
            return
        for run in list(self.sweep.waiting):
            if len(self.out) >= room:
                return
            if run in self.out or self._not_before.get(run, 0.0) > self.clock():
                continue
            if self._is_ours(job := self.sweep.waiting[run]):
                self.out.add(run)
                self._attempts[run] += 1
                self.executor.submit(job)

    def follow(self, *, stopping: bool) -> None:
        """Wait a moment for what happens next, and take note of it."""
        events = self.executor.poll(POLL_SECONDS)
        self.out -= _ended(events)
        for event in events:
            if isinstance(event, Started):
                self.sweep.start(event.job, event.place, self.clock())
                self.listen.started(self.sweep, self.sweep.running[event.job.id])
            elif isinstance(event, Reported):
                self.sweep.hear(event.job, event.progress)
                self.listen.said(self.sweep, self.sweep.running[event.job.id])
            elif isinstance(event, Notice):
                self.listen.noted(event.text)
            else:
                self._note_end(event, stopping=stopping)

    def _is_ours(self, job: Job) -> bool:
        """Whether the job is ours to run now; one that another process has finished ends here, one it trains waits."""
        state = look_at(job.folder, job.run)
        if state.stage is Stage.RUNNING and not self._wait_for_others and self._owner_shows_life(job):
            self._end(job, "elsewhere", f"in training {state.detail}")
        elif state.stage is Stage.RUNNING:
            self._leave(job, state.detail)
        elif state.stage is Stage.COMPLETED:
            self._end(job, "elsewhere", None)
        elif state.stage is Stage.DIVERGED:
            self._end(job, "diverged", state.detail)
        elif state.stage in (Stage.DAMAGED, Stage.FOREIGN):
            self._end(job, "failed", f"{job.folder.record}: {state.stage.value}: {state.detail}")
        else:
            return True
        return False

    def _owner_shows_life(self, job: Job) -> bool:
        """Whether the run's owner is seen to live: on this machine, or by a heartbeat since the first look."""
        owner = owner_of(job.folder)
        return owner is not None and (
            owner.is_here or owner.heard_at != self._heard_at.setdefault(job.id, owner.heard_at)
        )

    def _note_end(self, ended: Ended, *, stopping: bool) -> None:
        job = ended.job
        if ended.displaced and not stopping:
            why = ended.cause or ended.last_words or "its place was lost"
            if self._displaced.may_continue(ended):
                self._attempts[job.id] -= 1
                self.sweep.put_back(job)
                self.listen.postponed(self.sweep, job, f"{why}; it goes on elsewhere from its last checkpoint")
                return
            why += f"\nThat was {MAX_DISPLACEMENTS} times in a row without coming any further."
            ended = replace(ended, fate="failed", cause=why)
        self._attempts[job.id] += ended.attempts - 1
        fate, cause = fate_of(ended, stopping=stopping)
        if fate == "elsewhere":
            owner = owner_of(job.folder)
            self._attempts[job.id] -= 1
            self.sweep.put_back(job)
            self._leave(job, f"by {owner}" if owner else None)
            return
        if fate == "failed":
            # The note only informs; a full disk, which may be the failure's own cause, must not end the sweep.
            with contextlib.suppress(OSError):
                write_failure(job.folder, cause or "")
            again = None if stopping or ended.displaced else retry_job(ended, self._attempts[job.id])
            if again is not None:
                self.sweep.put_back(again)
                self.listen.postponed(self.sweep, again, f"{cause}\nIt is tried again from its last checkpoint.")
                return
        self._end(job, fate, cause)

    def _leave(self, job: Job, owner: str | None) -> None:
        """Look at the job again later: soon where its owner is to be seen, and ever later where it is not."""
        self._hidden[job.id] = 0 if owner else self._hidden[job.id] + 1
        self._not_before[job.id] = self.clock() + RECHECK_SECONDS * min(2 ** self._hidden[job.id], 30)
        if job.id not in self._elsewhere:
            self._elsewhere.add(job.id)
            self.listen.postponed(self.sweep, job, f"in training {owner or 'by another process'}; it is waited for")

    def _end(self, job: Job, fate: Fate, cause: str | None) -> None:
        self.listen.ended(self.sweep, self.sweep.end(job, fate, cause, self.clock()))


def _let_commit(executor: Executor, out: set[str], stops_asked: Callable[[], int]) -> None:
    """Ask what runs to commit and end, and wait for it, within reason."""
    executor.stop()
    deadline = time.monotonic() + LAST_SECONDS
    while out and time.monotonic() < deadline and stops_asked() < 2:
        out = out - _ended(executor.poll(POLL_SECONDS))


def _ended(events: Sequence[Event]) -> set[str]:
    return {event.job.id for event in events if isinstance(event, Ended)}


def fate_of(ended: Ended, *, stopping: bool) -> tuple[Fate, str | None]:
    """What became of a job, and the cause where it did not complete."""
    if ended.fate is not None:
        return ended.fate, ended.cause
    status, last = ended.returncode, ended.last
    if status == OwnedElsewhere.exit_code:
        return "elsewhere", None
    # The message comes after the record is on disk: whatever ended the process then, the run is done.
    if status == 0 or (last is not None and last.phase == "completed"):
        return "completed", None
    if last is not None and last.phase == "diverged":
        return "diverged", last.message
    if stopping and status in _ASKED_TO_STOP:
        return "interrupted", None
    return "failed", _cause(status, last, ended.last_words)


def _reason_to_stop(sweep: SweepState, stops_asked: int, fail_fast: bool) -> str | None:
    if stops_asked:
        return "interrupted"
    if fail_fast and sweep.count("failed", "diverged"):
        first = sweep.having("failed", "diverged")[0]
        return f"{first.job.id} {first.fate}, and --fail-fast was given"
    return None


def _cause(status: int, last: Progress | None, last_words: str | None) -> str:
    """What a person should read about a failure: the worker's own word, else how it ended and what it left behind."""
    if last is not None and last.phase == "failed" and last.message:
        return last.message
    if status < 0:
        number = -status
        name = signal.Signals(number).name if number in {one.value for one in signal.Signals} else f"signal {number}"
        how = f"killed by {name}"
        if name == "SIGKILL":
            how += " (the kernel does so when memory runs out)"
    elif status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        how = f"stopped by a {signal.Signals(status - 128).name} from outside this sweep; its state is committed"
    else:
        how = f"ended with exit code {status}"
    return f"{how}\n{last_words}" if last_words else how
