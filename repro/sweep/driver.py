"""Drives a sweep from its first job to its last: keeps the executor busy, records failures, stops when asked.

The code is the same for this machine and for a cluster.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from repro.progress import Progress
from repro.results import write_failure
from repro.results.ownership import OwnedElsewhere, owner_of
from repro.sweep.executor import Ended, Event, Executor, Fate, Job, Notice, Reported, Started
from repro.sweep.retries import MAX_DISPLACEMENTS, DisplacementCounter, retry_job
from repro.sweep.survey import BLOCKED, FINISHED, WITH_ACCURACY, RunState, Stage, state_of
from repro.sweep.sweep_state import FinishedRun, RunningRun, SweepState

POLL_SECONDS = 0.2
RECHECK_SECONDS = 2.0  # between two checks of a run that another process trains
LAST_SECONDS = 60.0  # for workers to save a checkpoint when the sweep itself fails
# For the record of a run that a node reports as finished: an NFS client may not find a new file for 60 s (acdirmax).
RECORD_SECONDS = 70.0

_SIGNAL_NAMES = {number.value: number.name for number in signal.Signals}
# Exit codes of workers that were asked to stop, by the sweep or by a scheduler that signals all processes, perhaps
# before a worker has installed its handlers.
_ASKED_TO_STOP = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL}
_ASKED_TO_STOP |= {-signal.SIGINT, -signal.SIGUSR1, -signal.SIGUSR2, -signal.SIGHUP}


class SweepListener:
    """Follows a sweep, for a display. Each method is called right after the change; here they do nothing."""

    def started(self, sweep: SweepState, run: RunningRun) -> None:
        """A run started."""

    def reported(self, sweep: SweepState, run: RunningRun) -> None:
        """A run reported its progress."""

    def ended(self, sweep: SweepState, run: FinishedRun) -> None:
        """A run ended."""

    def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
        """A run waits: for another attempt, or for the process that trains it."""

    def noted(self, text: str) -> None:
        """The executor has a message about the whole sweep."""

    def stopping(self, sweep: SweepState, why: str) -> None:
        """No further run is started; running runs save a checkpoint."""

    def tick(self, sweep: SweepState) -> None:
        """Called several times a second."""


def run_sweep(
    jobs: Sequence[Job],
    executor: Executor,
    *,
    finished_before: int = 0,
    fail_fast: bool = False,
    wait_for_others: bool = True,
    stops_asked: Callable[[], int] = lambda: 0,
    listen: SweepListener | None = None,
) -> SweepState:
    """Run ``jobs`` and return how they ended; a run that fails is noted in its folder, and the others continue.

    A run that another process trains is waited for, and taken over if that process ends without finishing it. Without
    ``wait_for_others`` it is left to that process as soon as a heartbeat is seen, and taken over if there is none.

    ``stops_asked`` counts the requests to stop: after the first, running jobs save a checkpoint and end, after the
    second they are killed. With ``fail_fast`` the first failure is such a request, and so is an exception in a
    listener. Nothing is left running, however this returns.
    """
    listen = listen or SweepListener()
    sweep = SweepState(jobs, before=finished_before, capacity=executor.at_a_time)
    driver = _Driver(sweep, executor, listen, wait_for_others=wait_for_others)
    stopping = killed = False
    try:
        while driver.submitted or (sweep.waiting and not stopping):
            if not stopping and (why := _reason_to_stop(sweep, stops_asked(), fail_fast)):
                stopping = True
                executor.stop()
                listen.stopping(sweep, why)
            if not killed and stops_asked() > 1:
                killed = True
                executor.kill()
            if not stopping:
                driver.submit_waiting()
            driver.handle_events(stops_asked, stopping=stopping)
            listen.tick(sweep)
    except BaseException:
        # A bug, or output that nobody reads any more: running jobs still get to save a checkpoint.
        executor.stop()
        deadline = time.monotonic() + LAST_SECONDS
        while driver.submitted and time.monotonic() < deadline and stops_asked() < 2:
            driver.submitted -= _ended(executor.poll(POLL_SECONDS))
        raise
    finally:
        executor.close()
    return sweep


class _Driver:
    """Submits jobs to the executor and records how they end. ``submitted`` are the jobs that have not ended."""

    def __init__(self, sweep: SweepState, executor: Executor, listen: SweepListener, *, wait_for_others: bool) -> None:
        self.sweep = sweep
        self.executor = executor
        self.listen = listen
        self.submitted: set[str] = set()
        self._wait_for_others = wait_for_others
        self._attempts: Counter[str] = Counter()
        self._displaced = DisplacementCounter()
        # Of runs that other processes train, by id: which were announced (and whether as silent), their owner's
        # heartbeat at the first check, how often in a row no owner was seen, and when to check again.
        self._announced: set[tuple[str, bool]] = set()
        self._first_heartbeat: dict[str, float] = {}
        self._unseen: Counter[str] = Counter()
        self._not_before: dict[str, float] = {}
        # The ends that nodes report and whose records do not show here yet, and until when each is waited for.
        self._unrecorded: list[Ended] = []
        self._record_by: dict[str, float] = {}

    def submit_waiting(self) -> None:
        """Give the executor as many jobs as it has room for; skip those that another process trains or has finished."""
        room = self.executor.capacity - len(self.submitted)
        if room <= 0:
            return
        for run, job in list(self.sweep.waiting.items()):
            if run in self.submitted or self._not_before.get(run, 0.0) > time.monotonic():
                continue
            if self._is_ours(job):
                self.submitted.add(run)
                self._attempts[run] += 1
                self.executor.submit(job)
                room -= 1
                if not room:
                    return

    def handle_events(self, stops_asked: Callable[[], int], *, stopping: bool) -> None:
        """Wait a moment for events of the executor, and record them; a request to stop may come while it waits."""
        unrecorded, self._unrecorded = self._unrecorded, []
        events = [*unrecorded, *self.executor.poll(POLL_SECONDS)]
        self.submitted -= _ended(events)
        for event in events:
            if isinstance(event, Started):
                self.sweep.start(event.job, event.place, time.monotonic())
                self.listen.started(self.sweep, self.sweep.running[event.job.id])
            elif isinstance(event, Reported):
                self.sweep.hear(event.job, event.progress)
                self.listen.reported(self.sweep, self.sweep.running[event.job.id])
            elif isinstance(event, Notice):
                self.listen.noted(event.text)
            else:
                self._handle_end(event, stopping=stopping or stops_asked() > 0)

    def _is_ours(self, job: Job) -> bool:
        """Whether to train the job now. One that another process has finished ends here; one that it trains waits."""
        state = state_of(job.folder, job.run)
        if state.stage is Stage.RUNNING and not self._wait_for_others and self._owner_is_alive(job):
            self._end(job, "elsewhere", f"in training {state.detail}")
        elif state.stage is Stage.RUNNING:
            self._wait_for_owner(job)
        elif state.stage in WITH_ACCURACY:
            self._end(job, "elsewhere", None)
        elif state.stage is Stage.DIVERGED:
            self._end(job, "diverged", state.detail)
        elif state.stage in BLOCKED:
            self._end(job, "failed", f"{job.folder.record}: {state.stage.value}: {state.detail}")
        else:
            return True
        return False

    def _owner_is_alive(self, job: Job) -> bool:
        """Whether the run's owner lives: it is on this machine, or its heartbeat has changed since the first check."""
        owner = owner_of(job.folder)
        return owner is not None and (
            owner.is_here or owner.heartbeat_at != self._first_heartbeat.setdefault(job.id, owner.heartbeat_at)
        )

    def _handle_end(self, ended: Ended, *, stopping: bool) -> None:
        job = ended.job
        state = state_of(job.folder, job.run)
        if ended.fate in ("completed", "diverged") and state.stage not in FINISHED:
            now = time.monotonic()
            if now < self._record_by.setdefault(job.id, now + RECORD_SECONDS):
                self._unrecorded.append(ended)
                self.submitted.add(job.id)
                return
        if ended.displaced and not stopping and state.stage not in FINISHED:
            why = ended.cause or ended.last_words or "its node or job was lost"
            if self._displaced.may_continue(ended):
                self._attempts[job.id] -= 1
                self._put_back(job, f"{why}; it resumes elsewhere from its last checkpoint")
                return
            why += f"\nThat was {MAX_DISPLACEMENTS} times in a row without progress; it appears to crash its nodes."
            ended = replace(ended, fate="failed", cause=why)
        self._attempts[job.id] += ended.attempts - 1
        fate, cause = _recorded_fate(ended, state, *fate_of(ended, stopping=stopping))
        if fate == "elsewhere":
            self._attempts[job.id] -= 1
            self.sweep.put_back(job)
            self._wait_for_owner(job)
            return
        if fate == "failed":
            # The note only informs; a full disk, which may be the failure's own cause, must not end the sweep.
            with contextlib.suppress(OSError):
                write_failure(job.folder, cause or "")
            again = None if stopping or ended.displaced else retry_job(ended, self._attempts[job.id])
            if again is not None:
                self._put_back(again, f"{cause}\nIt is tried again from its last checkpoint.")
                return
        self._end(job, fate, cause)

    def _put_back(self, job: Job, why: str) -> None:
        self.sweep.put_back(job)
        self.listen.postponed(self.sweep, job, why)

    def _wait_for_owner(self, job: Job) -> None:
        """Check the job again later: soon if its owner can be seen, at growing intervals if not.

        Who owns it is announced once, and again when that falls silent.
        """
        owner = owner_of(job.folder)
        self._unseen[job.id] = 0 if owner else self._unseen[job.id] + 1
        self._not_before[job.id] = time.monotonic() + RECHECK_SECONDS * min(2 ** self._unseen[job.id], 30)
        silence = owner.silence if owner else ""
        if (job.id, bool(silence)) not in self._announced:
            self._announced |= {(job.id, False), (job.id, bool(silence))}
            by = f"{owner or 'another process'}{silence}"
            self.listen.postponed(self.sweep, job, f"in training by {by}; waiting for it")

    def _end(self, job: Job, fate: Fate, cause: str | None) -> None:
        self.listen.ended(self.sweep, self.sweep.end(job, fate, cause, time.monotonic()))


