"""What Ray and this package cost for each run: sweeps of runs that do nothing, on a real Ray of this machine.

``python tests/clusters/ray_overhead.py 500 1000 2000`` prints seconds, milliseconds a run, and the driver's memory.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import ray_cluster

from repro.config import load_table
from repro.results import RunFolder
from repro.sweep.conduct import conduct
from repro.sweep.executor import Job
from repro.sweep.executors import RayOptions
from repro.sweep.plan import selected_runs
from repro.sweep.ray import RayEngine
from repro.sweep.register import register
from repro.sweep.remote import Terms

EXPERIMENT = """\
table: idle
label: Idle
title: Runs that do nothing
kind: study
dataset: {name: digits}
recipe: {epochs: 1, learning_rate: 0.1}
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: a, title: A, model: squeezenet}
"""


@dataclass(frozen=True)
class Overhead:
    """A sweep of so many runs: its seconds, and the most memory that the driver has had so far."""

    runs: int
    seconds: float
    memory_mib: int

    def __str__(self) -> str:
        each = 1000 * self.seconds / self.runs
        return f"{self.runs} runs in {self.seconds:.1f} s: {each:.1f} ms a run; driver at most {self.memory_mib} MiB"


def measure(address: str, folder: Path, count: int) -> Overhead:
    """Sweep ``count`` runs, whose command does nothing, over the cluster at ``address``."""
    folder.mkdir()
    results = folder / "results"
    results.mkdir()
    (folder / "idle.yaml").write_text(EXPERIMENT)
    runs = selected_runs(load_table(folder / "idle.yaml"), range(count // 2))
    jobs = [Job(run, RunFolder.of(results, run), ("train", run.cell.id)) for run in runs]
    with register(results, table="idle", executor="ray", command="biasrepro sweep idle").kept() as sweep:
        terms = Terms(sweep.id, str(results), device="cpu", threads=1, command=("true",))
        executor = RayEngine(RayOptions(address=address, gpus_per_job=0.5)).connect(terms)
        began = time.monotonic()
        picture = conduct(jobs, executor)
        seconds = time.monotonic() - began
    assert len(picture.having("completed")) == len(jobs)
    return Overhead(len(jobs), seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("counts", type=int, nargs="*", default=[500, 1000, 2000])
    with ray_cluster.cluster(2) as cluster, tempfile.TemporaryDirectory() as folder:
        measure(cluster.address, Path(folder) / "first", 50)  # Ray's workers start
        for number, count in enumerate(options.parse_args().counts):
            print(measure(cluster.address, Path(folder) / str(number), count), flush=True)


if __name__ == "__main__":
    main()
