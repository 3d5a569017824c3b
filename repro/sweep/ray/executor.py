"""The executor for Ray: a task for each run; what runs say is read from their folders, lost ones are displaced."""

from __future__ import annotations

import contextlib
import queue
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.progress import Progress
from repro.results.files import file_time, file_version
from repro.results.ownership import SILENT_SECONDS, last_owner, owner_of
from repro.results.progress_file import read_progress
from repro.sweep.cluster_node import NodeSettings, RemoteJob, RemoteResult, run_on_node
from repro.sweep.executor import Ended, Event, Job, Reported, Started
from repro.sweep.ray.backend import RayOptions
from repro.sweep.ray.cluster import (
    HEAD_SECONDS,
    ClusterLost,
    Head,
    as_user_error,
    task_resources,
)
from repro.sweep.registry import Registration

LOOK_SECONDS = 1.0  # between two looks at what runs say,
LOOKS_AT_ONCE = 100  # of so many runs each time: a file server has others to serve
SILENCE_SECONDS = 10.0  # between two looks at the heartbeats of a run


class RayExecutor:
    """Runs jobs as Ray tasks. The process is connected to its cluster; ``leave`` is called when all is over."""

    def __init__(
        self, options: RayOptions, settings: NodeSettings, *, leave: Callable[[bool], None] = lambda answers: None
    ) -> None:
        import ray

        self._ray: Any = ray
        self._leave = leave
        self._results = Path(settings.results)
        self._head = Head(str(self._ray.get_runtime_context().gcs_address), self._resources)
        self._needs = task_resources(options, settings, gpus_there=self._ray.cluster_resources().get("GPU", 0) > 0)
        threads = settings.threads or max(1, int(self._needs.cpus))
        shares = 0 < self._needs.gpus < 1
        self._settings = replace(settings, threads=threads, jobs_per_gpu=1, jobs=1, shares_gpus=shares)
        self._task = self._ray.remote(max_retries=0)(_train)
        self._sweep = settings.sweep
        self._out: dict[str, _Out] = {}
        self._ready: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._turns: deque[str] = deque()
        self._events: list[Event] = []
        self._next_look = 0.0
        self._capacity = 0
        self._lost = False
        try:
            if not self.capacity:
                raise UserError(
                    f"no node of this Ray cluster has what a run reserves: {self._needs}",
                    hint="--gpus-per-job, --cpus-per-job and --memory-per-job say what a run reserves; "
                    "`ray status` what there is.",
                )
        except UserError:
            self._head.close()
            leave(True)
            raise

    @property
    def capacity(self) -> int:
        """How many runs the nodes that are there take at a time."""
        slots = sum(self._needs.slots(resources) for resources in self._head.nodes)
        self._capacity = slots or min(1, self._capacity)  # nodes that are lost may come back
        return self._capacity

    def submit(self, job: Job) -> None:
        """Hand a job to Ray, which places it as soon as its resources are free."""
        gpus = max(1.0, self._needs.gpus) if job.alone and self._needs.gpus else self._needs.gpus
        task = self._task.options(
            num_gpus=gpus,
            num_cpus=self._needs.cpus,
            memory=self._needs.memory_bytes,
            name=job.id,
        )
        former = last_owner(job.folder)
        seen, token = file_version(job.folder.progress), former.token if former is not None else None
        reference = task.remote(RemoteJob.of(job), self._settings)
        self._out[job.id] = _Out(job, reference, shared=0 < gpus < 1, seen=seen, former_owner=token)
        self._turns.append(job.id)
        reference.future().add_done_callback(partial(self._note_ready, job.id))

    def poll(self, timeout_seconds: float) -> list[Event]:
        """What happened since the last call. Raises ClusterLost, once, where the cluster does not answer any more."""
        if self._lost:
            return self._given_up(timeout_seconds)
        if self._head.is_silent:
            raise self._cluster_lost(f"Ray's head at {self._head.address} has not answered for {HEAD_SECONDS:.0f} s")
        events, self._events = self._events, []
        events += self._look()
        wait = 0.0 if events else timeout_seconds
        while True:
            try:
                run = self._ready.get(timeout=wait) if wait else self._ready.get_nowait()
            except queue.Empty:
                return events
            wait = 0.0
            if run in self._out:
                events += self._collect(self._out.pop(run))

    def stop(self) -> None:
        """Drop what waits, and ask what runs to commit and end: through Ray, and through the results folder."""
        registration = Registration.read(self._results, self._sweep)
        if registration is not None and registration.stop is None:
            with contextlib.suppress(OSError):
                registration.ask_to_stop()
        self._cancel(force=False)

    def kill(self) -> None:
        """End the tasks at once; workers that they leave behind notice, commit and end."""
        self._cancel(force=True)

    def close(self) -> None:
        """End what is left, and leave the cluster."""
        self.kill()
        self._out.clear()
        self._head.close()
        self._leave(self._answers)

    @property
    def _answers(self) -> bool:
        return not (self._lost or self._head.is_silent)

    def _cluster_lost(self, how: str) -> ClusterLost:
        self._lost = True
        return ClusterLost(
            how,
            hint="Nothing is lost: runs commit their state and end. Start the cluster again; the same command "
            "goes on from there.",
        )

    def _resources(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _note_ready(self, run: str, _: Any) -> None:
        self._ready.put(run)  # called by a thread of Ray's

    def _cancel(self, *, force: bool) -> None:
        if not self._answers:
            return
        for out in list(self._out.values()):
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(out.reference, force=force)

    def _given_up(self, timeout_seconds: float) -> list[Event]:
        """The ends of runs on a cluster that does not answer: nobody has them any more."""
        time.sleep(timeout_seconds)
        gone = [run for run, out in self._out.items() if owner_of(out.job.folder) is None]
        return [Ended(self._out.pop(run).job, -signal.SIGTERM, displaced=True) for run in gone]

    def _look(self) -> list[Event]:
        """What some of the runs in training say by now, and which of them have not been heard of for too long."""
        events: list[Event] = []
        now = time.monotonic()
        if now < self._next_look:
            return events
        self._next_look = now + LOOK_SECONDS
        file_now = cache(lambda: file_time(self._results))
        for _ in range(min(LOOKS_AT_ONCE, len(self._turns))):
            run = self._turns.popleft()
            if (out := self._out.get(run)) is None:
                continue
            self._turns.append(run)
            events += out.news()
            if now >= out.next_silence:
                out.next_silence = now + SILENCE_SECONDS
                events += self._silence(out, file_now)
        return events

    def _silence(self, out: _Out, now: Callable[[], float]) -> list[Event]:
        """The end of a run whose owner Ray believes alive, and which nobody has heard of for too long."""
        owner = last_owner(out.job.folder, now)
        if owner is None or owner.token == out.former_owner or owner.is_here or owner.silent_seconds < SILENT_SECONDS:
            return []  # a former owner's silence says nothing of a task that Ray has not begun
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.cancel(out.reference, force=True)
        del self._out[out.job.id]
        cause = f"{out.place or owner.host} has not been heard of for {owner.silent_seconds:.0f} s"
        return [*out.begun(owner.host), Ended(out.job, -signal.SIGKILL, out.last, cause=cause, displaced=True)]

    def _collect(self, out: _Out) -> list[Event]:
        """How a task ended. Raises UserError where nothing but the cluster itself is at fault."""
        errors = self._ray.exceptions
        try:
            end: RemoteResult = self._ray.get(out.reference)
        except errors.TaskCancelledError:
            return [*out.begun("a node"), Ended(out.job, -signal.SIGTERM, out.last, displaced=True)]
        except errors.RayTaskError as error:
            raise as_user_error(error) from error
        except errors.LocalRayletDiedError as error:
            self._out[out.job.id] = out  # no fault of the run, whose node may not even know
            raise self._cluster_lost("Ray's raylet on this machine is gone") from error
        except errors.RayError as error:
            cause = f"{out.place or 'its node'} was lost ({type(error).__name__})"
            return [*out.begun("a node"), Ended(out.job, -signal.SIGKILL, out.last, cause=cause, displaced=True)]
        events: list[Event] = out.begun(end.place)
        if end.last is not None:
            events.append(Reported(out.job, end.last))
        return [*events, end.ended(out.job, shared=out.shared)]


@dataclass
class _Out:
    """A job that Ray has: its reference, whether it shares a GPU, and what was seen of it.

    ``former_owner`` is the token of who had the run, and did not give it back, before Ray got it.
    """

    job: Job
    reference: Any
    shared: bool
    seen: tuple[int, int] | None
    former_owner: str | None
    place: str | None = None
    last: Progress | None = None
    next_silence: float = 0.0

    def news(self) -> list[Event]:
        """What the run said since it was last looked at."""
        changed = file_version(self.job.folder.progress)
        if changed is None or changed == self.seen:
            return []
        self.seen = changed
        if (live := read_progress(self.job.folder)) is None:
            return []
        events: list[Event] = self.begun(live.place)
        self.last = live.progress
        return [*events, Reported(self.job, live.progress)]

    def begun(self, place: str) -> list[Event]:
        """That the run began, where that was not told yet."""
        if self.place is not None:
            return []
        self.place = place
        return [Started(self.job, place)]


def _train(job: RemoteJob, settings: NodeSettings) -> RemoteResult:
    """The task: one run, on the node where Ray placed it."""
    return run_on_node([job], settings)[0]