def _ended(events: Sequence[Event]) -> set[str]:
    return {event.job.id for event in events if isinstance(event, Ended)}


def fate_of(ended: Ended, *, stopping: bool) -> tuple[Fate, str | None]:
    """How a job says that it ended, and the cause if it did not complete."""
    if ended.fate is not None:
        return ended.fate, ended.cause
    status, last = ended.returncode, ended.last
    if status == OwnedElsewhere.exit_code:
        return "elsewhere", None
    # This message is sent once the record is on disk: the run is done, whatever ended the process afterwards.
    if status == 0 or (last is not None and last.phase == "completed"):
        return "completed", None
    if last is not None and last.phase == "diverged":
        return "diverged", last.message
    if stopping and status in _ASKED_TO_STOP:
        return "interrupted", None
    return "failed", _cause(status, last, ended.last_words)


def _recorded_fate(ended: Ended, state: RunState, fate: Fate, cause: str | None) -> tuple[Fate, str | None]:
    """The ``fate`` of a job as the run's record has it, which alone says that the run finished, and has to be whole.

    A worker may be killed, or fail at its start, when the record is there already.
    """
    if state.stage in FINISHED and fate != "elsewhere":
        return ("completed" if state.stage in WITH_ACCURACY else "diverged"), state.detail
    if fate not in ("completed", "diverged"):
        return fate, cause
    is_there = state.stage in BLOCKED
    found = f"its record is not usable ({state.stage.value}: {state.detail})" if is_there else "it left no record"
    how = f"its process reported {fate!r} (exit code {ended.returncode}) but {found}: {ended.job.folder.record}"
    return "failed", f"{how}\n{ended.last_words}" if ended.last_words else how


def _reason_to_stop(sweep: SweepState, stops_asked: int, fail_fast: bool) -> str | None:
    if stops_asked:
        return "interrupted"
    if fail_fast and sweep.count("failed", "diverged"):
        first = sweep.having("failed", "diverged")[0]
        return f"{first.job.id} {first.fate}, and --fail-fast was given"
    return None


def _cause(status: int, last: Progress | None, last_words: str | None) -> str:
    """Why a run failed, for a person: the worker's own message, else its exit status and the end of its log."""
    if last is not None and last.phase == "failed" and last.message:
        return last.message
    if status == -signal.SIGKILL:
        how = "killed by SIGKILL (the kernel does so when memory runs out)"
    elif status < 0:
        how = f"killed by {_SIGNAL_NAMES.get(-status, f'signal {-status}')}"
    elif status in (128 + signal.SIGINT, 128 + signal.SIGTERM):
        how = f"stopped by a {_SIGNAL_NAMES[status - 128]} from outside this sweep; its checkpoint is saved"
    else:
        how = f"ended with exit code {status}"
    return f"{how}\n{last_words}" if last_words else how
