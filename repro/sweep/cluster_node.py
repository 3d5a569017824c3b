"""What happens on a node of a cluster, whichever backend started this process there.

A backend gives a node plain data: jobs, and the settings of their sweep. The node trains them as this machine trains a
sweep of its own, on the devices that the backend gave to this process: with the same workers, logs, locks and retries.
The truth about a run is in its folder; what is returned here is a summary.

The results folder has to be the same one everywhere. The sweep's registration in it is the proof: a node that does not
find that writes nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from repro.errors import UserError
from repro.experiment.schema import Run
from repro.interruption import StopRequests
from repro.machine import find_gpus, usable_cores
from repro.progress import Progress
from repro.results import RunFolder
from repro.sweep.devices.slots import VISIBLE, Slot, choose_slots, cpu_slots, gpu_slots
from repro.sweep.driver import run_sweep
from repro.sweep.executor import Ended, Event, Fate, Job
from repro.sweep.local.executor import LocalExecutor
from repro.sweep.local.gpu_memory import GpuMemoryReservations
from repro.sweep.local.watchdog import CHECK_SECONDS, SILENT_CHECKS, Watchdog
from repro.sweep.registry import Registration, StopPoller
from repro.sweep.sweep_state import SweepState
from repro.wording import duration

Device = Literal["auto", "cpu", "cuda"]

VISIBLE_SECONDS = 30.0  # a shared file system may show a new file to other machines only after a while


class NotShared(UserError):
    """The results folder on this node is not the one that the sweep writes to."""


@dataclass(frozen=True)
class NodeSettings:
    """What the jobs of a sweep have in common on a node. Plain data.

    ``results`` is the results folder, an absolute path, and ``sweep`` the id under which the sweep is registered in it.
    ``threads`` are the CPU threads of each run; None shares the cores that this process may use. At a time, a process
    trains ``jobs_per_gpu`` runs on each of its GPUs, or ``jobs`` on the CPU (None: one for each core); ``shares_gpus``
    says that other processes of the sweep have parts of the same GPUs. ``command`` replaces ``biasrepro`` in tests.
    """

    sweep: str
    results: str
    device: Device = "auto"
    threads: int | None = None
    jobs_per_gpu: int = 1
    jobs: int | None = None
    shares_gpus: bool = False
    command: tuple[str, ...] | None = None


@dataclass(frozen=True)
class RemoteJob:
    """A run for a node to train, as plain data: the run itself, and the arguments of ``biasrepro`` that train it.

    Paths in the arguments are absolute: a node has another working folder.
    """

    id: str
    run: Mapping[str, Any]
    arguments: tuple[str, ...]
    alone: bool = False

    @classmethod
    def of(cls, job: Job) -> RemoteJob:
        """``job``, as it is sent to a node."""
        return cls(job.id, job.run.model_dump(mode="json"), job.arguments, job.alone)

    def job(self, results: Path) -> Job:
        """The job again, in the results folder as this node sees it."""
        run = Run.model_validate(dict(self.run))
        return Job(run, RunFolder.of(results, run), self.arguments, self.alone)


@dataclass(frozen=True)
class RemoteResult:
    """How a job on a node ended. Plain data.

    ``fate`` and ``cause`` are the node's decision after so many ``attempts``, 0 for a job that was not started; fate
    ``interrupted`` means that the node was told to stop (a signal, the backend, ``--stop``), and that the run can
    resume elsewhere at once. ``returncode``, ``last`` and ``last_words`` are as in ``Ended``, of the last attempt.
    ``place`` names the node and what it trained on.
    """

    id: str
    fate: Fate
    cause: str | None
    place: str
    attempts: int = 0
    returncode: int = 0
    last: Progress | None = None
    last_words: str | None = None

    def ended(self, job: Job, *, shared: bool = False) -> Ended:
        """The event for the executor that gave ``job`` to the node; an interrupted run is displaced, not failed."""
        return Ended(
            job,
            self.returncode,
            self.last,
            self.last_words,
            shared=shared,
            fate=self.fate,
            cause=self.cause,
            attempts=max(1, self.attempts),
            displaced=self.fate == "interrupted",
        )


def run_on_node(
    jobs: Sequence[RemoteJob], settings: NodeSettings, *, stops_asked: Callable[[], int] = lambda: 0
) -> list[RemoteResult]:
    """Train ``jobs`` on the devices that this process was given, and return how each ended, in their order.

    ``CUDA_VISIBLE_DEVICES`` as the backend set it says which GPUs. A run that fails is tried again here as often as a
    sweep on one machine would. At a signal to stop (SIGTERM, SIGINT, SIGUSR1, SIGHUP; in the main thread only), at a
    request to stop the sweep, and once ``stops_asked`` counts one, the runs save a checkpoint and end as interrupted.
    Should this process die, its workers notice, save a checkpoint and end too.

    Raises NotShared if the results folder is another one here, and UserError if a device is missing.
    """
    results = Path(settings.results)
    requests = StopPoller(find_registration(results, settings.sweep))
    executor = _NodeExecutor(slots_here(settings), settings)
    wanted = [job.job(results) for job in jobs]
    # Python catches signals in the main thread alone.
    in_main_thread = threading.current_thread() is threading.main_thread()
    with StopRequests() if in_main_thread else nullcontext() as signals:

        def asked() -> int:
            """0 or 1: backends repeat themselves, so a second request does not ask for a kill."""
            return min(1, (signals.count if signals else 0) + stops_asked() + requests.count())

        sweep = run_sweep(wanted, executor, wait_for_others=False, stops_asked=asked)
    return [_result(job, sweep, executor) for job in wanted]


def find_registration(results: Path, sweep: str, *, seconds: float = VISIBLE_SECONDS) -> Registration:
    """The sweep's registration in the results folder as this node sees it; raises NotShared if none shows in time."""
    deadline = time.monotonic() + seconds
    while (registration := Registration.read(results, sweep)) is None:
        if time.monotonic() >= deadline:
            raise NotShared(
                f"on {socket.gethostname()} this is not the results folder that the sweep writes to",
                where=str(results),
                hint="Give a --results folder on a file system that all nodes share, under the same path on each.",
            )
        time.sleep(min(0.5, seconds))
    return registration


