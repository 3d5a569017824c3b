"""A sweep from its first job to its last: keeps the executor busy, notes failures, stops when asked.

Nothing here knows whether the jobs run on this machine or on a cluster.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from repro.progress import Progress
from repro.results import write_failure
from repro.results.lock import OwnedElsewhere
from repro.sweep.executor import Ended, Event, Executor, Job, Said, Started
from repro.sweep.picture import Fate, Finished, RunningRun, SweepPicture

POLL_SECONDS = 0.2
LAST_SECONDS = 60.0  # that workers get to commit when the sweep itself breaks down


class SweepListener(Protocol):
    """Whoever shows a sweep; each call says what just changed in the picture."""

    def started(self, picture: SweepPicture, run: RunningRun) -> None:
        """A run began."""

    def said(self, picture: SweepPicture, run: RunningRun) -> None:
        """A run reported."""

    def ended(self, picture: SweepPicture, run: Finished) -> None:
        """A run ended."""

    def stopping(self, picture: SweepPicture, why: str) -> None:
        """No further run is started; those in training commit their state."""

    def tick(self, picture: SweepPicture) -> None:
        """Time went by."""


class _Quiet:
    """A listener that shows nothing."""

    def started(self, picture: SweepPicture, run: RunningRun) -> None: ...
    def said(self, picture: SweepPicture, run: RunningRun) -> None: ...
    def ended(self, picture: SweepPicture, run: Finished) -> None: ...
    def stopping(self, picture: SweepPicture, why: str) -> None: ...
    def tick(self, picture: SweepPicture) -> None: ...


QUIET: SweepListener = _Quiet()


def conduct(
    jobs: Sequence[Job],
    executor: Executor,
    *,
    finished_before: int = 0,
    fail_fast: bool = False,
    stops_asked: Callable[[], int] = lambda: 0,
    listen: SweepListener = QUIET,
    clock: Callable[[], float] = time.monotonic,
) -> SweepPicture:
    """Run ``jobs`` and return the picture at the end; a run that fails is noted in its folder, and the rest goes on.

    ``stops_asked`` counts the requests to stop: after the first, running jobs commit their state and end, after the
    second they are killed. With ``fail_fast`` the first failure is such a request, and so is an exception in a
    listener. Nothing is left running, however this returns.
    """
    picture = SweepPicture(waiting=list(jobs), before=finished_before, capacity=executor.capacity)
    out: set[str] = set()  # jobs that the executor has taken on and that have not ended
    stopping = killed = False
    try:
        while out or (picture.waiting and not stopping):
            if not stopping and (why := _reason_to_stop(picture, stops_asked(), fail_fast)):
                stopping = True
                executor.stop()
                listen.stopping(picture, why)
            if not killed and stops_asked() > 1:
                killed = True
                executor.kill()
            for job in picture.waiting if not stopping else ():
                if len(out) >= executor.capacity:
                    break
                if job.id not in out:
                    out.add(job.id)
                    executor.submit(job)
            events = executor.poll(POLL_SECONDS)
            out -= _ended(events)
            for event in events:
                _take_note(event, picture, listen, stopping=stopping, now=clock())
            listen.tick(picture)
    except BaseException:
        # A defect, or output that nobody reads any more: the state of what runs is still worth keeping.
        _let_commit(executor, out, stops_asked)
        raise
    finally:
        executor.close()
    return picture


def _let_commit(executor: Executor, out: set[str], stops_asked: Callable[[], int]) -> None:
    """Ask what runs to commit and end, and wait for it, within reason."""
    executor.stop()
    deadline = time.monotonic() + LAST_SECONDS
    while out and time.monotonic() < deadline and stops_asked() < 2:
        out = out - _ended(executor.poll(POLL_SECONDS))


def _ended(events: Sequence[Event]) -> set[str]:
    return {event.job.id for event in events if isinstance(event, Ended)}


def judge(ended: Ended, *, stopping: bool) -> tuple[Fate, str | None]:
    """What became of a job, and the cause where it did not complete."""
    status, last = ended.returncode, ended.last
    if status == OwnedElsewhere.exit_code:
        return "elsewhere", None
    if status == 0:
        return "completed", None
    if last is not None and last.phase == "diverged":
        return "diverged", last.message
    if stopping and status in (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGKILL):
        return "interrupted", None
    return "failed", _cause(status, last, ended.last_words)


def _take_note(event: Event, picture: SweepPicture, listen: SweepListener, *, stopping: bool, now: float) -> None:
    if isinstance(event, Started):
        picture.start(event.job, event.place, now)
        listen.started(picture, picture.running[event.job.id])
    elif isinstance(event, Said):
        picture.hear(event.job, event.progress)
        listen.said(picture, picture.running[event.job.id])
    else:
        fate, cause = judge(event, stopping=stopping)
        if fate == "failed":
            # The note only informs; a full disk, which may be the failure's own cause, must not end the sweep.
            with contextlib.suppress(OSError):
                write_failure(event.job.folder, cause or "")
        listen.ended(picture, picture.end(event.job, fate, cause, now))


def _reason_to_stop(picture: SweepPicture, stops_asked: int, fail_fast: bool) -> str | None:
    if stops_asked:
        return "interrupted"
    if fail_fast and (failed := picture.having("failed", "diverged")):
        return f"{failed[0].job.id} {failed[0].fate}, and --fail-fast was given"
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
