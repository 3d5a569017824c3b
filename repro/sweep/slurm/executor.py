"""The executor for SLURM: runs as tasks of an array, followed by the queue and by the runs' own folders.

The jobs need nobody to look after them: they commit, requeue themselves and record. This side submits what is not in
the queue yet, reports what becomes of it, and submits again what was lost without a word. Should it die, the next
sweep over the same results finds the tasks by their batch's name, and takes them for its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from repro.progress import Progress
from repro.results.files import file_time, file_version
from repro.results.ownership import owner_of
from repro.results.progress_file import read_progress
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.executor import Ended, Event, Job, Notice, Reported, Started
from repro.sweep.registry import Registration
from repro.sweep.slurm.backend import SlurmOptions
from repro.sweep.slurm.batch import Batch, batches, into_tasks, remove_if_stale, submit
from repro.sweep.slurm.ended_jobs import lost, recorded, unsaid
from repro.sweep.slurm.queue import Queued, SlurmError, cancel, ended_task, largest_array, queue_note, queued_tasks
from repro.sweep.slurm.task import read_ends

# Looks at the queue are a burden for everybody's controller: ever rarer while nothing changes.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 1.0, 30.0
# Between two looks at the folder of a run whose task has not begun: somebody else may have finished it.
PENDING_POLL_SECONDS = 60.0
# An NFS client that found no last word of a task may go on finding none for 60 s (acdirmax) after it was written.
RESULT_SECONDS = 70.0
# What a task needs to end after the last of its runs did.
LEAVING_SECONDS = 20.0
# A task that SLURM believes to be running, and none of whose runs gave a sign of life for so long, hangs.
HUNG_SECONDS = 600.0


@dataclass
class _Out:
    """A job at SLURM: its task, and what was seen of it; times are monotonic seconds."""

    job: Job
    batch: Batch
    index: int
    task: str
    told: bool = False
    started: bool = False
    last: Progress | None = None
    seen: tuple[int, int] | None = None
    gone_since: float | None = None
    heard_at: float = 0.0
    next_look: float = 0.0

    @property
    def key(self) -> tuple[str, int]:
        """Its task in the queue."""
        return self.batch.id, self.index


class SlurmExecutor:
    """Runs jobs as tasks of SLURM arrays. Raises SlurmError where the controller does not answer at the start."""

    def __init__(self, options: SlurmOptions, settings: NodeSettings) -> None:
        self._options = options
        self._settings = settings
        self._results = Path(settings.results)
        self._queue = queued_tasks()
        self._largest = largest_array()
        self._known: dict[str, Batch] = {}
        self._places: dict[str, tuple[Batch, int]] = {}
        self._adopt()
        self._waiting: dict[str, Job] = {}
        self._dropped: list[Event] = []
        self._out: dict[str, _Out] = {}
        self._numbers: list[str] = []
        self._heard: dict[str, float] = {}  # by task, when one of its runs was last seen to live, in monotonic seconds
        self._cancelled: dict[str, str] = {}  # by us, and why: the runs of these tasks are submitted again
        self._stopping = False
        self._trouble = ""  # what SLURM said last that it does not do
        self._pause = FIRST_POLL_SECONDS
        self._next_look = self._next_hand_in = 0.0

    @property
    def capacity(self) -> int:
        """All jobs are worth having out: SLURM's queue is the place to wait, ``--array`` bounds how many run."""
        return 1_000_000

    def submit(self, job: Job) -> None:
        """Take a job on: by the task that is in the queue with it, else by one of the next array."""
        place = self._places.pop(job.id, None)
        if place is not None and not job.alone and (queued := self._queue.get((place[0].id, place[1]))) is not None:
            self._out[job.id] = _Out(job, *place, queued.id)
        else:
            self._waiting[job.id] = job

    def hand_in(self) -> None:
        """Submit what waits, as one array, or several where it has more tasks than SLURM allows. Raises SlurmError."""
        tasks = into_tasks(list(self._waiting.values()), self._options, self._settings)
        arrays = [tasks[start : start + self._largest] for start in range(0, len(tasks), self._largest)]
        for array in arrays:
            share = None if self._options.array is None else max(1, self._options.array // len(arrays))
            batch, number = submit(array, self._options, self._settings, at_a_time=share)
            self._known[batch.id] = batch
            self._numbers.append(number)
            for index, jobs in enumerate(array):
                for job in jobs:
                    task = f"{number}_{index}" if len(array) > 1 else number
                    self._out[job.id] = _Out(job, batch, index, task)
                    del self._waiting[job.id]
            if (registration := Registration.read(self._results, self._settings.sweep)) is not None:
                with contextlib.suppress(OSError):  # what --stop cannot cancel then sees for itself when it begins
                    registration.note_left(self.left())

    def left(self) -> Mapping[str, str]:
        """What finds the submitted arrays that are not over: their numbers."""
        live = {out.task.partition("_")[0] for out in self._out.values()}
        self._numbers = [number for number in self._numbers if number in live]
        return {"slurm": ",".join(self._numbers)} if self._numbers else {}

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Submit what waits, look at the queue and the folders now and then, and report what changed."""
        deadline = time.monotonic() + timeout_seconds
        events = [*self._dropped]
        self._dropped.clear()
        if time.monotonic() >= self._next_look:
            events += self._look()
            self._pause = FIRST_POLL_SECONDS if events else min(1.5 * self._pause, LAST_POLL_SECONDS)
            self._next_look = time.monotonic() + self._pause
        if not events:
            time.sleep(max(0.0, deadline - time.monotonic()))
        return events

    def stop(self) -> None:
        """Cancel what has not begun, and ask the nodes to commit and end: they look at the sweep's registration."""
        self._stopping = True
        self._next_look, self._pause = 0.0, FIRST_POLL_SECONDS
        self._dropped += [Ended(job, 0, fate="interrupted") for job in self._waiting.values()]
        self._waiting.clear()
        for sweep in {out.batch.sweep for out in self._out.values()}:
            if (registration := Registration.read(self._results, sweep)) is not None:
                with contextlib.suppress(OSError):
                    registration.ask_to_stop()
        self._cancel(only_pending=True)

    def kill(self) -> None:
        """Cancel everything."""
        self._cancel(only_pending=False)

    def close(self) -> None:
        """Leave nothing running, and tidy up after the batches that are over."""
        self._cancel(only_pending=False)
        deadline = time.monotonic() + LEAVING_SECONDS
        with contextlib.suppress(SlurmError):
            while (left := self._still_queued()) and time.monotonic() < deadline:
                cancel([task.id for task in left.values()], only_pending=True)  # requeued, with nothing left to do
                time.sleep(FIRST_POLL_SECONDS)
            for batch in self._known.values():
                if batch.id not in {one for one, _ in left}:
                    batch.remove()

    def _still_queued(self) -> dict[tuple[str, int], Queued]:
        return {key: task for key, task in queued_tasks().items() if key[0] in self._known}

    def _adopt(self) -> None:
        """Find the runs of this results folder in the queue; files of batches long gone are swept up."""
        queued = {batch for batch, _ in self._queue}
        for batch in batches(self._results):
            if batch.id not in queued:
                remove_if_stale(batch)
                continue
            for index, runs in enumerate(batch.tasks):
                if (batch.id, index) in self._queue:
                    self._places |= dict.fromkeys(runs, (batch, index))

    def _look(self) -> list[Event]:
        events: list[Event] = []
        try:
            if self._waiting and time.monotonic() >= self._next_hand_in:
                self._next_hand_in = time.monotonic() + LAST_POLL_SECONDS
                self.hand_in()
                self._next_hand_in = 0.0
        except SlurmError as error:  # too many jobs for now, perhaps: what is out is followed all the same
            events += self._troubled(error)
        try:
            self._queue = queued_tasks()
        except SlurmError as error:  # the controller is away: what is out goes on without it
            return events + self._troubled(error)
        if not self._waiting:
            self._trouble = ""
        events += self._waits()
        file_now = cache(lambda: file_time(self._results))
        for out in list(self._out.values()):
            with contextlib.suppress(OSError):  # a file server's bad moment: the next look sees more
                events += self._look_at(out, self._queue.get(out.key), file_now)
        return events

    def _troubled(self, error: SlurmError) -> list[Event]:
        """Say once what SLURM did not do; raise it where nothing is out that goes on without."""
        if not self._out:
            raise error
        if error.what == self._trouble:
            return []
        self._trouble = error.what
        return [Notice(f"{error.what}; what is out goes on meanwhile, and SLURM is asked again")]

    def _waits(self) -> list[Event]:
        """Where the jobs wait that are in the queue since the last look, or were found there."""
        new = [out for out in self._out.values() if not out.told]
        for out in new:
            out.told = True
        return [queue_note(len(new), {out.task.partition("_")[0] for out in new})] if new else []

    def _look_at(self, out: _Out, queued: Queued | None, file_now: Callable[[], float]) -> list[Event]:
        now = time.monotonic()
        if queued is not None and queued.state == "PENDING" and not queued.is_held and now < out.next_look:
            return []
        out.next_look = now + PENDING_POLL_SECONDS
        if (ended := self._end_of(out, queued)) is not None:
            del self._out[out.job.id]
            return [*unsaid(ended, out.last, started=out.started), ended]
        if queued is None or queued.state != "RUNNING":
            self._heard.pop(out.task, None)
            if queued is not None and queued.is_held:
                self._cancel_one(out, "could not be launched, and was held")
            return []
        owner = owner_of(out.job.folder, file_now)
        if owner is not None and owner.heard_at != out.heard_at:
            out.heard_at = owner.heard_at
            self._heard[out.task] = now
        elif now - self._heard.setdefault(out.task, now) > HUNG_SECONDS:
            self._cancel_one(out, f"gave no sign of life for {HUNG_SECONDS / 60:.0f} minutes")
        events: list[Event] = []
        if owner is not None and not out.started:
            out.started = True
            events.append(Started(out.job, queued.node))
        changed = file_version(out.job.folder.progress)
        if out.started and changed != out.seen and (live := read_progress(out.job.folder)) is not None:
            out.seen, out.last = changed, live.progress
            events.append(Reported(out.job, live.progress))
        return events

    def _end_of(self, out: _Out, queued: Queued | None) -> Ended | None:
        """The job's end: by its record, by its task's last word, or by the task's being gone without one."""
        if (found := recorded(out.job)) is not None:
            return found
        ends = read_ends(out.batch.ends(out.index))
        if ends is not None and (end := ends.get(out.job.id)) is not None:
            return end.ended(out.job, shared=len(ends) > 1)
        if queued is not None:
            out.gone_since = None
            return None
        out.gone_since = out.gone_since or time.monotonic()
        if time.monotonic() - out.gone_since < RESULT_SECONDS and not self._stopping:
            return None
        words = out.batch.last_words(out.task)
        if (why := self._cancelled.get(out.task)) is not None and not self._stopping:
            cause = f"SLURM's job {out.task} {why}: it was cancelled"
            return Ended(out.job, 0, out.last, cause=cause, displaced=True)
        ended = lost(out.job, out.task, ended_task(out.task), words, stopping=self._stopping)
        return replace(ended, last=out.last)

    def _cancel(self, *, only_pending: bool) -> None:
        tasks = {out.task for out in self._out.values()}
        if only_pending:
            tasks = {out.task for out in self._out.values() if not self._is_begun(out)}
        with contextlib.suppress(SlurmError):  # what still begins finds that the sweep was stopped
            cancel(sorted(tasks), only_pending=only_pending)

    def _is_begun(self, out: _Out) -> bool:
        queued = self._queue.get(out.key)
        return queued is not None and queued.state == "RUNNING"

    def _cancel_one(self, out: _Out, why: str) -> None:
        """End a task that will not go on; it leaves the queue, and all its runs are submitted again."""
        try:
            cancel([out.task])
        except SlurmError:
            return
        self._cancelled[out.task] = why
        self._heard.pop(out.task, None)
