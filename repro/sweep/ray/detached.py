"""A sweep that is left to a Ray cluster: an actor there conducts it, and outlives the command that started it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from repro.errors import UserError
from repro.sweep.cluster_node import NodeSettings, RemoteJob, find_registration
from repro.sweep.driver import run_sweep
from repro.sweep.executor import Job
from repro.sweep.ray.backend import RayOptions
from repro.sweep.ray.cluster import CONNECT_SECONDS, NAMESPACE, as_user_error, join, shut_down
from repro.sweep.ray.executor import RayExecutor
from repro.sweep.registry import StopPoller


def leave(jobs: Sequence[Job], settings: NodeSettings, options: RayOptions) -> Mapping[str, str]:
    """Start the actor that conducts the sweep; it outlives this process. Ray restarts it where its node is lost.

    Raises UserError without an address, or where the cluster does not answer.
    """
    if options.address is None:
        raise UserError(
            "--detach needs a running Ray cluster",
            hint="Say which: --address auto, or --address HOST:6379. Or leave --detach out.",
        )
    join(options.address)
    import ray

    name = f"sweep-{settings.sweep}"
    conductor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)(_Conductor)
    try:
        actor = conductor.options(name=name, namespace=NAMESPACE, lifetime="detached").remote(
            [RemoteJob.of(job) for job in jobs], settings, options
        )
        ray.get(actor.ready.remote(), timeout=CONNECT_SECONDS)
    except ray.exceptions.RayError as error:
        raise as_user_error(error) from error
    finally:
        shut_down()
    return {"address": options.address, "actor": name, "namespace": NAMESPACE}


class _Conductor:
    """The actor that conducts a detached sweep. Ray restarts it on another node where its own is lost."""

    def __init__(self, jobs: Sequence[RemoteJob], settings: NodeSettings, options: RayOptions) -> None:
        self._jobs = jobs
        self._settings = settings
        self._options = options
        threading.Thread(target=self._conduct, daemon=True, name="conductor").start()

    def ready(self) -> bool:
        """Return once the actor runs."""
        return True

    def _conduct(self) -> None:
        import ray

        try:
            results = Path(self._settings.results)
            registration = find_registration(results, self._settings.sweep)
            watch = StopPoller(registration)
            with registration.heartbeat():
                try:
                    jobs = [job.job(results) for job in self._jobs]
                    run_sweep(jobs, RayExecutor(self._options, self._settings), stops_asked=watch.count)
                    registration.remove()
                except UserError as error:
                    registration.note_trouble(str(error))
                except Exception as error:
                    registration.note_trouble(f"a bug in biasrepro: {type(error).__name__}: {error}")
                    raise
        finally:
            ray.kill(ray.get_actor(f"sweep-{self._settings.sweep}", namespace=NAMESPACE), no_restart=True)
