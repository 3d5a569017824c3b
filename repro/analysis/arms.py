"""Two arms of a row, measured beside its other arms."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from statistics import fmean

import numpy as np

from repro.analysis.pairs import Pairs, pair
from repro.analysis.runs import CellKey, CellRuns
from repro.analysis.stats.row import Measured, measure

Arms = Mapping[str, CellRuns]  # the runs of a row by column


def arms_of_rows(counted: Mapping[CellKey, CellRuns]) -> dict[tuple[str, str], dict[str, CellRuns]]:
    """The arms of every row, by the ids of its table and of the row."""
    rows: dict[tuple[str, str], dict[str, CellRuns]] = {}
    for (table, row, column), runs in counted.items():
        rows.setdefault((table, row), {})[column] = runs
    return rows


def pair_arms(arms: Arms, ours: str, against: str, before: int | None = None) -> Pairs:
    """The runs of two columns at the seeds that both have, of those below ``before``."""
    pairs = pair(arms[ours], arms[against])
    return pairs if before is None else pairs.before(before)


def measure_arms(arms: Arms, ours: str, against: str, before: int | None = None, first: int | None = None) -> Measured:
    """One column of a row minus another, from their common seeds below ``before``.

    The row's other columns add to the estimate of the spread, with these seeds and, of a table with interim analyses,
    below the ``first``. One with a run at chance level there adds nothing: it is another kind of result, not spread.
    """
    pairs = pair_arms(arms, ours, against, before)
    used = pairs.seeds if first is None else pairs.before(first).seeds
    places = [_at_seeds(runs, pairs.seeds, used) for name, runs in arms.items() if name not in (ours, against)]
    measured = measure([list(pairs.baseline), list(pairs.ours), *places])
    if not pairs.seeds:
        return measured
    # To the last bit the mean that tables show.
    mean = np.asarray(fmean(pairs.differences))
    return Measured(*(replace(part, value=mean) for part in (measured.pooled, measured.paired, measured.single)))


def _at_seeds(runs: CellRuns, seeds: Collection[int], used: Collection[int]) -> list[float]:
    """The accuracies at ``seeds``, NaN where there is none, or it is not ``used``."""
    dead = any(record.seed in used for record in runs.at_chance)
    found = {} if dead else dict(zip(runs.seeds, runs.top1_percent, strict=True))
    return [found.get(seed, math.nan) if seed in used else math.nan for seed in seeds]


def dead_seeds(runs: Iterable[CellRuns]) -> set[int]:
    """The seeds with a run at chance level in any of these."""
    return {record.seed for cell in runs for record in cell.at_chance}
