"""Sweeps on a Ray cluster: a task of Ray core for each run, placed by the GPUs and CPUs that it reserves.

Ray schedules and tells which nodes are lost; nothing else is asked of it. What a run says is read from its folder, its
attempts are the node's, and a run whose node is lost is displaced: it is given out again. Ray does not retry.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.sweep.backends import RayOptions
from repro.sweep.cluster_node import RemoteJob, Terms, find_registration
from repro.sweep.driver import conduct
from repro.sweep.executor import Job
from repro.sweep.ray.cluster import (
    CONNECT_SECONDS,
    NAMESPACE,
    join,
    reserved,
    shut_down,
    told,
)
from repro.sweep.ray.executor import RayExecutor
from repro.sweep.registry import StopWatch


class RayEngine:
    """Ray, as ``executors.Engine`` asks for it."""

    def __init__(self, options: RayOptions) -> None:
        self._options = options

    def submission(self, jobs: Sequence[Job], terms: Terms) -> str:
        """The tasks that there would be, and what each reserves."""
        where = self._options.address or "a Ray on this machine, for the time of the sweep"
        with_gpus, without = (reserved(self._options, terms, gpus_there=there) for there in (True, False))
        each = f"{with_gpus}" if with_gpus == without else f"{with_gpus}; where there are no GPUs, {without}"
        lines = [f"ray    {where}", f"tasks  {len(jobs)}, each reserves {each}"]
        lines += [f"       {job.id}" for job in jobs[:3]] + (["       …"] if len(jobs) > 3 else [])
        return "\n".join(lines)

    def connect(self, terms: Terms) -> RayExecutor:
        """Join the cluster, or start a Ray on this machine. Raises UserError where neither is possible."""
        join(self._options.address)
        return RayExecutor(self._options, terms, leave=lambda answers: shut_down(answers=answers))

    def leave(self, jobs: Sequence[Job], terms: Terms) -> Mapping[str, str]:
        """Let an actor on the cluster conduct the sweep; it outlives this process, and a lost node too."""
        if self._options.address is None:
            raise UserError(
                "--detach leaves the work to a cluster that is there already",
                hint="Say which: --address auto, or --address HOST:6379. Or leave --detach out.",
            )
        join(self._options.address)
        import ray

        name = f"sweep-{terms.sweep}"
        conductor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(_Conductor)
        try:
            actor = conductor.options(name=name, namespace=NAMESPACE, lifetime="detached").remote(
                [RemoteJob.of(job) for job in jobs], terms, self._options
            )
            ray.get(actor.ready.remote(), timeout=CONNECT_SECONDS)
        except ray.exceptions.RayError as error:
            raise told(error) from error
        finally:
            shut_down()
        return {"address": self._options.address, "actor": name, "namespace": NAMESPACE}

    def drop(self, left: Mapping[str, str]) -> None:
        """Nothing: the actor notices the request to stop, and drops what it queued."""

    def is_over(self, left: Mapping[str, str]) -> bool:
        """No: the actor ends the sweep's registration itself."""
        return False


class _Conductor:
    """The actor that conducts a detached sweep. Made anew on another node where its own is lost."""

    def __init__(self, jobs: Sequence[RemoteJob], terms: Terms, options: RayOptions) -> None:
        self._jobs = jobs
        self._terms = terms
        self._options = options
        threading.Thread(target=self._conduct, daemon=True, name="conductor").start()

    def ready(self) -> bool:
        """Answers once the actor is there."""
        return True

    def _conduct(self) -> None:
        import ray

        try:
            results = Path(self._terms.results)
            registration = find_registration(results, self._terms.sweep)
            watch = StopWatch(registration)
            with registration.beating():
                try:
                    jobs = [job.job(results) for job in self._jobs]
                    conduct(jobs, RayExecutor(self._options, self._terms), stops_asked=watch.count)
                    registration.remove()
                except UserError as error:
                    registration.note_trouble(str(error))
                except Exception as error:
                    registration.note_trouble(f"a defect of biasrepro: {type(error).__name__}: {error}")
                    raise
        finally:
            ray.kill(ray.get_actor(f"sweep-{self._terms.sweep}", namespace=NAMESPACE), no_restart=True)
