"""The fastest way to train each network on a GPU: precision, memory format, compilation, and several runs at once.

    python benchmarks/choices.py -o benchmarks/records/gpu/choices.json [TABLE/ROW ...]

Epochs are of random images. Each way is timed in a process of its own, and its figures are written at once; the same
command resumes, and ends with a table in Markdown. What is fastest in tf32 and bf16 becomes ``cuda_memory_format`` in
repro/experiment/catalog.py; a test compares the two. Several runs at once are a process each, and share the GPU better
where NVIDIA's MPS serves it (``nvidia-cuda-mps-control -d`` before this command); the record says whether it did. Or
they are in one process, each on a CUDA stream of its own, which a sweep does not offer.
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
TOGETHER = (2, 4)
# Runs that train at once by their own defaults, in processes or on streams.
AT_ONCE = {f"{number} {kind}": (number, kind) for kind in ("processes", "streams") for number in TOGETHER}
# One run, by what its configuration says. What takes longest to compile comes last.
SETTINGS = {
    ", ".join([precision, layout, *(["compile"] if compiled else [])]): {
        "precision": precision,
        "memory_format": layout,
        "compile": compiled,
    }
    for compiled, precision, layout in product((False, True), ("fp32", "tf32", "bf16"), ("contiguous", "channels_last"))
}
WAYS = (*AT_ONCE, *SETTINGS)
# The columns of the table: a way, and the one that its speed is divided by.
COLUMNS = {
    "tf32": ("tf32, contiguous", "fp32, contiguous"),
    "bf16": ("bf16, contiguous", "fp32, contiguous"),
    "channels_last": ("bf16, channels_last", "bf16, contiguous"),
    "compile": ("bf16, contiguous, compile", "bf16, contiguous"),
    **{name: (name, "fp32, contiguous") for name in AT_ONCE},
}


def cells(chosen: list[str]) -> Iterator[tuple[str, Cell]]:
    """The cells to time, by ``table/row``: those ``chosen``, else all networks of both tables."""
    for table in map(find_table, TABLES):
        for row in table.rows:
            reference = f"{table.table}/{row.id}"
            if not chosen or reference in chosen:
                yield reference, table.cell(row, table.proposed)


def timed(cell: Cell, way: str, device: str, batches: int, rounds: int) -> dict[str, Any]:
    """The figures of one of the ``WAYS``, or ``error`` where it fails, such as for want of memory."""
    try:
        if way in AT_ONCE:
            return timed_at_once(cell, *AT_ONCE[way], device, batches, rounds)
        return timed_alone(cell, SETTINGS[way], device, batches, rounds)
    except RunFailure as error:
        return {"error": str(error)}


def timed_alone(cell: Cell, way: dict[str, Any], device: str, batches: int, rounds: int) -> dict[str, Any]:
    """The figures of one run with the settings ``way``. Raises RunFailure."""
    run = Run(cell=cell.model_copy(update={"execution": cell.execution.model_copy(update=way)}), seed=0)
    images = batches * cell.recipe.batch_size
    setting = Setting("compile" if way["compile"] else "format", run, device, usable_cores(), 0, images)
    *_, (arm,) = compare([setting], rounds, lambda text: None)
    keys = ("epoch_seconds", "start_seconds", "warm_up_seconds", "peak_memory_bytes", "in_force")
    return {"images_per_second": arm.images_per_second, **{key: getattr(arm, key) for key in keys}}


def timed_at_once(cell: Cell, number: int, kind: str, device: str, batches: int, rounds: int) -> dict[str, Any]:
    """The images per second of ``number`` runs in sum. Raises RunFailure."""
    images = batches * cell.recipe.batch_size
    processes, streams = (number, 1) if kind == "processes" else (1, number)
    threads = max(1, usable_cores() // processes)
    setting = Setting("format", Run(cell=cell, seed=0), device, threads, 0, images, streams=streams)
    epochs = side_by_side(setting, processes, rounds)
    speed = statistics.median(sum(streams * images / seconds for seconds in at_once) for at_once in epochs)
    return {"images_per_second": speed, "runs": number, "epoch_seconds": epochs}


def as_markdown(cells_timed: dict[str, dict[str, Any]]) -> str:
    """The table of what was timed: images per second in fp32, and ratios; a dash for what failed or was not timed."""
    lines = [f"| cell | fp32 | {' | '.join(COLUMNS)} |", f"| --- | {'--- | ' * (1 + len(COLUMNS))}".rstrip()]
    for reference, ways in cells_timed.items():
        speeds = {name: way["images_per_second"] for name, way in ways.items() if "images_per_second" in way}
        first = f"{speeds['fp32, contiguous']:,.0f}" if "fp32, contiguous" in speeds else "–"
        ratios = [
            f"{speeds[way] / speeds[to]:.2f}" if way in speeds and to in speeds else "–" for way, to in COLUMNS.values()
        ]
        lines.append(f"| {reference} | {first} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def begun(output: Path, machine: dict[str, Any], settings: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The figures by cell in ``output``, if they are of the same device and settings."""
    record = json.loads(output.read_text()) if output.exists() else {}
    same_device = record.get("machine", {}).get("device_name") == machine["device_name"]
    return dict(record["cells"]) if same_device and record["settings"] == settings else {}


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", metavar="TABLE/ROW", help="default: all rows of both tables")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--way", dest="ways", action="append", choices=WAYS, help="default: all of them")
    return parser


def main() -> None:
    """Time every way that ``--output`` does not have yet."""
    given = options().parse_args()
    if unknown := set(given.cells) - {reference for reference, _ in cells([])}:
        options().error(f"no such cell: {', '.join(sorted(unknown))}; they are {', '.join(dict(cells([])))}")
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
    for (reference, cell), way in product(list(cells(given.cells)), given.ways or WAYS):
        ways = found.setdefault(reference, {})
        if "images_per_second" not in ways.get(way, {}):
            ways[way] = timed(cell, way, given.device, given.batches, given.rounds)
            print(f"{reference}: {way}: {ways[way].get('images_per_second', ways[way].get('error'))}", flush=True)
            write_durably(given.output.resolve(), json.dumps(record, indent=1).encode() + b"\n")
    record["finished"] = True
    write_durably(given.output.resolve(), json.dumps(record, indent=1).encode() + b"\n")
    print(as_markdown(found))


if __name__ == "__main__":
    main()
