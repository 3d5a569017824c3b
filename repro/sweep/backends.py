"""Where a sweep's runs are trained: on this machine, on Ray, on SLURM. What each is told, and what each can do.

Neither Ray nor submitit is imported before its engine is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.sweep.cluster_node import Terms
    from repro.sweep.executor import Executor, Job

EngineName = Literal["ray", "slurm"]

# The package that an engine needs, and the module and class that speak to it.
_ENGINES: Mapping[EngineName, tuple[str, str, str]] = {
    "ray": ("ray", "repro.sweep.ray.backend", "RayEngine"),
    "slurm": ("submitit", "repro.sweep.slurm.backend", "SlurmEngine"),
}


@dataclass(frozen=True)
class RayOptions:
    """What Ray is told. ``address`` is the head's, or ``auto``; None starts a Ray on this machine for the sweep.

    Each run reserves ``gpus_per_job / jobs_per_gpu`` GPUs (``gpus_per_job`` None: 1 where the cluster has GPUs and the
    runs may use them, else 0), ``cpus_per_job`` CPUs (None: as many as its threads) and ``memory_gb``.
    """

    address: str | None = None
    gpus_per_job: float | None = None
    cpus_per_job: float | None = None
    memory_gb: float | None = None
    jobs_per_gpu: int = 1


@dataclass(frozen=True)
class SlurmOptions:
    """What SLURM is told. None leaves a setting to the cluster's own default.

    ``array`` is the most jobs at a time, ``setup`` are shell lines that come before the training (``module load``),
    ``extra`` are further settings of sbatch as pairs (``("constraint", "a100")``). A job trains several runs at a time:
    ``jobs_per_gpu`` on each of its GPUs.
    """

    partition: str | None = None
    time_minutes: int | None = None
    gpus_per_job: int | None = None
    cpus_per_job: int | None = None
    memory_gb: float | None = None
    array: int | None = None
    account: str | None = None
    qos: str | None = None
    setup: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()
    jobs_per_gpu: int = 1


class Engine(Protocol):
    """A cluster that can train the runs of a sweep. Jobs' paths are absolute, and the sweep is registered."""

    def submission(self, jobs: Sequence[Job], terms: Terms) -> str:
        """What would be submitted for ``jobs``, for ``--dry-run``. Submits nothing, and asks no cluster."""

    def connect(self, terms: Terms) -> Executor:
        """The executor that trains on the cluster. Raises UserError where the cluster does not answer."""

    def leave(self, jobs: Sequence[Job], terms: Terms) -> Mapping[str, str]:
        """Leave the jobs to the cluster, for ``--detach``; returns what finds them there again."""

    def drop(self, left: Mapping[str, str]) -> None:
        """Drop what ``leave`` queued and has not begun, where nobody on the cluster does. Runs stop by themselves."""

    def is_over(self, left: Mapping[str, str]) -> bool:
        """Whether nothing of what ``leave`` left is there any more, where nobody on the cluster says so by itself."""


def engine_of(name: EngineName, options: RayOptions | SlurmOptions) -> Engine:
    """The engine with that name. Raises UserError, with the command that installs it, where it is not there."""
    package, module, kind = _ENGINES[name]
    if importlib.util.find_spec(package) is None:
        raise UserError(
            f"--executor {name} needs {package}, which is not installed here",
            hint=f"pip install 'biasrepro[{name}]' installs it, here and on the nodes.",
        )
    engine: Engine = getattr(importlib.import_module(module), kind)(options)
    return engine
