"""What a sweep asks of whatever runs its jobs: this machine, or a cluster.

An executor places jobs as it sees fit and reports what becomes of them. It decides nothing else: which runs are left,
when to stop and what a failure means is ``conduct``'s, and the truth about a run is in its folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from repro.experiment.schema import Run
from repro.progress import Progress
from repro.results import RunFolder

Fate = Literal["completed", "diverged", "failed", "interrupted", "elsewhere"]


@dataclass(frozen=True)
class Job:
    """A run to be trained: its folder, and the arguments of ``biasrepro`` that train it (device and threads apart).

    ``alone`` asks for a device that no other job of the sweep uses meanwhile.
    """

    run: Run
    folder: RunFolder
    arguments: tuple[str, ...]
    alone: bool = False

    @property
    def id(self) -> str:
        """The run's id."""
        return self.run.id


@dataclass(frozen=True)
class Started:
    """A job began, at ``place`` (``cuda:0``, ``cpu``, a node)."""

    job: Job
    place: str


@dataclass(frozen=True)
class Reported:
    """A job reported where it stands."""

    job: Job
    progress: Progress


@dataclass(frozen=True)
class Ended:
    """A job's process is gone.

    ``returncode`` is as ``subprocess`` gives it (minus the signal that killed it); ``last`` is its last message, and
    ``last_words`` the end of its log; None where there is none. ``shared`` says whether other jobs of the sweep used
    its device.

    On a cluster a node has judged already what became of the run: its ``fate`` and ``cause``, after so many
    ``attempts``. ``displaced`` says that the run lost its place (a node that died, a job that was pre-empted) and
    is none the worse for it: it goes on elsewhere, and no attempt is counted.
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
    """What a person should know of the whole, such as where its jobs wait."""

    text: str


Event = Started | Reported | Ended | Notice


class Executor(Protocol):
    """Runs jobs. Not thread-safe: one conductor calls it."""

    @property
    def capacity(self) -> int:
        """How many jobs it is worth having out at once."""

    def submit(self, job: Job) -> None:
        """Take a job on. It begins now or when there is room; every job taken on comes to one ``Ended``."""

    def poll(self, timeout_seconds: float) -> list[Event]:
        """What happened since the last call, in order; waits up to ``timeout_seconds`` where nothing did."""

    def stop(self) -> None:
        """Ask every running job to commit its state and end."""

    def kill(self) -> None:
        """End every running job at once."""

    def close(self) -> None:
        """Leave nothing running."""
