"""What happens on a node of a cluster, whichever engine got the jobs there.

An engine gives a node plain data: jobs, and the settings of their sweep. The node trains them as this machine would
train a sweep of its own, on the devices that the engine gave to this process: with the same workers, logs, owners and
second attempts. What is true of a run stands in its folder; what comes back here is a summary.

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
from contextlib import AbstractContextManager, nullcontext
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
from repro.sweep.local.watchdog import LOOK_SECONDS, LOOKS, Watchdog
from repro.sweep.registry import Registration, StopWatch
from repro.sweep.sweep_state import SweepState

Device = Literal["auto", "cpu", "cuda"]

# File systems of clusters may show a new file to other machines only after a while.
VISIBLE_SECONDS = 30.0


class NotShared(UserError):
    """The results folder on this node is not the one that the sweep writes to."""


@dataclass(frozen=True)
class NodeSettings:
    """What the jobs of a sweep have in common on a node. Plain data.

    ``results`` is the results folder, an absolute path, and ``sweep`` the id under which the sweep is registered in it.
    ``device`` is what to train on (``auto``, ``cpu``, ``cuda``) and ``threads`` the CPU threads of each run; None
    shares the cores that this process may use. At a time, a process trains ``jobs_per_gpu`` runs on each of its GPUs,
    or ``jobs`` on the CPU (None: one for each core); ``shares_gpus`` says that other processes of the sweep have parts
    of the same GPUs. ``command`` takes the place of ``biasrepro`` in tests.
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
    """What became of a job on a node. Plain data.

    ``fate`` and ``cause`` are the node's judgement after so many ``attempts``; fate ``interrupted`` means that the
    node was told to stop (a signal, the engine, the sweep's own stop), and that the run can go on elsewhere at once.
    ``returncode``, ``last`` and ``last_words`` are as in ``Ended``, of the last attempt; a job that was not begun has
    0 attempts. ``place`` names the node and what it trained on.
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
        """The event for whoever gave ``job`` to the node; an interrupted run is displaced, not failed."""
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
    """Train ``jobs`` on the devices that this process was given, and say what became of each, in their order.

    ``CUDA_VISIBLE_DEVICES`` as the engine set it decides over the GPUs. A run that fails for reasons of its own is
    tried again at most twice, here. At a signal to stop (SIGTERM, SIGINT, SIGUSR1, SIGHUP; where this is the main
    thread), at a request to stop the sweep, and where ``stops_asked`` counts one, the runs commit their state and end
    as interrupted. Should this process die, its workers notice, commit and end too.

    Raises NotShared where the results folder is another one here, and UserError where a device is missing.
    """
    results = Path(settings.results)
    registration = find_registration(results, settings.sweep)
    slots = slots_here(settings)
    memory = GpuMemoryReservations() if settings.shares_gpus or settings.jobs_per_gpu > 1 else None
    executor = _NodeExecutor(slots, settings.command, memory)
    wanted = [job.job(results) for job in jobs]
    requests = StopWatch(registration)
    with _signals() as stop:
        sweep = run_sweep(
            wanted,
            executor,
            wait_for_others=False,
            # Engines repeat themselves, and several ways lead here: no second request means impatience.
            stops_asked=lambda: min(1, stop.count + stops_asked() + requests.count()),
        )
    return [_end(job, sweep, executor) for job in wanted]


def find_registration(results: Path, sweep: str, *, seconds: float = VISIBLE_SECONDS) -> Registration:
    """The sweep's registration in the results folder as this node sees it; waited for so long.

    Raises NotShared where it does not come to light.
    """
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
    """The slots of this process: on the GPUs that the engine named, else on those of the machine, else on the CPU."""
    inherited = os.environ.get(VISIBLE)
    named = [entry.strip() for entry in (inherited or "").split(",") if entry.strip() not in ("", "-1", "NoDevFiles")]
    cores = usable_cores()
    if settings.device == "cpu" or (settings.device == "auto" and inherited is not None and not named):
        return cpu_slots(cores=cores, jobs=settings.jobs, threads=settings.threads)
    if named:  # the engine knows its devices; asking the driver again would take a second for each run
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
    """The executor of this machine, which remembers how each job ended, and ends workers that fell silent."""

    def __init__(
        self, slots: Sequence[Slot], command: Sequence[str] | None, memory: GpuMemoryReservations | None
    ) -> None:
        super().__init__(slots, command, memory)
        self.ends: dict[str, Ended] = {}
        self.attempts: Counter[str] = Counter()
        self.place = place_of(slots)
        self._watch = Watchdog()
        self._silent: set[str] = set()

    def poll(self, timeout_seconds: float) -> list[Event]:
        """As ``LocalExecutor.poll``."""
        for worker in self._watch.hung(self._workers):
            self._silent.add(worker.job.id)
            worker.kill()
        events = [self._with_cause(event) for event in super().poll(timeout_seconds)]
        for event in events:
            if isinstance(event, Ended):
                self.ends[event.job.id] = event
                self.attempts[event.job.id] += 1
        return events

    def _with_cause(self, event: Event) -> Event:
        """The event; the end of a worker that was killed here for its silence says so."""
        if not isinstance(event, Ended) or event.job.id not in self._silent:
            return event
        self._silent.remove(event.job.id)
        minutes = LOOKS * LOOK_SECONDS / 60
        cause = f"its process on {self.place} gave no sign of life for {minutes:.0f} minutes, and was ended"
        return replace(event, fate="failed", cause=cause) if event.returncode == -signal.SIGKILL else event


def place_of(slots: Sequence[Slot]) -> str:
    """This node and the devices of ``slots``: ``node7 GPU 3``, ``node7 cpu``."""
    entries = dict.fromkeys(slot.environment.get(VISIBLE, "") for slot in slots if slot.device == "cuda")
    return f"{socket.gethostname()} {'GPU ' + ','.join(entries) if entries else 'cpu'}"


def _end(job: Job, sweep: SweepState, executor: _NodeExecutor) -> RemoteResult:
    """What is to be said of ``job``; one that nobody came to is interrupted."""
    finished = next((run for run in sweep.finished if run.job.id == job.id), None)
    last = executor.ends.get(job.id)
    fate: Fate = finished.fate if finished is not None else "interrupted"
    return RemoteResult(
        job.id,
        fate,
        finished.cause if finished is not None else None,
        executor.place,
        executor.attempts[job.id],
        last.returncode if last is not None else 0,
        last.last if last is not None else None,
        last.last_words if last is not None else None,
    )


class _NoSignals:
    """Stands for StopRequests where signals cannot be caught."""

    count = 0


def _signals() -> AbstractContextManager[StopRequests | _NoSignals]:
    if threading.current_thread() is threading.main_thread():
        return StopRequests()
    return nullcontext(_NoSignals())
