"""The executor for SLURM: runs as tasks of an array, followed by SLURM's queue and by the runs' own folders.

The jobs work by themselves: they save checkpoints, requeue themselves and write records. This side submits the runs
that are not in the queue, reports what becomes of them, and submits lost ones again. Should it die, the next sweep over
the same results finds the tasks by their batch's name and follows them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from repro.results.files import file_time
from repro.results.ownership import owner_of
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.executor import Ended, Event, Job, Notice, Reported
from repro.sweep.registry import Registration
from repro.sweep.slurm.backend import SlurmOptions, not_used_note
from repro.sweep.slurm.batch import Batch, batches, into_tasks, submit
from repro.sweep.slurm.ended_jobs import lost, recorded
from repro.sweep.slurm.queue import (
    Queued,
    SlurmError,
    cancel,
    cluster_name,
    ended_task,
    largest_array,
    queue_note,
    queued_tasks,
)
from repro.sweep.slurm.submitted_job import SubmittedJob
from repro.sweep.slurm.task import ends_file, read_ends
from repro.wording import duration

# The controller serves everybody: it is asked ever more rarely while nothing changes.
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 1.0, 30.0
# Between two checks of the folder of a run whose task is pending: another process may have finished it.
PENDING_POLL_SECONDS = 60.0
# An NFS client that did not find a task's results may go on not finding them for 60 s (acdirmax).
RESULT_SECONDS = 70.0
# What a task needs to exit after the last of its runs did.
LEAVING_SECONDS = 20.0
# A task that SLURM believes to be running is hung if none of its runs had a heartbeat for this long.
HUNG_SECONDS = 600.0


class SlurmExecutor:
    """Runs jobs as tasks of SLURM arrays. Raises SlurmError if the controller does not answer at the start."""

    capacity = 1_000_000  # practically all jobs: they wait in SLURM's queue,
    at_a_time = None  # where --array bounds how many run, and the cluster's other users do

    def __init__(self, options: SlurmOptions, settings: NodeSettings) -> None:
        self._options = options
        self._settings = settings
        self._results = Path(settings.results)
        self._queue = queued_tasks()
        self._largest = largest_array()
        self._cluster = cluster_name()
        self._batches: dict[str, Batch] = {}
        self._places: dict[str, tuple[Batch, int]] = {}
        self._find_queued_runs()
        self._waiting: dict[str, Job] = {}
        self._dropped: list[Event] = [Notice(note)] if (note := not_used_note()) else []
        self._jobs: dict[str, SubmittedJob] = {}
        self._numbers: list[str] = []
        self._heartbeats: dict[
            str, float
        ] = {}  # by task, when a heartbeat of its runs was last seen, in monotonic seconds
        self._cancelled: dict[str, str] = {}  # tasks that we cancelled, and why: their runs are submitted again
        self._abandoned: set[str] = set()  # tasks that are followed no more, but may run
        self._stopping = self._killed = False
        self._trouble = ""  # SLURM's latest error
        self._pause = FIRST_POLL_SECONDS
        self._next_check = self._next_hand_in = 0.0

    def submit(self, job: Job) -> None:
        """Follow the task that is in the queue with this job; without one, put it into the next array."""
        place = self._places.pop(job.id, None)
        if place is not None and not job.alone and (queued := self._queue.get((place[0].id, place[1]))) is not None:
            self._jobs[job.id] = SubmittedJob(job=job, batch=place[0], index=place[1], task=queued.id)
        else:
            self._waiting[job.id] = job

    def hand_in(self) -> None:
        """Submit the waiting jobs, as one array, or several if SLURM limits its size. Raises SlurmError."""
        tasks = into_tasks(list(self._waiting.values()), self._options, self._settings)
        arrays = [tasks[start : start + self._largest] for start in range(0, len(tasks), self._largest)]
        for array in arrays:
            share = None if self._options.array is None else max(1, self._options.array // len(arrays))
            batch, number = submit(array, self._options, self._settings, at_a_time=share)
            self._batches[batch.id] = batch
            self._numbers.append(number)
            for index, jobs in enumerate(array):
                task = f"{number}_{index}" if len(array) > 1 else number
                for job in jobs:
                    self._jobs[job.id] = SubmittedJob(job=job, batch=batch, index=index, task=task)
                    del self._waiting[job.id]
            if (registration := Registration.read(self._results, self._settings.sweep)) is not None:
                with contextlib.suppress(OSError):  # tasks that --stop does not find read its request when they start
                    registration.note_left(self.left())

    def left(self) -> Mapping[str, str]:
        """What finds the submitted arrays that are not over: their numbers, and the cluster that has them."""
        live = {job.number for job in self._jobs.values()}
        self._numbers = [number for number in self._numbers if number in live]
        if not self._numbers:
            return {}
        cluster = {"cluster": self._cluster} if self._cluster else {}
        return {"slurm": ",".join(self._numbers), **cluster}

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Submit waiting jobs, check the queue and the folders now and then, and report changes."""
        deadline = time.monotonic() + timeout_seconds
        events = [*self._dropped]
        self._dropped.clear()
        if time.monotonic() >= self._next_check:
            events += self._check_all()
            self._pause = FIRST_POLL_SECONDS if events else min(1.5 * self._pause, LAST_POLL_SECONDS)
            self._next_check = time.monotonic() + self._pause
        if not events:
            time.sleep(max(0.0, deadline - time.monotonic()))
        return events

    def stop(self) -> None:
        """Cancel pending tasks; ask running ones, by the sweep's registration, to save checkpoints and exit."""
        self._stopping = True
        self._next_check, self._pause = 0.0, FIRST_POLL_SECONDS
        self._dropped += [Ended(job, 0, fate="interrupted") for job in self._waiting.values()]
        self._waiting.clear()
        for sweep in {job.batch.sweep for job in self._jobs.values()}:
            if (registration := Registration.read(self._results, sweep)) is not None:
                with contextlib.suppress(OSError):
                    registration.ask_to_stop()
        running = {key for key, task in self._queue.items() if task.state == "RUNNING"}
        tasks = {job.task for job in self._jobs.values() if job.key not in running}
        with contextlib.suppress(SlurmError):  # tasks that still start find that the sweep was stopped
            cancel(sorted(tasks), only_pending=True)

    def kill(self) -> None:
        """Cancel everything."""
        self._killed = True
        self._next_check, self._pause = 0.0, FIRST_POLL_SECONDS
        with contextlib.suppress(SlurmError):  # close() repeats it
            cancel(sorted({job.task for job in self._jobs.values()} | self._abandoned))

    def close(self) -> None:
        """Leave nothing running, and delete the files of each batch that has left the queue."""
        left = dict(self._batches)
        deadline = time.monotonic() + LEAVING_SECONDS
        while True:
            self.kill()
            with contextlib.suppress(SlurmError):  # the controller was busy for a moment: it is asked again
                tasks = {task.id: batch for (batch, _), task in queued_tasks().items() if batch in left}
                for batch in left.keys() - set(tasks.values()):
                    if left[batch].remove():
                        del left[batch]
                cancel(tasks, only_pending=True)  # they requeued themselves, with nothing left to do
            if not left or time.monotonic() >= deadline:
                break
            time.sleep(FIRST_POLL_SECONDS)

    def _find_queued_runs(self) -> None:
        """Find the runs of this results folder in the queue; delete the files of old batches."""
        queued = {batch for batch, _ in self._queue}
        for batch in batches(self._results):
            # While its sweep is registered, another cluster that shares the folder may have it in its queue.
            if batch.id not in queued and Registration.read(self._results, batch.sweep) is None:
                batch.remove_if_stale()
            for index, runs in enumerate(batch.tasks):
                if (batch.id, index) in self._queue:
                    self._places |= dict.fromkeys(runs, (batch, index))

    def _check_all(self) -> list[Event]:
        events: list[Event] = []
        try:
            if self._waiting and time.monotonic() >= self._next_hand_in:
                self._next_hand_in = time.monotonic() + LAST_POLL_SECONDS
                self.hand_in()
                self._next_hand_in = 0.0
        except SlurmError as error:  # too many jobs for now, perhaps: the submitted ones are followed all the same
            events += self._note_trouble(error)
        try:
            self._queue = queued_tasks()
        except SlurmError as error:  # the controller is away: submitted jobs continue without it
            events += self._note_trouble(error)
            if self._stopping:
                events += self._ends_without_queue()
            return events
        if not self._waiting:
            self._trouble = ""
        events += self._note_new_jobs()
        file_now = cache(lambda: file_time(self._results))
        for job in list(self._jobs.values()):
            with contextlib.suppress(OSError):  # the file server failed for a moment: the next check sees more
                events += self._check_job(job, self._queue.get(job.key), file_now)
        return events

    def _note_trouble(self, error: SlurmError) -> list[Event]:
        """Report SLURM's error once; raise it if no submitted job could continue."""
        if not self._jobs and not self._stopping:
            raise error
        if error.what == self._trouble:
            return []
        self._trouble = error.what
        return [Notice(f"{error.what}; submitted jobs continue, and SLURM is asked again")]

    def _note_new_jobs(self) -> list[Event]:
        """Report the jobs that are in the queue since the last check, or were found there."""
        new = [job for job in self._jobs.values() if not job.noted]
        for job in new:
            job.noted = True
        return [queue_note(len(new), {job.number for job in new})] if new else []

    def _check_job(self, job: SubmittedJob, queued: Queued | None, file_now: Callable[[], float]) -> list[Event]:
        now = time.monotonic()
        if queued is not None and queued.state == "PENDING" and not queued.is_held and now < job.next_check:
            return []
        job.next_check = now + PENDING_POLL_SECONDS
        if (ended := self._end_of(job, queued)) is not None:
            return self._ended(job, ended)
        if queued is None or queued.state != "RUNNING":
            self._heartbeats.pop(job.task, None)
            if queued is not None and queued.is_held:
                self._cancel_task(job.task, "could not be launched, and was held")
            return []
        owner = owner_of(job.job.folder, file_now)
        if owner is not None and owner.heartbeat_at != job.heartbeat_at:
            job.heartbeat_at = owner.heartbeat_at
            self._heartbeats[job.task] = now
        elif now - self._heartbeats.setdefault(job.task, now) > HUNG_SECONDS:
            self._cancel_task(job.task, f"had no heartbeat for {duration(HUNG_SECONDS)}")
        if owner is None and job.place is None:
            return []
        return [*job.start(queued.node), *job.news()]

    def _ends_without_queue(self) -> list[Event]:
        """The ends of a sweep that stops while the controller is away: what the tasks wrote; once killed, all others.

        The tasks read the request to stop themselves, those that start later too.
        """
        events: list[Event] = []
        for job in list(self._jobs.values()):
            ended = None
            with contextlib.suppress(OSError):
                ended = _written_end(job)
            if ended is None and self._killed:
                cause = f"SLURM's job {job.task} was asked to stop; SLURM does not answer whether it has"
                ended = Ended(job.job, 0, job.last, fate="interrupted", cause=cause)
                self._abandoned.add(job.task)
            if ended is not None:
                events += self._ended(job, ended)
        return events

    def _ended(self, job: SubmittedJob, ended: Ended) -> list[Event]:
        """The events of a job that ended, which is followed no more."""
        del self._jobs[job.job.id]
        if ended.last is None or ended.last == job.last:
            return [ended]
        return [*job.start("a node"), Reported(job.job, ended.last), ended]

    def _end_of(self, job: SubmittedJob, queued: Queued | None) -> Ended | None:
        """The job's end: as it was written, or because its task is gone without results."""
        if (written := _written_end(job)) is not None:
            return written
        if queued is not None:
            job.gone_since = None
            return None
        job.gone_since = job.gone_since or time.monotonic()
        if time.monotonic() - job.gone_since < RESULT_SECONDS and not self._stopping:
            return None
        if (why := self._cancelled.get(job.task)) is not None and not self._stopping:
            return Ended(job.job, 0, job.last, cause=f"SLURM's job {job.task} {why}: cancelled", displaced=True)
        last_words = job.batch.last_words(job.task)
        ended = lost(job.job, job.task, ended_task(job.task), last_words, stopping=self._stopping)
        return replace(ended, last=job.last)

    def _cancel_task(self, task: str, why: str) -> None:
        """Cancel a task that will not continue; all its runs are submitted again once it has left the queue."""
        with contextlib.suppress(SlurmError):
            cancel([task])
            self._cancelled[task] = why
            self._heartbeats.pop(task, None)


def _written_end(job: SubmittedJob) -> Ended | None:
    """The job's end by its record, or by its task's results."""
    if (found := recorded(job.job)) is not None:
        return found
    ends = read_ends(ends_file(job.batch.folder, job.index))
    if ends is not None and (end := ends.get(job.job.id)) is not None:
        return end.ended(job.job, shared=len(ends) > 1)
    return None
