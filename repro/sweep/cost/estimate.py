"""The estimated cost of a sweep, from earlier records or a short measurement: run-hours, time on these slots, disk.

Runs that differ only in loss, seed and schedule cost the same per epoch, so one record or measurement serves for all.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from repro.experiment.added_keys import with_neutral
from repro.experiment.catalog import network
from repro.experiment.schema import Cell, Run
from repro.results import RunRecord
from repro.sweep.devices.slots import Slot

# A record on disk: its fields, and each epoch's line (measured on records of the demo, rounded up).
RECORD_BYTES = 4_000
EPOCH_BYTES = 450
# A checkpoint holds weights and the optimizer's state, 4 bytes each; the newest, the one before, and one being written.
BYTES_PER_NUMBER = 4
NUMBERS_PER_PARAMETER = {"sgd": 1, "adamw": 2}  # of the optimizer's state: momentum; first and second moment
CHECKPOINTS_AT_ONCE = 3
# A weights file holds the weights, 4 bytes each, the statistics of batch normalization, and names: a test counts them.
WEIGHTS_BYTES_PER_PARAMETER = 4.25
# Of a record's start, what its duration leaves out.
BEFORE_FIRST_EPOCH = ("imports", "data", "network")


@dataclass(frozen=True)
class Cost:
    """The cost of one kind of run: seconds per epoch alone on a slot, and parameters; None if unknown.

    ``start_seconds`` is what comes before the first epoch; ``problem`` says why the cost could not be measured.
    """

    seconds_per_epoch: float | None
    parameters: int | None
    source: Literal["records", "measured", "unknown"]
    problem: str | None = None
    start_seconds: float = 0.0

    def run_seconds(self, epochs: int) -> float | None:
        """The time of a run of so many epochs, with its start."""
        return None if self.seconds_per_epoch is None else self.start_seconds + self.seconds_per_epoch * epochs


UNKNOWN = Cost(None, None, "unknown")


@dataclass(frozen=True)
class Estimate:
    """The cost of a list of runs: seconds in sum and on the slots, and the most bytes on disk.

    ``unknown`` counts the runs of unknown time; the seconds leave them out. ``start_seconds`` is the part of
    ``run_seconds`` before first epochs.
    """

    run_seconds: float
    start_seconds: float
    wall_seconds: float
    disk_bytes: int
    unknown: int


def cost_key(cell: Cell) -> str:
    """What the time of an epoch depends on, as text: equal for cells that cost the same."""
    return _key_of(cell.determinants())


def costs_in_records(records: Iterable[RunRecord], slot: Slot, device_name: str | None) -> dict[str, Cost]:
    """Median costs by key, from records of this kind of device.

    A CPU run counts only with as many threads as the slot has; ``device_name`` None takes any device of the kind.
    """
    alike = []
    for record in records:
        made = record.provenance
        if made.device != slot.device or device_name not in (None, made.device_name):
            continue
        if slot.device != "cpu" or made.threads == slot.threads:
            alike.append(record)
    return _median_costs(alike)


def hours_in_records(records: Iterable[RunRecord], device: str) -> Callable[[Cell], float | None]:
    """Hours of a run of a cell on this kind of device (``cuda``, ``cpu``), whatever loss and seed; None if unknown."""
    costs = _median_costs(record for record in records if record.provenance.device == device)
    by_cell: dict[str, float | None] = {}

    def hours(cell: Cell) -> float | None:
        if cell.id not in by_cell:
            seconds = costs.get(cost_key(cell), UNKNOWN).run_seconds(cell.recipe.epochs)
            by_cell[cell.id] = None if seconds is None else seconds / 3600
        return by_cell[cell.id]

    return hours


def _median_costs(records: Iterable[RunRecord]) -> dict[str, Cost]:
    """Median costs by key, of the completed runs among ``records``."""
    seconds: dict[str, list[float]] = {}
    starts: dict[str, list[float]] = {}
    parameters: dict[str, int] = {}
    for record in records:
        if record.status == "completed" and record.parameters is not None:  # None if imported
            key = _key_of(record.configuration)
            epochs = record.configuration["recipe"]["epochs"]
            seconds.setdefault(key, []).append(record.provenance.duration_seconds / epochs)
            made = record.provenance.start_seconds
            starts.setdefault(key, []).append(sum(made.get(part, 0.0) for part in BEFORE_FIRST_EPOCH))
            parameters[key] = record.parameters
    return {
        key: Cost(statistics.median(known), parameters[key], "records", start_seconds=statistics.median(starts[key]))
        for key, known in seconds.items()
    }


def estimate(runs: Sequence[Run], costs: Mapping[str, Cost], slots: int, *, keep_weights: bool = False) -> Estimate:
    """The cost of ``runs`` on ``slots`` slots that do not slow each other down (on a shared GPU they do).

    With ``keep_weights`` the weights file of every run takes disk space too.
    """
    seconds, checkpoints, disk, starts = list[float](), [], 0, 0.0
    by_cell = {cell.id: costs.get(cost_key(cell), UNKNOWN) for cell in _cells(runs)}
    for run in runs:
        cost = by_cell[run.cell.id]
        epochs = run.cell.recipe.epochs
        disk += RECORD_BYTES + EPOCH_BYTES * epochs
        if (known := cost.run_seconds(epochs)) is not None:
            seconds.append(known)
            starts += cost.start_seconds
        parameters = cost.parameters or network(run.cell.row.model).parameters_at_most
        disk += int(parameters * WEIGHTS_BYTES_PER_PARAMETER) if keep_weights else 0
        numbers = parameters * (1 + NUMBERS_PER_PARAMETER[run.cell.recipe.optimizer])
        checkpoints.append(numbers * BYTES_PER_NUMBER * CHECKPOINTS_AT_ONCE)
    disk += sum(sorted(checkpoints)[-slots:])
    wall = max(sum(seconds) / slots, *seconds) if seconds else 0.0
    return Estimate(sum(seconds), starts, wall, disk, len(runs) - len(seconds))


def unknown_cells(runs: Iterable[Run], costs: Mapping[str, Cost]) -> list[Cell]:
    """The first cell of each kind of run whose cost is unknown."""
    first: dict[str, Cell] = {}
    for cell in _cells(runs):
        first.setdefault(cost_key(cell), cell)
    return [cell for key, cell in first.items() if key not in costs]


def _cells(runs: Iterable[Run]) -> list[Cell]:
    """Each cell of ``runs`` once: thousands of runs have a few cells, and a cell is slow to resolve."""
    return list({run.cell.id: run.cell for run in runs}.values())


def _key_of(configuration: Mapping[str, Any]) -> str:
    what = {key: configuration[key] for key in ("dataset", "model", "options", "execution")}
    recipe = with_neutral(configuration)["recipe"]
    return json.dumps({**what, "batch_size": recipe["batch_size"], "optimizer": recipe["optimizer"]}, sort_keys=True)
