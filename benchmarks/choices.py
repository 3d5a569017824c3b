"""The fastest way to train each network on a GPU: precision, memory format, compilation, and several runs at once.

    python benchmarks/choices.py -o benchmarks/records/gpu/choices.json [TABLE/ROW ...]

Epochs are of random images. Each way is timed in a process of its own, and its figures are written at once; the same
command resumes. What is fastest in tf32 and bf16 becomes ``cuda_memory_format`` in repro/experiment/catalog.py; a test
compares the two. Several runs at once are a process each, and share the GPU better where NVIDIA's MPS serves it
(``nvidia-cuda-mps-control -d`` before this command); the record says whether it did.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

from repro.bench.compare import compare, side_by_side
from repro.bench.configurations import Setting
from repro.engine.device import choose_device
from repro.engine.provenance import machine_facts
from repro.errors import RunFailure
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run
from repro.machine import mps_is_running, usable_cores
from repro.results.durable import write_durably

TABLES = ("table2", "table1")
# What takes longest to compile comes last.
WAYS = [
    {"precision": precision, "memory_format": layout, "compile": compiled}
    for compiled, precision, layout in product((False, True), ("fp32", "tf32", "bf16"), ("contiguous", "channels_last"))
]
# Runs that train at once by their own defaults.
TOGETHER = (2, 4)


def name_of(way: dict[str, Any]) -> str:
    """Such as ``bf16, channels_last, compile``."""
    return ", ".join([way["precision"], way["memory_format"], *(["compile"] if way["compile"] else [])])


def cells(chosen: list[str]) -> Iterator[tuple[str, Cell]]:
    """The cells to time, by ``table/row``: those ``chosen``, else all networks of both tables."""
    for table in map(find_table, TABLES):
        for row in table.rows:
            reference = f"{table.table}/{row.id}"
            if not chosen or reference in chosen:
                yield reference, table.cell(row, table.proposed)


def timed(cell: Cell, way: dict[str, Any], device: str, batches: int, rounds: int) -> dict[str, Any]:
    """The figures of one way, or ``error`` where it fails, such as for want of memory."""
    run = Run(cell=cell.model_copy(update={"execution": cell.execution.model_copy(update=way)}), seed=0)
    images = batches * cell.recipe.batch_size
    setting = Setting("compile" if way["compile"] else "format", run, device, usable_cores(), 0, images)
    try:
        *_, (arm,) = compare([setting], rounds, lambda text: None)
    except RunFailure as error:
        return {"error": str(error)}
    keys = ("epoch_seconds", "start_seconds", "warm_up_seconds", "peak_memory_bytes", "in_force")
    return {"images_per_second": arm.images_per_second, **{key: getattr(arm, key) for key in keys}}


def timed_together(cell: Cell, runs: int, device: str, batches: int, rounds: int) -> dict[str, Any]:
    """The images per second of all ``runs`` in sum, or ``error`` where they fail, such as for want of memory."""
    images = batches * cell.recipe.batch_size
    setting = Setting("format", Run(cell=cell, seed=0), device, max(1, usable_cores() // runs), 0, images)
    try:
        epochs = side_by_side(setting, runs, rounds)
    except RunFailure as error:
        return {"error": str(error)}
    speed = statistics.median(sum(images / seconds for seconds in at_once) for at_once in epochs)
    return {"images_per_second": speed, "runs": runs, "epoch_seconds": epochs}


def begun(output: Path, machine: dict[str, Any], settings: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The figures by cell in ``output``, if they are of the same device and settings."""
    record = json.loads(output.read_text()) if output.exists() else {}
    same_device = record.get("machine", {}).get("device_name") == machine["device_name"]
    return dict(record["cells"]) if same_device and record["settings"] == settings else {}


def main() -> None:
    """Time every way that ``--output`` does not have yet."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("cells", nargs="*", metavar="TABLE/ROW", help="default: all rows of both tables")
    options.add_argument("-o", "--output", type=Path, required=True)
    options.add_argument("--device", default="cuda")
    options.add_argument("--batches", type=int, default=50)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    machine = machine_facts(choose_device(given.device))
    settings = {"batches": given.batches, "rounds": given.rounds}
    found = begun(given.output, machine, settings)
    record = {
        "kind": "choices",
        "finished": False,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", *sys.argv],
        "machine": machine,
        "mps": mps_is_running(),
        "settings": settings,
        "cells": found,
    }
    given.output.parent.mkdir(parents=True, exist_ok=True)
    how = (given.device, given.batches, given.rounds)
    for (reference, cell), way in product(list(cells(given.cells)), [*TOGETHER, *WAYS]):
        ways, name = found.setdefault(reference, {}), f"{way} runs" if isinstance(way, int) else name_of(way)
        if "images_per_second" not in ways.get(name, {}):
            ways[name] = timed_together(cell, way, *how) if isinstance(way, int) else timed(cell, way, *how)
            print(f"{reference}: {name}: {ways[name].get('images_per_second', ways[name].get('error'))}", flush=True)
            write_durably(given.output.resolve(), json.dumps(record, indent=1).encode() + b"\n")
    record["finished"] = True
    write_durably(given.output.resolve(), json.dumps(record, indent=1).encode() + b"\n")


if __name__ == "__main__":
    main()
