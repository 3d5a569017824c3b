"""From records to arms: the accuracies of a cell by seed, and every run that is in none, with the reason.

Nothing is imputed. A run that diverged, disagrees with its namesake or was recorded under another configuration is
named and left out; a seed that only one of two arms has is left out of their difference, and named there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from repro.experiment.schema import Run, Table
from repro.results import RunRecord

Metric = Literal["last", "best"]
CellKey = tuple[str, str, str]  # the ids of a table, a row and a column


@dataclass(frozen=True)
class LeftOut:
    """A run that is in no number, and why."""

    run: str
    reason: str

    @property
    def seed(self) -> int:
        """Its seed."""
        return int(self.run.rpartition("/seed-")[2])


@dataclass(frozen=True)
class Arm:
    """The runs of one cell that count: top-1 in percent by seed, rising; ``runs`` are the ids of their records.

    ``missing`` are the seeds that the table plans, or has in another cell, and that have no record here. ``lost`` are
    those of the seeds left out that ran and have no accuracy: trained again, they would end the same.
    """

    seeds: tuple[int, ...] = ()
    top1_percent: tuple[float, ...] = ()
    runs: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.seeds)

    @property
    def mean(self) -> float | None:
        """The arithmetic mean, None without runs."""
        return fmean(self.top1_percent) if self.seeds else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n - 1 below the sum), None below two seeds."""
        return stdev(self.top1_percent) if self.n > 1 else None


@dataclass(frozen=True)
class Pairs:
    """Two arms at the seeds that both have, rising; ``unpaired`` names each seed that only one of them has."""

    seeds: tuple[int, ...]
    ours: tuple[float, ...]
    baseline: tuple[float, ...]
    unpaired: tuple[LeftOut, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """Ours minus the baseline by seed, in points."""
        return tuple(a - b for a, b in zip(self.ours, self.baseline, strict=True))

    def before(self, seed: int) -> Pairs:
        """The pairs of the seeds below this one."""
        n = sum(one < seed for one in self.seeds)
        return Pairs(self.seeds[:n], self.ours[:n], self.baseline[:n], self.unpaired)


def pair(ours: Arm, baseline: Arm, ours_id: str, baseline_id: str) -> Pairs:
    """Two arms paired by seed; the ids (``table/row/column``) are for naming what has no partner."""
    first, second = (dict(zip(arm.seeds, arm.top1_percent, strict=True)) for arm in (ours, baseline))
    seeds = tuple(seed for seed in ours.seeds if seed in second)
    alone = [(ours_id, baseline_id, seed) for seed in ours.seeds if seed not in second]
    alone += [(baseline_id, ours_id, seed) for seed in baseline.seeds if seed not in first]
    unpaired = (
        LeftOut(f"{own}/seed-{seed}", f"{other} has no run of this seed that counts") for own, other, seed in alone
    )
    return Pairs(seeds, tuple(first[s] for s in seeds), tuple(second[s] for s in seeds), tuple(unpaired))


def arms_of(
    tables: Iterable[Table], records: Iterable[RunRecord], metric: Metric, alone: Collection[str] = ()
) -> dict[CellKey, Arm]:
    """The arm of every cell of ``tables``; the order of the records does not matter.

    A table that is not of the paper takes a run it lacks from another table that recorded the very same configuration
    and seed: so the product's cross-entropy column is Table 2's, trained once. Tables whose ids are in ``alone`` take
    none: what their declared looks see are their own runs.
    """
    by_run: dict[str, list[RunRecord]] = defaultdict(list)
    same_configuration: dict[str, str] = {}
    seeds: dict[str, set[int]] = defaultdict(set)
    for record in sorted(records, key=lambda record: record.id):
        by_run[f"{record.table}/{record.row}/{record.column}/seed-{record.seed}"].append(record)
        same_configuration.setdefault(record.configuration_hash, record.id)
        seeds[record.table].add(record.seed)
    everywhere = set().union(*seeds.values())
    arms = {}
    for table in tables:
        borrows = table.kind != "paper" and table.id not in alone
        planned = seeds[table.id].union(range(table.seeds))
        for cell in table.cells:
            runs = [Run(cell=cell, seed=seed) for seed in sorted(planned | everywhere if borrows else planned)]
            found = [(run, by_run.get(run.id, [])) for run in runs]
            if borrows:
                found = [(run, own or by_run.get(same_configuration.get(run.hash, ""), [])) for run, own in found]
            considered = [(run, own) for run, own in found if own or run.seed in planned]
            arms[table.id, cell.row.id, cell.column.id] = _arm(considered, metric)
    return arms


def strays(tables: Sequence[Table], records: Iterable[RunRecord]) -> tuple[LeftOut, ...]:
    """The records of ``tables`` under a row or column that the table does not have."""
    cells = {(table.id, row.id, column.id) for table in tables for row in table.rows for column in table.columns}
    names = {table.id for table in tables}
    lost = (record for record in records if record.table in names)
    found = {record.id for record in lost if (record.table, record.row, record.column) not in cells}
    return tuple(LeftOut(run, "the table has no such row or column") for run in sorted(found))


def _arm(runs: Iterable[tuple[Run, Sequence[RunRecord]]], metric: Metric) -> Arm:
    """An arm from the records of each planned run, which are none where it is missing."""
    kept: list[tuple[int, float, str]] = []
    left_out, missing, lost = [], [], []
    for run, records in runs:
        if not records:
            missing.append(run.seed)
            continue
        top1 = _top1(records[0], metric)
        in_doubt, without = _in_doubt(records, run.hash, metric), _why_without(records[0], top1)
        if reason := in_doubt or without:
            left_out.append(LeftOut(records[0].id, reason))
            lost += [] if in_doubt else [run.seed]
        elif top1 is not None:
            kept.append((run.seed, top1, records[0].id))
    seeds, top1_percent, ids = zip(*kept, strict=True) if kept else ((), (), ())
    return Arm(seeds, top1_percent, ids, tuple(left_out), tuple(missing), tuple(lost))


def _in_doubt(records: Sequence[RunRecord], configuration_hash: str, metric: Metric) -> str | None:
    """Why the records of one run cannot be taken as its own, None where they can."""
    if any(record.configuration_hash != configuration_hash for record in records):
        return "recorded under another configuration"
    if len({(record.status, _top1(record, metric)) for record in records}) > 1:
        return f"{len(records)} records of this run disagree"
    return None


def _why_without(record: RunRecord, top1: float | None) -> str | None:
    """Why a run has no accuracy that counts, None where it has one."""
    if record.status == "diverged":
        return f"diverged: {record.reason or 'no reason recorded'}"
    return "completed without an accuracy" if top1 is None else None


def _top1(record: RunRecord, metric: Metric) -> float | None:
    return record.last_top1_percent if metric == "last" else record.best_top1_percent
