"""What a sweep will cost, from earlier records or a short measurement: run-hours, time on these slots, disk. Pure.

Runs that differ only in loss, seed and schedule cost the same a epoch, so what is known of one is taken for all.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from repro.experiment.catalog import NETWORKS
from repro.experiment.schema import Cell, Run
from repro.results import RunRecord
from repro.sweep.devices.slots import Slot

# Of a record on disk: its fields, and each epoch's line (measured on records of the demo, rounded up).
RECORD_BYTES = 4_000
EPOCH_BYTES = 450
# A checkpoint holds weights and momentum, 4 bytes each; the newest, the one before, and one being written.
CHECKPOINT_BYTES_PER_PARAMETER = 8
CHECKPOINTS_AT_ONCE = 3


@dataclass(frozen=True)
class Cost:
    """What is known of one kind of run: seconds an epoch alone on a slot, and parameters; None where unknown."""

    seconds_per_epoch: float | None
    parameters: int | None
    source: Literal["records", "measured", "unknown"]


@dataclass(frozen=True)
class Estimate:
    """The cost of a list of runs: seconds of all together and on the slots, bytes of the results at most.

    ``unknown`` counts the runs of whose time nothing is known; they are in none of the sums.
    """

    run_seconds: float
    wall_seconds: float
    disk_bytes: int
    unknown: int


def cost_key(cell: Cell) -> str:
    """What the time of an epoch depends on, as text: equal for cells that cost the same."""
    return _key_of(cell.determinants())


def costs_in_records(records: Iterable[RunRecord], slot: Slot, device_name: str | None) -> dict[str, Cost]:
    """Costs by key from records of this kind of device: the median over them.

    A CPU run counts only with as many threads as the slot has; ``device_name`` None takes any device of the kind.
    """
    seconds: dict[str, list[float]] = {}
    parameters: dict[str, int] = {}
    for record in records:
        made = record.provenance
        if record.status != "completed" or made.device != slot.device:
            continue
        if device_name is not None and made.device_name != device_name:
            continue
        if slot.device == "cpu" and made.threads != slot.threads:
            continue
        key = _key_of(record.configuration)
        seconds.setdefault(key, []).append(_seconds_per_epoch(record))
        parameters[key] = record.parameters
    return {key: Cost(statistics.median(known), parameters[key], "records") for key, known in seconds.items()}


def hours_in_records(records: Iterable[RunRecord], device: str) -> Callable[[Cell], float | None]:
    """Hours of a run of a cell on this kind of device (``cuda``, ``cpu``), whatever loss and seed; None if unknown."""
    known: dict[str, list[float]] = {}
    for record in records:
        if record.status == "completed" and record.provenance.device == device:
            known.setdefault(_key_of(record.configuration), []).append(_seconds_per_epoch(record))
    median = {key: statistics.median(seconds) for key, seconds in known.items()}

    def hours(cell: Cell) -> float | None:
        seconds = median.get(cost_key(cell))
        return None if seconds is None else seconds * cell.recipe.epochs / 3600

    return hours


def estimate(runs: Sequence[Run], costs: Mapping[str, Cost], slots: int) -> Estimate:
    """The cost of ``runs`` on ``slots`` slots that do not slow each other down (on a shared GPU they do)."""
    left = []
    disk = 0
    checkpoints = []
    keys = {cell.id: cost_key(cell) for cell in _cells(runs)}
    for run in runs:
        cost = costs.get(keys[run.cell.id])
        epochs = run.cell.recipe.epochs
        disk += RECORD_BYTES + EPOCH_BYTES * epochs
        if cost is not None and cost.seconds_per_epoch is not None:
            left.append(cost.seconds_per_epoch * epochs)
        parameters = (cost and cost.parameters) or NETWORKS[run.cell.row.model].parameters_at_most
        checkpoints.append(parameters * CHECKPOINT_BYTES_PER_PARAMETER * CHECKPOINTS_AT_ONCE)
    disk += sum(sorted(checkpoints)[-slots:])
    wall = max(sum(left) / slots, max(left)) if left else 0.0
    return Estimate(sum(left), wall, disk, len(runs) - len(left))


def unknown_cells(runs: Iterable[Run], costs: Mapping[str, Cost]) -> list[Cell]:
    """One cell for each kind of run of which nothing is known, the first in the list."""
    first: dict[str, Cell] = {}
    for cell in _cells(runs):
        key = cost_key(cell)
        if key not in costs:
            first.setdefault(key, cell)
    return list(first.values())


def _cells(runs: Iterable[Run]) -> list[Cell]:
    """Each cell of ``runs`` once: thousands of runs have a few cells, and a cell is slow to resolve."""
    return list({run.cell.id: run.cell for run in runs}.values())


def _seconds_per_epoch(record: RunRecord) -> float:
    epochs: int = record.configuration["recipe"]["epochs"]
    return record.provenance.duration_seconds / epochs


def _key_of(configuration: Mapping[str, Any]) -> str:
    recipe = configuration["recipe"]
    what = {key: configuration[key] for key in ("dataset", "model", "options", "execution")}
    return json.dumps({**what, "batch_size": recipe["batch_size"]}, sort_keys=True)
