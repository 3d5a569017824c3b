"""The executor for this machine: a worker process for each job, as many at a time as there are slots."""

from __future__ import annotations

import contextlib
import selectors
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from repro.sweep.devices.slots import Slot
from repro.sweep.executor import Ended, Event, Job, Reported, Started
from repro.sweep.local.worker import Worker

# The public command itself: what a worker does, anybody can do by hand.
WORKER_COMMAND: tuple[str, ...] = (sys.executable, "-m", "repro")

_TICK_SECONDS = 0.1  # how soon a worker is missed whose output something else keeps open


class Reservations(Protocol):
    """Whether devices that runs share have room for one more."""

    def admits(self, job: Job, slot: Slot) -> bool:
        """Whether ``job`` may begin on ``slot`` now; if so, its room is kept for it."""

    def began(self, job: Job, pid: int) -> None:
        """The job is that process."""

    def left(self, job: Job) -> None:
        """The job needs its room no longer."""


class _NoReservations:
    def admits(self, job: Job, slot: Slot) -> bool:
        return True

    def began(self, job: Job, pid: int) -> None: ...
    def left(self, job: Job) -> None: ...


class LocalExecutor:
    """Runs jobs as processes on the slots of this machine."""

    def __init__(
        self, slots: Sequence[Slot], command: Sequence[str] | None = None, room: Reservations | None = None
    ) -> None:
        self._room = room or _NoReservations()
        self._free = deque(slots)
        self._capacity = len(slots)
        self._command = tuple(command or WORKER_COMMAND)
        self._waiting: deque[Job] = deque()
        self._workers: list[Worker] = []
        self._dropped: list[Ended] = []
        self._selector = selectors.DefaultSelector()

    @property
    def capacity(self) -> int:
        """The number of slots."""
        return self._capacity

    def submit(self, job: Job) -> None:
        """Take a job on; it begins at the next ``poll`` with a free slot."""
        self._waiting.append(job)

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Start what there is room for, and report what happened; waits up to ``timeout_seconds``."""
        deadline = time.monotonic() + timeout_seconds
        events = self._begin()
        while True:
            left = deadline - time.monotonic()
            for key, _ in self._selector.select(max(0.0, min(left, _TICK_SECONDS))):
                worker: Worker = key.data
                events += [Reported(worker.job, progress) for progress in worker.read()]
                if worker.silent:
                    self._selector.unregister(worker.output)
            events += self._collect_ended()
            if events or left <= 0:
                return events

    def stop(self) -> None:
        """Ask all workers to commit and end; what waits is dropped."""
        self._dropped += [Ended(job, -signal.SIGTERM) for job in self._waiting]
        self._waiting.clear()
        for worker in self._workers:
            worker.ask_to_stop()

    def kill(self) -> None:
        """Kill all workers at once."""
        for worker in self._workers:
            worker.kill()

    def close(self) -> None:
        """Kill whatever still runs and wait until it is gone."""
        self.kill()
        for worker in list(self._workers):
            self._retire(worker)
        self._selector.close()

    def _begin(self) -> list[Event]:
        events: list[Event] = [*self._dropped]
        self._dropped.clear()
        for job in list(self._waiting):
            if (slot := self._slot_for(job)) is None or not self._room.admits(job, slot):
                continue
            self._waiting.remove(job)
            try:
                worker = Worker(job, slot, self._command)
            except OSError as error:
                self._room.left(job)
                events.append(Ended(job, 1, last_words=f"no process could be started: {error}"))
                continue
            self._room.began(job, worker.process.pid)
            self._free.remove(slot)
            neighbours = [other for other in self._workers if other.slot.label == slot.label]
            for one in [worker, *neighbours] if neighbours else ():
                one.shared = True
            self._workers.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
            events.append(Started(job, slot.label))
        return events

    def _slot_for(self, job: Job) -> Slot | None:
        """A free slot, on an idle device for a job that is to be alone there; never beside such a job."""
        used = {worker.slot.label for worker in self._workers}
        taken = {worker.slot.label for worker in self._workers if worker.job.alone}
        closed = used if job.alone else taken
        return next((slot for slot in self._free if slot.label not in closed), None)

    def _collect_ended(self) -> list[Event]:
        events: list[Event] = []
        for worker in [worker for worker in self._workers if worker.ended]:
            events += [Reported(worker.job, progress) for progress in worker.read()]
            events.append(self._retire(worker))
        return events

    def _retire(self, worker: Worker) -> Ended:
        # Its output may have closed just now, as its last messages were read: a number left here is the next worker's.
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.output)
        self._workers.remove(worker)
        self._free.append(worker.slot)
        returncode, words = worker.close()
        self._room.left(worker.job)
        return Ended(worker.job, returncode, worker.last, words, worker.shared)
