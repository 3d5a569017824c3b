"""Sweeps on a Ray cluster: a Ray task for each run, placed by the GPUs and CPUs that it reserves.

Ray only places tasks and reports lost nodes. Progress is read from the run's folder, the node retries failed attempts,
and the sweep submits the runs of a lost node again; Ray's own retries are off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from repro import machine
from repro.environment import not_used
from repro.errors import UserError
from repro.sweep.backends import Backend, Option, Reservation

if TYPE_CHECKING:
    from repro.sweep.cluster_node import NodeSettings
    from repro.sweep.executor import Job
    from repro.sweep.ray.executor import RayExecutor


@dataclass(frozen=True, kw_only=True)
class RayOptions(Reservation):
    """The options of Ray. ``address`` is the head's, or ``auto``; None starts a Ray on this machine for the sweep.

    Each run reserves ``gpus_per_job / jobs_per_gpu`` GPUs (``gpus_per_job`` None: 1 if the cluster has GPUs and the
    runs may use them, else 0), ``cpus_per_job`` CPUs (None: as many as its threads) and ``memory_gb``.
    """

    address: str | None = None


class RayBackend(Backend):
    """Ray."""

    name = "ray"
    package = "ray"
    install = "pip install 'biasrepro[ray]'"
    own_options = (
        Option("--address", "address of the cluster's head. Default: start a Ray on this machine.", "HOST:PORT|auto"),
    )

    def __init__(self, options: RayOptions) -> None:
        self._options = options

    @classmethod
    def configured(cls, reservation: Reservation, given: Mapping[str, Any]) -> Self:
        """The backend with the options of the command line. Raises UserError for GPUs that Ray does not reserve."""
        gpus = (reservation.gpus_per_job or 0.0) / reservation.jobs_per_gpu
        if gpus > 1 and not gpus.is_integer():  # Ray raises ValueError, but only once it is given the first run
            raise UserError(
                f"each run would reserve {gpus:g} GPUs, and Ray reserves a part of one GPU, or whole ones",
                where="--gpus-per-job" if reservation.jobs_per_gpu == 1 else "--gpus-per-job and --jobs-per-gpu",
                hint="Choose them so that --gpus-per-job divided by --jobs-per-gpu is at most 1, or a whole number.",
            )
        return cls(RayOptions(**vars(reservation), address=given["address"]))

    @property
    def uses_gpus(self) -> bool:
        """Whether runs use GPUs if there are some: a cluster may have some, this machine tells."""
        return self._options.gpus_per_job != 0 and (self._options.address is not None or bool(machine.find_gpus()))

    def submission(self, jobs: Sequence[Job], settings: NodeSettings) -> str:
        """The tasks, and what each reserves."""
        from repro.sweep.ray.cluster import task_resources

        where = self._options.address or "a Ray on this machine, for the time of the sweep"
        on_gpus = str(task_resources(self._options, settings, gpus_there=True))
        on_cpus = str(task_resources(self._options, settings, gpus_there=False))
        each = on_gpus if on_gpus == on_cpus else f"{on_gpus}; without GPUs, {on_cpus}"
        lines = [f"ray    {where}", f"tasks  {len(jobs)}, each reserves {each}"]
        lines += [f"       {job.id}" for job in jobs[:3]]
        if len(jobs) > 3:
            lines.append("       …")
        if names := not_used("RAY_ADDRESS"):
            lines.append(f"not used: {', '.join(names)}; --address says which cluster")
        return "\n".join(lines)

    def connect(self, settings: NodeSettings) -> RayExecutor:
        """Join the cluster, or start a Ray on this machine. Raises UserError if neither is possible."""
        from repro.sweep.ray.cluster import join
        from repro.sweep.ray.executor import RayExecutor

        join(self._options.address)
        return RayExecutor(self._options, settings)

    def leave(self, jobs: Sequence[Job], settings: NodeSettings) -> Mapping[str, str]:
        """Start an actor on the cluster that runs the sweep, obeys ``--stop`` and ends the registration."""
        from repro.sweep.ray.detached import leave

        return leave(jobs, settings, self._options)


BACKEND = RayBackend
