"""What threads, and how long they spin, do to one run on a machine that other work uses too.

    python benchmarks/busy.py -o benchmarks/records/busy/NAME.json [TABLE/ROW ...]

Each way is a number of threads and GOMP_SPINCOUNT, how often a thread looks before it sleeps (``default``: not set,
300,000 times; repro/environment.py sets 1000), or OMP_WAIT_POLICY=passive, under which it never looks. Every way is
timed beside no other work, then beside endless loops on as many cores as each load says, in turn in each round, so that
a change of the machine's speed meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from repro.bench.compare import Worker, worker
from repro.bench.configurations import Setting
from repro.engine.device import choose_device
from repro.engine.provenance import machine_facts
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.machine import usable_cores

POLICIES = ("default", "1000", "passive")


@contextmanager
def other_work(loops: int) -> Iterator[None]:
    """Endless loops in processes of their own while the block runs."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def started(processes: ExitStack, reference: str, threads: int, policy: str, batches: int) -> tuple[Worker, int]:
    """A process that trains the row's proposed loss in epochs of so many images."""
    table, _, name = reference.partition("/")
    found = find_table(table)
    (row,) = (row for row in found.rows if row.id == name)
    run = Run(cell=found.cell(row, found.proposed), seed=0)
    images = batches * run.cell.recipe.batch_size
    setting = Setting("format", run, "cpu", threads, 0, images)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    if policy != "default":
        environment["GOMP_SPINCOUNT" if policy.isdigit() else "OMP_WAIT_POLICY"] = policy
    request = {"work": "arm", "setting": setting.to_json()}
    process = processes.enter_context(worker(request, f"{reference}, {threads} threads", environment))
    process.wait_until_ready()
    return process, images


def measure(reference: str, loads: list[int], batches: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images per second of each round, by way and by load."""
    ways = [(1, "default"), *product((usable_cores(),), POLICIES)]
    with ExitStack() as processes:
        names = [f"{threads} thread{'s' * (threads > 1)}, {policy}" for threads, policy in ways]
        arms = [started(processes, reference, *way, batches) for way in ways]
        found: dict[str, dict[str, list[float]]] = {name: {str(load): [] for load in loads} for name in names}
        for _, load in product(range(rounds), loads):
            with other_work(load):
                for name, (arm, images) in zip(names, arms, strict=True):
                    found[name][str(load)].append(images / arm.ask("epoch")["seconds"])
    return found


def main() -> None:
    """Measure, print, and write the record if --output is given."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("cells", nargs="*", metavar="TABLE/ROW", default=["table2/shufflenetv2", "table2/squeezenet"])
    options.add_argument("--batches", type=int, default=5)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("-o", "--output", type=Path)
    given = options.parse_args()
    loads = list(range(usable_cores() + 1))
    figures = {}
    for reference in given.cells:
        figures[reference] = measure(reference, loads, given.batches, given.rounds)
        for name, by_load in figures[reference].items():
            shown = [
                f"{statistics.median(found):5.0f} ({min(found):.0f}-{max(found):.0f})" for found in by_load.values()
            ]
            print(f"{reference:<22} {name:<22} {'  '.join(shown)}", flush=True)
    record: dict[str, Any] = {
        "kind": "busy",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", *sys.argv],
        "machine": machine_facts(choose_device("cpu")),
        "unit": "images per second, by way and by the number of endless loops beside it",
        "figures": figures,
    }
    if given.output is not None:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
