"""The executor of this machine: a worker process for each job, as many at a time as there are slots."""

from __future__ import annotations

import contextlib
import selectors
import signal
import time
from collections import defaultdict, deque
from collections.abc import Sequence

from repro.machine import python_command
from repro.results.process import stopped_process
from repro.sweep.devices.slots import Slot
from repro.sweep.executor import Ended, Event, Job, Notice, Started
from repro.sweep.local.gpu_memory import GpuMemoryReservations
from repro.sweep.local.watchdog import CHECK_SECONDS, Watchdog
from repro.sweep.local.worker import Worker
from repro.wording import duration

# The public command: a person can do by hand what a worker does.
WORKER_COMMAND: tuple[str, ...] = python_command("repro")

LOST_RUNS = 2  # different runs that lose a GPU one after the other: it is the GPU, not the run
NOTED_CHECKS = 5  # without a heartbeat, until a person is told: 50 s
_TICK_SECONDS = 0.1  # how soon a worker's end is noticed if another process keeps its output open


class LocalExecutor:
    """Runs jobs as processes on the slots of this machine, within the ``memory`` of the GPUs that they share."""

    def __init__(
        self, slots: Sequence[Slot], command: Sequence[str] | None = None, memory: GpuMemoryReservations | None = None
    ) -> None:
        self._memory = memory
        self._free = deque(slots)
        self._labels = {slot.label for slot in slots}
        self._lost: dict[str, set[str]] = defaultdict(set)  # by GPU: the runs that lost it since one did not
        self.capacity = self.at_a_time = len(slots)
        self._command = tuple(command or WORKER_COMMAND)
        self._waiting: deque[Job] = deque()
        self._workers: list[Worker] = []
        self._dropped: list[Ended] = []
        self._selector = selectors.DefaultSelector()
        self._watch = Watchdog(silent_checks=NOTED_CHECKS)

    def submit(self, job: Job) -> None:
        """Queue a job; it starts at the next ``poll`` with a free slot."""
        self._waiting.append(job)

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Start the jobs there is room for, and report what happened; waits up to ``timeout_seconds``."""
        deadline = time.monotonic() + timeout_seconds
        events = self._start_waiting()
        for silent in self._watch.hung(self._workers):
            seconds, pid = NOTED_CHECKS * CHECK_SECONDS, silent.process.pid
            text = f"{silent.job.id}: no heartbeat of process {pid} for {duration(seconds)}: {stopped_process(pid)}"
            events.append(Notice(text))
        while True:
            left = deadline - time.monotonic()
            for key, _ in self._selector.select(max(0.0, min(left, _TICK_SECONDS))):
                worker: Worker = key.data
                events += worker.read()
                if worker.output_closed:
                    self._selector.unregister(worker.output)
            for worker in [worker for worker in self._workers if worker.process.poll() is not None]:
                events += worker.read()
                ended = self._retire(worker)
                events += [ended, *self._judge_gpu(worker.slot.label, ended)]
            if events or left <= 0:
                return events

    def stop(self) -> None:
        """Ask all workers to save a checkpoint and exit; drop the waiting jobs."""
        self._dropped += [Ended(job, -signal.SIGTERM) for job in self._waiting]
        self._waiting.clear()
        for worker in self._workers:
            worker.ask_to_stop()

    def kill(self) -> None:
        """Kill all workers at once."""
        for worker in self._workers:
            worker.kill()

    def close(self) -> None:
        """Kill the workers that still run, and wait for them."""
        self.kill()
        for worker in list(self._workers):
            self._retire(worker)
        self._selector.close()

    def _start_waiting(self) -> list[Event]:
        events: list[Event] = [*self._dropped]
        self._dropped.clear()
        for job in list(self._waiting):
            slot = self._slot_for(job)
            if slot is None or (self._memory is not None and not self._memory.reserve(job, slot)):
                continue
            self._waiting.remove(job)
            try:
                worker = Worker(job, slot, self._command)
            except OSError as error:
                if self._memory is not None:
                    self._memory.release(job)
                events.append(Ended(job, 1, last_words=f"no process could be started: {error}"))
                continue
            if self._memory is not None:
                self._memory.hand_over(job, worker.process.pid)
            for neighbour in self._workers:
                if neighbour.slot.label == slot.label:
                    neighbour.shared = worker.shared = True
            self._free.remove(slot)
            self._workers.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
            events.append(Started(job, slot.label))
        return events

    def _slot_for(self, job: Job) -> Slot | None:
        """A free slot: on an idle device for a job that must be alone there, and never beside such a job.

        GPUs that fail are left out while another works: free at once, they would take every waiting run.
        """
        failing = {label for label, runs in self._lost.items() if len(runs) >= LOST_RUNS}
        used = {worker.slot.label for worker in self._workers}
        taken = {worker.slot.label for worker in self._workers if worker.job.alone}
        closed = used if job.alone else taken
        if failing < self._labels:
            closed = closed | failing
        return next((slot for slot in self._free if slot.label not in closed), None)

    def _judge_gpu(self, label: str, ended: Ended) -> list[Notice]:
        """Count the runs that lost this GPU one after the other; a notice when it is left out."""
        if ended.last is None or ended.last.trouble != "device_lost":
            self._lost.pop(label, None)
            return []
        runs = self._lost[label]
        known = len(runs) >= LOST_RUNS
        runs.add(ended.job.id)
        if known or len(runs) < LOST_RUNS or len(self._labels) == 1:
            return []
        return [
            Notice(f"{label}: {LOST_RUNS} runs lost it one after the other; no run starts there while another works")
        ]

    def _retire(self, worker: Worker) -> Ended:
        # Its output may have closed during the last read. A file descriptor left here would be the next worker's.
        with contextlib.suppress(KeyError):
            self._selector.unregister(worker.output)
        self._workers.remove(worker)
        self._free.append(worker.slot)
        returncode, last_words = worker.close()
        if self._memory is not None:
            self._memory.release(worker.job)
        return Ended(worker.job, returncode, worker.last, last_words, worker.shared)
