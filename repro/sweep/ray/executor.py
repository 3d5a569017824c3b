"""The executor for Ray: a task for each run. Progress is read from the runs' folders; lost runs are displaced."""

from __future__ import annotations

import contextlib
import queue
import signal
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.results.files import file_time, file_version
from repro.results.ownership import SILENT_SECONDS, last_owner, owner_of
from repro.sweep.cluster_node import NodeSettings, RemoteJob, RemoteResult, run_on_node
from repro.sweep.executor import Ended, Event, Job, Reported
from repro.sweep.followed_job import FollowedJob
from repro.sweep.ray.backend import RayOptions
from repro.sweep.ray.cluster import HEAD_SECONDS, ClusterLost, Head, as_user_error, shut_down, task_resources
from repro.sweep.registry import Registration
from repro.wording import duration

CHECK_SECONDS = 1.0  # between two checks of the folders of runs,
CHECKED_AT_ONCE = 100  # of this many runs each time: a file server has others to serve
HEARTBEAT_CHECK_SECONDS = 10.0  # between two checks of the heartbeat of a run


@dataclass(kw_only=True)
class _Task(FollowedJob):
    """A job that was given to Ray: its reference, and whether it shares a GPU.

    ``former_owner`` is the token of the process that owned the run, and did not give it back, before Ray got it.
    """

    reference: Any
    shared: bool = False
    former_owner: str | None = None
    next_heartbeat_check: float = 0.0