def slots_here(settings: NodeSettings) -> tuple[Slot, ...]:
    """The slots of this process: on the GPUs that the backend named, else on those of the machine, else on the CPU."""
    inherited = os.environ.get(VISIBLE)
    named = [entry.strip() for entry in (inherited or "").split(",") if entry.strip() not in ("", "-1", "NoDevFiles")]
    cores = usable_cores()
    if settings.device == "cpu" or (settings.device == "auto" and inherited is not None and not named):
        return cpu_slots(cores=cores, jobs=settings.jobs, threads=settings.threads)
    if named:  # the backend knows its devices; asking the driver again would take a second for each run
        return gpu_slots(named, wanted=None, jobs_per_gpu=settings.jobs_per_gpu, cores=cores, threads=settings.threads)
    return choose_slots(
        device=settings.device,
        gpus=find_gpus(),
        inherited=inherited,
        wanted=None,
        jobs_per_gpu=settings.jobs_per_gpu,
        jobs=settings.jobs,
        cores=cores,
        threads=settings.threads,
    )


class _NodeExecutor(LocalExecutor):
    """The executor of this machine; it also remembers how each job ended, and kills workers without a heartbeat."""

    def __init__(self, slots: Sequence[Slot], settings: NodeSettings) -> None:
        shares = settings.shares_gpus or settings.jobs_per_gpu > 1
        super().__init__(slots, settings.command, GpuMemoryReservations() if shares else None)
        self.ends: dict[str, Ended] = {}
        self.attempts: Counter[str] = Counter()
        gpus = dict.fromkeys(slot.environment[VISIBLE] for slot in slots if slot.device == "cuda")
        self.place = f"{socket.gethostname()} {'GPU ' + ','.join(gpus) if gpus else 'cpu'}"
        self._node_watch = Watchdog()
        self._silent: set[str] = set()

    def poll(self, timeout_seconds: float) -> list[Event]:
        """As ``LocalExecutor.poll``."""
        for worker in self._node_watch.hung(self._workers):
            self._silent.add(worker.job.id)
            worker.kill()
        events = [self._with_cause(event) for event in super().poll(timeout_seconds)]
        for event in events:
            if isinstance(event, Ended):
                self.ends[event.job.id] = event
                self.attempts[event.job.id] += 1
        return events

    def _with_cause(self, event: Event) -> Event:
        """The event; if a worker was killed here for its silence, its end gets that as the cause."""
        if not isinstance(event, Ended) or event.job.id not in self._silent:
            return event
        self._silent.remove(event.job.id)
        silence = duration(SILENT_CHECKS * CHECK_SECONDS)
        cause = f"its process on {self.place} sent no heartbeat for {silence}, and was killed"
        return replace(event, fate="failed", cause=cause) if event.returncode == -signal.SIGKILL else event


def _result(job: Job, sweep: SweepState, executor: _NodeExecutor) -> RemoteResult:
    """How ``job`` ended; one that was not started, or is not finished, is interrupted."""
    finished = next((run for run in sweep.finished if run.job.id == job.id), None)
    result = RemoteResult(job.id, "interrupted", None, executor.place, executor.attempts[job.id])
    if finished is not None:
        result = replace(result, fate=finished.fate, cause=finished.cause)
    if (last := executor.ends.get(job.id)) is not None:
        result = replace(result, returncode=last.returncode, last=last.last, last_words=last.last_words)
    return result
