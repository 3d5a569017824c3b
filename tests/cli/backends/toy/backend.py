"""The toy backend: everything that ``biasrepro sweep --executor toy`` needs, and named nowhere else.

Attached, it trains with the executor of this machine. With --detach, a process of its own trains as a node does; its
queue is a folder with a file ``over`` once that process has ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from repro.errors import UserError
from repro.sweep.backends import Backend, Option, Reservation

if TYPE_CHECKING:
    from repro.sweep.cluster_node import NodeSettings
    from repro.sweep.executor import Job
    from repro.sweep.local.executor import LocalExecutor

WORKER = (sys.executable, str(Path(__file__).parents[3] / "sweep" / "fake_worker.py"))


class ToyBackend(Backend):
    name = "toy"
    own_options = (Option("--lane", "the lane.", "NAME"), Option("--laps", "the laps.", kind=int, minimum=1))
    has_queue = True

    def __init__(self, lane: str, laps: int) -> None:
        self._lane = lane
        self._laps = laps

    @classmethod
    def configured(cls, reservation: Reservation, given: Mapping[str, Any]) -> Self:
        if given["lane"] is None:
            raise UserError("--executor toy needs a lane", hint="Such as --lane fast.")
        return cls(given["lane"], given["laps"] or 1)

    @property
    def uses_gpus(self) -> bool:
        return False

    def submission(self, jobs: Sequence[Job], settings: NodeSettings) -> str:
        return f"lane   {self._lane}, {len(jobs)} jobs, {self._laps} laps"

    def connect(self, settings: NodeSettings) -> LocalExecutor:
        from repro.sweep.devices.slots import cpu_slots
        from repro.sweep.local.executor import LocalExecutor

        return LocalExecutor(cpu_slots(cores=2, jobs=2, threads=1), WORKER)

    def leave(self, jobs: Sequence[Job], settings: NodeSettings) -> Mapping[str, str]:
        from repro.sweep.cluster_node import RemoteJob

        queue = Path(settings.results) / ".toy" / settings.sweep
        queue.mkdir(parents=True)
        settings = replace(settings, jobs=2, command=WORKER)
        work = {"jobs": [asdict(RemoteJob.of(job)) for job in jobs], "settings": asdict(settings)}
        (queue / "work.json").write_text(json.dumps(work))
        with (queue / "log").open("w") as log:
            subprocess.Popen([sys.executable, __file__, str(queue)], stdout=log, stderr=log, start_new_session=True)
        return {"toy": str(queue)}

    @classmethod
    def drop(cls, left: Mapping[str, str]) -> None:
        (Path(left["toy"]) / "dropped").touch()

    @classmethod
    def is_over(cls, left: Mapping[str, str]) -> bool:
        return (Path(left["toy"]) / "over").exists()

    @classmethod
    def queue_command(cls, left: Mapping[str, str]) -> str | None:
        return f"ls {left['toy']}"


BACKEND = ToyBackend


def train(queue: Path) -> None:
    """Train what was left in ``queue``, as a node of the cluster."""
    from repro.sweep.cluster_node import NodeSettings, RemoteJob, run_on_node
    from repro.sweep.registry import Registration

    work = json.loads((queue / "work.json").read_text())
    settings = NodeSettings(**work["settings"])
    try:
        run_on_node([RemoteJob(**job) for job in work["jobs"]], settings)
    finally:
        (queue / "over").touch()
    registration = Registration.read(Path(settings.results), settings.sweep)
    if registration is not None and registration.stop is None:
        registration.remove()


if __name__ == "__main__":
    train(Path(sys.argv[1]))