class RayExecutor:
    """Runs jobs as Ray tasks. The process has joined the cluster; ``close`` leaves it unless ``stays_connected``."""

    def __init__(self, options: RayOptions, settings: NodeSettings, *, stays_connected: bool = False) -> None:
        import ray

        self._ray: Any = ray
        self._stays_connected = stays_connected
        self._results = Path(settings.results)
        self._sweep = settings.sweep
        self._head = Head(str(self._ray.get_runtime_context().gcs_address), self._resources)
        self._reserved = task_resources(options, settings, gpus_there=self._ray.cluster_resources().get("GPU", 0) > 0)
        threads = settings.threads or max(1, int(self._reserved.cpus))
        shares_gpus = 0 < self._reserved.gpus < 1
        self._settings = replace(settings, threads=threads, jobs_per_gpu=1, jobs=1, shares_gpus=shares_gpus)
        self._train = self._ray.remote(max_retries=0)(_train)
        self._tasks: dict[str, _Task] = {}
        self._turns: deque[str] = deque()
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._next_check = 0.0
        self._capacity = 0
        self._lost = False
        if not self.capacity:
            self.close()
            raise UserError(
                f"no node of this Ray cluster has what a run reserves: {self._reserved}",
                hint="--gpus-per-job, --cpus-per-job and --memory-per-job change what a run reserves; "
                "`ray status` shows what the nodes have.",
            )

    @property
    def capacity(self) -> int:
        """How many runs the present nodes take at a time."""
        slots = sum(self._reserved.slots(resources) for resources in self._head.nodes)
        self._capacity = slots or min(1, self._capacity)  # lost nodes may come back
        return self._capacity

    @property
    def at_a_time(self) -> int:
        """As ``capacity``."""
        return self.capacity

    def submit(self, job: Job) -> None:
        """Hand a job to Ray, which starts it as soon as its resources are free."""
        gpus = self._reserved.gpus
        if job.alone and gpus:
            gpus = max(1.0, gpus)
        function = self._train.options(
            num_gpus=gpus, num_cpus=self._reserved.cpus, memory=self._reserved.memory_bytes, name=job.id
        )
        former = last_owner(job.folder)
        seen = file_version(job.folder.progress)
        reference = function.remote(RemoteJob.of(job), self._settings)
        self._tasks[job.id] = _Task(
            job=job,
            seen=seen,
            reference=reference,
            shared=0 < gpus < 1,
            former_owner=former.token if former is not None else None,
        )
        self._turns.append(job.id)
        reference.future().add_done_callback(lambda _: self._done.put(job.id))  # called by a thread of Ray's

    def poll(self, timeout_seconds: float) -> list[Event]:
        """The events since the last call. Raises ClusterLost, once, if the cluster stops answering."""
        if self._lost:
            return self._give_up(timeout_seconds)
        if self._head.is_silent:
            raise self._cluster_lost(
                f"Ray's head at {self._head.address} has not answered for {duration(HEAD_SECONDS)}"
            )
        events = self._check_folders()
        wait = 0.0 if events else timeout_seconds
        while True:
            try:
                run = self._done.get(timeout=wait) if wait else self._done.get_nowait()
            except queue.Empty:
                return events
            wait = 0.0
            if run in self._tasks:
                events += self._collect(self._tasks.pop(run))

    def stop(self) -> None:
        """Drop waiting jobs, and ask running ones to save a checkpoint and exit: through Ray and the results folder."""
        registration = Registration.read(self._results, self._sweep)
        if registration is not None and registration.stop is None:
            with contextlib.suppress(OSError):
                registration.ask_to_stop()
        self._cancel(force=False)

    def kill(self) -> None:
        """End the tasks at once; workers that they leave behind notice, save a checkpoint and exit."""
        self._cancel(force=True)

    def close(self) -> None:
        """End the remaining tasks, and leave the cluster."""
        self.kill()
        self._tasks.clear()
        self._head.close()
        if not self._stays_connected:
            shut_down(answers=self._answers)

    @property
    def _answers(self) -> bool:
        return not (self._lost or self._head.is_silent)

    def _cluster_lost(self, what: str) -> ClusterLost:
        self._lost = True
        hint = "Nothing is lost: runs save a checkpoint and exit. Restart the cluster; the same command resumes them."
        return ClusterLost(what, hint=hint)

    def _resources(self) -> list[dict[str, float]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]

    def _cancel(self, *, force: bool) -> None:
        if not self._answers:
            return
        for task in list(self._tasks.values()):
            with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(task.reference, force=force)

    def _give_up(self, timeout_seconds: float) -> list[Event]:
        """The ends of runs on a cluster that does not answer, as soon as no process owns them any more."""
        time.sleep(timeout_seconds)
        ended = [run for run, task in self._tasks.items() if owner_of(task.job.folder) is None]
        return [Ended(self._tasks.pop(run).job, -signal.SIGTERM, displaced=True) for run in ended]

    def _check_folders(self) -> list[Event]:
        """Read the progress of some runs; end those without a heartbeat for too long."""
        events: list[Event] = []
        now = time.monotonic()
        if now < self._next_check:
            return events
        self._next_check = now + CHECK_SECONDS
        file_now = cache(lambda: file_time(self._results))
        for _ in range(min(CHECKED_AT_ONCE, len(self._turns))):
            run = self._turns.popleft()
            if (task := self._tasks.get(run)) is None:
                continue
            self._turns.append(run)
            events += task.news()
            if now >= task.next_heartbeat_check:
                task.next_heartbeat_check = now + HEARTBEAT_CHECK_SECONDS
                events += self._end_if_silent(task, file_now)
        return events

    def _end_if_silent(self, task: _Task, now: Callable[[], float]) -> list[Event]:
        """End a task that Ray believes alive, but whose run has had no heartbeat for too long."""
        owner = last_owner(task.job.folder, now)
        if owner is None or owner.token == task.former_owner:
            return []  # Ray has not started it: a former owner's silence does not matter
        if owner.is_here or owner.silent_seconds < SILENT_SECONDS:
            return []
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.cancel(task.reference, force=True)
        del self._tasks[task.job.id]
        cause = f"no heartbeat from {task.place or owner.host} for {duration(owner.silent_seconds)}"
        return [*task.start(owner.host), Ended(task.job, -signal.SIGKILL, task.last, cause=cause, displaced=True)]

    def _collect(self, task: _Task) -> list[Event]:
        """The end of a task. Raises UserError if the cluster itself is at fault."""
        errors = self._ray.exceptions
        try:
            end: RemoteResult = self._ray.get(task.reference)
        except errors.TaskCancelledError:
            return [*task.start("a node"), Ended(task.job, -signal.SIGTERM, task.last, displaced=True)]
        except errors.RayTaskError as error:
            if not isinstance(error.cause, UserError):
                raise as_user_error(error) from error
            # The node cannot train this run; others may.
            return [*task.start("a node"), Ended(task.job, 1, task.last, fate="failed", cause=str(error.cause))]
        except errors.LocalRayletDiedError as error:
            self._tasks[task.job.id] = task  # not the run's fault: its node may not even know
            raise self._cluster_lost("Ray's raylet on this machine is gone") from error
        except errors.RayError as error:
            cause = f"{task.place or 'its node'} was lost ({type(error).__name__})"
            return [*task.start("a node"), Ended(task.job, -signal.SIGKILL, task.last, cause=cause, displaced=True)]
        events = task.start(end.place)
        if end.last is not None:
            events.append(Reported(task.job, end.last))
        return [*events, end.ended(task.job, shared=task.shared)]


def _train(job: RemoteJob, settings: NodeSettings) -> RemoteResult:
    """The task: one run, on the node where Ray placed it."""
    return run_on_node([job], settings)[0]
