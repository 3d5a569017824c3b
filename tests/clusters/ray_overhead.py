"""The overhead per run of Ray and this package: sweeps of runs that train nothing, on a real Ray on this machine.

A run is done once its record is there, so each puts a record that was written beforehand in its place.

``python tests/clusters/ray_overhead.py 500 1000 2000 4000`` prints seconds, milliseconds per run, the driver's memory,
and how far the seconds deviate from linear growth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import ray_cluster

sys.path.append(str(Path(__file__).parents[1] / "sweep"))
from fake_worker import record_of  # without torch, which the memory measured would have

from repro.cli.sweep.view import PlainSweepView
from repro.experiment.config import load_table
from repro.results import RunFolder
from repro.results.record import to_bytes
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.driver import run_sweep
from repro.sweep.executor import Job
from repro.sweep.ray.backend import RayBackend, RayOptions
from repro.sweep.registry import register
from repro.sweep.selection import selected_runs

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
    """A sweep of ``runs`` runs: wall time, the driver's CPU time, and the peak memory of the driver so far.

    The workers share the machine; their CPU time is in the wall time only.
    """

    runs: int
    seconds: float
    driver_seconds: float
    memory_mib: float

    def __str__(self) -> str:
        each, driver = 1000 * self.seconds / self.runs, 1000 * self.driver_seconds / self.runs
        return (
            f"{self.runs} runs in {self.seconds:.1f} s: {each:.1f} ms a run, {driver:.1f} of the driver's processor; "
            f"driver at most {self.memory_mib:.0f} MiB"
        )


def measure(address: str, folder: Path, count: int) -> Overhead:
    """Sweep ``count`` runs that only put their record in place on the cluster at ``address``, with plain progress."""
    folder.mkdir()
    results = folder / "results"
    results.mkdir()
    (folder / "idle.yaml").write_text(EXPERIMENT)
    runs = selected_runs(load_table(folder / "idle.yaml"), range(count // 2))
    jobs = []
    for number, run in enumerate(runs):
        record, place = folder / f"{number}.json", RunFolder.of(results, run)
        record.write_bytes(to_bytes(record_of(run)))
        jobs.append(Job(run, place, ("train", str(record), str(place.record))))
    with register(results, table="idle", executor="ray", command="biasrepro sweep idle").kept() as sweep:
        terms = NodeSettings(
            sweep.id, str(results), device="cpu", threads=1, command=("sh", "-c", 'exec install -D "$1" "$2"')
        )
        executor = RayBackend(RayOptions(address=address, gpus_per_job=0.5)).connect(terms)
        began, on_processor = time.monotonic(), time.process_time()
        with (folder / "shown.txt").open("w") as shown, contextlib.redirect_stdout(shown):
            state = run_sweep(jobs, executor, listen=PlainSweepView())
        seconds, driver_seconds = time.monotonic() - began, time.process_time() - on_processor
    assert state.count("completed") == len(jobs)
    return Overhead(len(jobs), seconds, driver_seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


@dataclass(frozen=True)
class Growth:
    """Linear fits of the seconds and of the driver's memory: a fixed part and a part per run.

    ``largest_deviation`` is the largest relative deviation of the seconds from their fit.
    """

    fixed_seconds: float
    ms_a_run: float
    largest_deviation: float
    fixed_mib: float
    kib_a_run: float

    @classmethod
    def of(cls, measured: Sequence[Overhead]) -> Growth:
        runs = [sweep.runs for sweep in measured]
        time_fit = statistics.linear_regression(runs, [sweep.seconds for sweep in measured])
        memory_fit = statistics.linear_regression(runs, [sweep.memory_mib for sweep in measured])
        deviations = []
        for sweep in measured:
            expected = time_fit.intercept + time_fit.slope * sweep.runs
            deviations.append(abs(sweep.seconds - expected) / expected)
        return cls(
            time_fit.intercept, 1000 * time_fit.slope, max(deviations), memory_fit.intercept, 1024 * memory_fit.slope
        )

    def __str__(self) -> str:
        return (
            f"linear within {100 * self.largest_deviation:.0f} %: {self.fixed_seconds:.1f} s and "
            f"{self.ms_a_run:.1f} ms a run; driver {self.fixed_mib:.0f} MiB and {self.kib_a_run:.1f} KiB a run"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("counts", type=int, nargs="*", default=[500, 1000, 2000, 4000, 10_000])
    options.add_argument("--output", type=Path, help="write the figures here")
    given = options.parse_args()
    # Ray lets its workers give way to everything else (nice 15): beside other work, that work would be measured.
    os.environ.setdefault("RAY_worker_niceness", "0")
    measured = []
    with ray_cluster.cluster(2) as cluster, tempfile.TemporaryDirectory() as folder:
        measure(cluster.address, Path(folder) / "first", 50)  # Ray's workers start
        for number, count in enumerate(given.counts):
            measured.append(measure(cluster.address, Path(folder) / str(number), count))
            print(measured[-1], flush=True)
    grown = Growth.of(measured)
    print(grown)
    if given.output is not None:
        import ray
        import torch

        from repro.engine.provenance import environment_facts
        from repro.machine import usable_cores

        facts = environment_facts(torch.device("cpu"))
        record = {
            "kind": "scale, Ray",
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": ["python", *sys.argv],
            "machine": {
                **{key: facts[key] for key in ("git_commit", "git_dirty", "python", "platform", "device_name")},
                "ray": ray.__version__,
                "cores": usable_cores(),
                "load_average": os.getloadavg(),
                "niceness": os.nice(0),
                "folder": tempfile.gettempdir(),
            },
            "measured": [asdict(sweep) for sweep in measured],
            "growth": asdict(grown),
        }
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
