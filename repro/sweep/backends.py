"""Backends: the clusters that ``biasrepro sweep --executor NAME`` can use, beside this machine.

A backend is a folder beside this file with a module ``backend`` whose ``BACKEND`` is a subclass of ``Backend``. It is
found by that alone. The command line imports the module for its options, so it imports its cluster's package, and
whatever else is slow, inside its methods.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Self

import repro.sweep
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.sweep.cluster_node import NodeSettings
    from repro.sweep.executor import Executor, Job
    from repro.sweep.registry import Registration

THIS_MACHINE = "local"  # the value of --executor for no cluster


@dataclass(frozen=True)
class Option:
    """A command-line option that belongs to a backend, such as ``--partition``. ``kind`` is ``str`` or ``int``."""

    flag: str
    help: str
    metavar: str | None = None
    kind: type[str] | type[int] = str
    minimum: int | None = None
    maximum: int | None = None
    repeatable: bool = False

    @property
    def name(self) -> str:
        """The key of its value: ``partition``."""
        return self.flag.removeprefix("--").replace("-", "_")


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """What a job reserves, by the options that all backends share; the backend chooses what is None."""

    gpus_per_job: float | None = None
    cpus_per_job: float | None = None
    memory_gb: float | None = None
    jobs_per_gpu: int = 1


class Backend(ABC):
    """A cluster that trains the runs of a sweep. The paths in its jobs are absolute, and the sweep is registered."""

    name: ClassVar[str]  # the value of --executor
    package: ClassVar[str | None] = None  # a Python package that it needs besides those of biasrepro,
    install: ClassVar[str] = ""  # and the command that installs it
    own_options: ClassVar[tuple[Option, ...]] = ()  # besides the options that all backends share
    # Whether the cluster itself holds and starts jobs: a detached sweep then runs on without a heartbeat of ours.
    has_queue: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def configured(cls, reservation: Reservation, given: Mapping[str, Any]) -> Self:
        """The backend with its options; ``given`` has the value of each of ``own_options``, None if it is absent.

        Raises UserError for a value that is not valid.
        """

    @property
    @abstractmethod
    def uses_gpus(self) -> bool:
        """Whether its jobs have GPUs, as far as the options tell."""

    @abstractmethod
    def submission(self, jobs: Sequence[Job], settings: NodeSettings) -> str:
        """The text of what would be submitted, for ``--dry-run``. Submits nothing, and does not contact the cluster."""

    @abstractmethod
    def connect(self, settings: NodeSettings) -> Executor:
        """The executor that trains on the cluster. Raises UserError if the cluster does not answer."""

    @abstractmethod
    def leave(self, jobs: Sequence[Job], settings: NodeSettings) -> Mapping[str, str]:
        """Leave the jobs to the cluster, for ``--detach``; returns what finds them there again.

        Returns an empty mapping if an earlier sweep has put all of them into its queue.
        """

    @classmethod
    def named(cls, sweep: Registration) -> Mapping[str, str]:
        """What of ``sweep.left`` bears the sweep's name in the queue: others may write to the results folder.

        Raises UserError if the cluster does not answer.
        """
        return sweep.left

    @classmethod
    def drop(cls, left: Mapping[str, str]) -> None:
        """For ``--stop``: cancel what waits in the cluster's queue. Running jobs read the request to stop themselves.

        Raises UserError if the cluster does not answer.
        """
        return

    @classmethod
    def is_over(cls, left: Mapping[str, str]) -> bool:
        """Whether the cluster's queue holds nothing of ``left`` any more; False if it does not answer."""
        return False

    @classmethod
    def queue_command(cls, left: Mapping[str, str]) -> str | None:
        """The shell command that shows ``left`` in the cluster's queue, if there is one."""
        return None


@cache
def backends() -> Mapping[str, type[Backend]]:
    """The backends by name, sorted."""
    found: list[type[Backend]] = []
    for folder in pkgutil.iter_modules(repro.sweep.__path__):
        module = f"{repro.sweep.__name__}.{folder.name}.backend"
        if folder.ispkg and importlib.util.find_spec(module) is not None:
            found.append(importlib.import_module(module).BACKEND)
    return {backend.name: backend for backend in sorted(found, key=lambda backend: backend.name)}


def queue_of(executor: str) -> type[Backend] | None:
    """The backend of that name if its cluster has a queue; None for any other, and for this machine."""
    backend = backends().get(executor)
    return backend if backend is not None and backend.has_queue else None


def has_left_queue(sweep: Registration) -> bool:
    """Whether a cluster's queue is known to hold nothing any more of what ``sweep`` left to it.

    False if the cluster does not answer, and for another user's sweep: a queue may show a user's own jobs only.
    """
    queue = queue_of(sweep.executor)
    try:
        is_own = sweep.path.lstat().st_uid == os.geteuid()
    except OSError:
        return False
    return queue is not None and bool(sweep.left) and is_own and queue.is_over(sweep.left)


def require_installed(backend: type[Backend]) -> None:
    """Raise UserError, with the command that installs it, if the backend's package is missing."""
    if backend.package is not None and importlib.util.find_spec(backend.package) is None:
        raise UserError(
            f"--executor {backend.name} needs {backend.package}, which is not installed here",
            hint=f"{backend.install} installs it, here and on the nodes.",
        )
