"""Random faults while this machine, a Ray and a SLURM train the same runs: every step is saved once, in order.

``PYTHONPATH=tests/reliability python tests/clusters/chaos.py --seconds 300 --seed 1`` kills drivers, workers, tasks,
nodes and controllers and restarts them. Then all finish undisturbed, and one more sweep has to find every run recorded.
Needs root, for SLURM.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import ray_cluster
from cluster_sweep import WORKER
from drivers import ENGINES, Drivers
from slurm_cluster import NODES, SlurmCluster, slurm_cluster

from repro.results import load_records
from repro.results.ownership import owner_of

SEEDS = 4
STEPS_A_SECOND = 1.6  # of each run: six at a time have their fill for about as long as there are faults


class Chaos:
    """Random faults; what one took away is restored before the next."""

    def __init__(self, drivers: Drivers, slurm: SlurmCluster, ray: Any, chance: random.Random) -> None:
        self._drivers = drivers
        self._slurm = slurm
        self._ray = ray
        self._chance = chance
        self.done: Counter[str] = Counter()
        self._faults: dict[str, Callable[[], bool]] = {
            "a driver killed": self.kill_driver,
            "a worker killed": lambda: self._kill_one(str(WORKER)),
            "a task of SLURM killed": lambda: self._kill_one("submitit.core._submit"),
            "a task of Ray killed": lambda: self._kill_one("ray::tiny/"),
            "a task of SLURM requeued": self.requeue,
            "a slurmd killed": self.kill_slurmd,
            "the controller killed": self.kill_controller,
            "a node of Ray lost": self.lose_raylet,
        }

    def strike(self) -> None:
        """One fault."""
        fault = self._chance.choice(sorted(self._faults))
        if self._faults[fault]():
            self.done[fault] += 1

    def restore(self) -> None:
        """Restart what was killed."""
        for name in {"slurmctld", *NODES} - self._slurm.running():
            self._slurm.start(name)
        if not self._ray.workers:
            self._ray.workers.append(self._ray.add_node(num_cpus=4, num_gpus=1, **ray_cluster.NODE))
        for by in set(ENGINES) - self._drivers.running():
            self._drivers.begin(by)

    def kill_driver(self) -> bool:
        running = sorted(self._drivers.running())
        if running:
            self._drivers.kill(self._chance.choice(running))
        return bool(running)

    def requeue(self) -> bool:
        tasks = self._slurm.run("squeue", "-h", "--array", "--states=RUNNING", "--format=%i", check=False).split()
        if tasks:
            self._slurm.run("scontrol", "requeue", self._chance.choice(tasks), check=False)
        return bool(tasks)

    def kill_slurmd(self) -> bool:
        self._slurm.kill(self._chance.choice(NODES))
        time.sleep(self._chance.uniform(0, 15))
        return True

    def kill_controller(self) -> bool:
        self._slurm.kill("slurmctld")
        time.sleep(self._chance.uniform(0, 10))
        return True

    def lose_raylet(self) -> bool:
        self._ray.remove_node(self._ray.workers.pop(), allow_graceful=False)
        return True

    def _kill_one(self, name: str) -> bool:
        found = sorted(processes_of(name, str(self._drivers.sweep.folder)))
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(found), signal.SIGKILL)
        return bool(found)


def processes_of(name: str, folder: str) -> Iterator[int]:
    """The processes of that name that work on ``folder``; of Ray's tasks, all: they do not say on what."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if name in command and (folder in command or name.startswith("ray::")):
                yield int(process.name)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=180.0)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder, slurm_cluster() as slurm:
        os.environ |= slurm.environment
        with ray_cluster.cluster(1, gpus=1) as ray:
            drivers = Drivers(Path(folder), ray.address, seeds=SEEDS, steps=round(STEPS_A_SECOND * given.seconds))
            with contextlib.closing(drivers):
                chaos = Chaos(drivers, slurm, ray, chance)
                until = time.monotonic() + given.seconds
                while time.monotonic() < until:
                    chaos.restore()
                    time.sleep(chance.uniform(1, 8))
                    chaos.strike()
                chaos.restore()
                print("; ".join(f"{count} x {fault}" for fault, count in sorted(chaos.done.items())), flush=True)
                print(drivers.ends(seconds=900), flush=True)
                drivers.begin("local")
                print(drivers.ends(seconds=900), flush=True)
                return report(drivers)


def report(drivers: Drivers) -> int:
    """Print the outcome; 0 if every step was saved at most once, in order, and every run is recorded."""
    sweep = drivers.sweep
    by_run: dict[str, list[int]] = {}
    for event in sweep.audit():
        by_run.setdefault(event["run"], []).append(event["step"])
    again = sum(later <= earlier for steps in by_run.values() for earlier, later in pairwise(steps))
    lives = sweep.lives()
    recorded = sum(found.record is not None for found in load_records(sweep.results))
    owned = sum(owner_of(job.folder) is not None for job in sweep.jobs())
    print(
        f"{len(sweep.runs)} runs in {lives} lives, {sum(map(len, by_run.values()))} steps: {again} saved again, "
        f"{recorded} recorded, {owned} still owned"
    )
    return int(bool(again or owned or recorded != len(sweep.runs)))


if __name__ == "__main__":
    sys.exit(main())
