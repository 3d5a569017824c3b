"""A detached sweep on a Ray cluster: an actor there runs the sweep, and outlives the command that started it."""

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
    """Start the actor. Raises UserError without an address, or if the cluster does not answer."""
    if options.address is None:
        raise UserError(
            "--detach needs a running Ray cluster",
            hint="Give its address: --address auto, or --address HOST:6379. Or leave out --detach.",
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
    """The actor that runs a detached sweep. Ray restarts it on another node if its own is lost."""

    def __init__(self, *work: Any) -> None:
        threading.Thread(target=_conduct, args=work, daemon=True, name="conductor").start()

    def ready(self) -> bool:
        """Return once the actor runs."""
        return True


def _conduct(remote_jobs: Sequence[RemoteJob], settings: NodeSettings, options: RayOptions) -> None:
    import ray

    try:
        results = Path(settings.results)
        registration = find_registration(results, settings.sweep)
        watch = StopPoller(registration)
        with registration.heartbeat():
            try:
                jobs = [job.job(results) for job in remote_jobs]
                executor = RayExecutor(options, settings, stays_connected=True)
                run_sweep(jobs, executor, stops_asked=watch.count)
                registration.remove()
            except UserError as error:
                registration.note_trouble(str(error))
            except Exception as error:
                registration.note_trouble(f"a bug in biasrepro: {type(error).__name__}: {error}")
                raise
    finally:
        ray.kill(ray.get_actor(f"sweep-{settings.sweep}", namespace=NAMESPACE), no_restart=True)
