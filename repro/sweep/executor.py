"""The interface between a sweep and what runs its jobs: this machine, or a cluster.

An executor decides where jobs run and reports what happens to them. It decides nothing else: which runs are left, when
to stop and whether to try again is up to ``driver``, and the truth about a run is in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol

from repro.experiment.schema import Run
from repro.progress import Progress
from repro.results import RunFolder

Fate = Literal["completed", "diverged", "failed", "interrupted", "elsewhere"]


@dataclass(frozen=True)
class Job:
    """A run to be trained: its folder, and the arguments of ``biasrepro`` that train it, except device and threads.

    ``alone`` asks for a device that no other job of the sweep uses at the same time.
    """

    run: Run
    folder: RunFolder
    arguments: tuple[str, ...]
    alone: bool = False

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id

    @property
    def plugins(self) -> tuple[str, ...]:
        """The files of the plugins that it is trained with: a node's own process loads none."""
        return tuple(value for option, value in pairwise(self.arguments) if option == "--plugin")


@dataclass(frozen=True)
class Started:
    """A job started, at ``place`` (``cuda:0``, ``cpu``, a node)."""

    job: Job
    place: str


@dataclass(frozen=True)
class Reported:
    """A job reported its progress."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A job's process ended.

    ``returncode`` is as ``subprocess`` gives it (minus the signal that killed it); ``last`` is its last message, and
    ``last_words`` the end of its log. ``shared`` says whether other jobs of the sweep used its device.

    On a cluster a node has already decided how the run ended: its ``fate`` and ``cause``, after so many ``attempts``.
    ``displaced`` says that the run lost its node or job (a crash, a pre-emption): it can resume elsewhere, and the
    attempt is not counted.
    """

    job: Job
    returncode: int
    last: Progress | None = None
    last_words: str | None = None
    shared: bool = False
    fate: Fate | None = None
    cause: str | None = None
    attempts: int = 1
    displaced: bool = False


@dataclass(frozen=True)
class Notice:
    """A message about the whole sweep, such as where its jobs wait."""

    text: str


Event = Started | Reported | Ended | Notice


class Executor(Protocol):
    """Runs jobs. Not thread-safe."""

    @property
    def capacity(self) -> int:
        """How many jobs to submit at once."""

    @property
    def at_a_time(self) -> int | None:
        """How many jobs run at a time; None if the cluster decides, and nobody knows beforehand."""

    def submit(self, job: Job) -> None:
        """Take a job. It starts now or when there is room; every job ends with one ``Ended``."""

    def poll(self, timeout_seconds: float) -> list[Event]:
        """What happened since the last call, in order; waits up to ``timeout_seconds`` if nothing did."""

    def stop(self) -> None:
        """Ask every running job to save a checkpoint and end."""

    def kill(self) -> None:
        """Kill every running job."""

    def close(self) -> None:
        """Leave nothing running."""
