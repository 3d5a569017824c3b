from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pytest

from repro.analysis.preregistration import Declaration, draw_up
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run, Table
from repro.results import Provenance, RunRecord

# One record a run and seed: accuracies by seed for every (table, row, column) that has any.
Accuracies = Mapping[tuple[str, str, str], Mapping[int, float]]
NOT_COUNTED = Provenance.model_construct()


def record_of(cell: Cell, seed: int, last: float | None, **fields: Any) -> RunRecord:
    """A record with what the statistics read of one; unchecked, so that tens of thousands are made in no time."""
    run = Run(cell=cell, seed=seed)
    known = {
        "id": run.id,
        "table": cell.table,
        "row": cell.row.id,
        "column": cell.column.id,
        "seed": seed,
        "status": "completed",
        "reason": None,
        "configuration": {},
        "configuration_hash": run.hash,
        "provenance": NOT_COUNTED,
        "epochs": (),
        "last_top1_percent": last,
        "best_top1_percent": None if last is None else last + 0.2,
    }
    return RunRecord.model_construct(**(known | fields))


@pytest.fixture(scope="session")
def papers() -> list[Table]:
    """Both tables of the paper."""
    return [find_table("table1"), find_table("table2")]


@pytest.fixture(scope="session")
def declared() -> Callable[..., dict[str, Declaration]]:
    """The same looks, declared for each of the tables given."""
    return lambda tables, looks: {table.id: draw_up(table, looks) for table in tables}


@pytest.fixture(scope="session")
def make_record() -> Callable[..., RunRecord]:
    return record_of


@pytest.fixture(scope="session")
def as_printed() -> Callable[..., list[RunRecord]]:
    """Fake runs of every cell around what is printed, or around ``scale`` times the printed deltas."""

    def records(
        tables: Iterable[Table], seeds: int, rng: np.random.Generator, *, scale: float = 1.0, std: float = 0.25
    ) -> list[RunRecord]:
        made = []
        for cell in (cell for table in tables for cell in table.cells):
            assert cell.row.published is not None
            printed = cell.row.published.top1_percent
            mean = printed["ce"] + scale * (printed[cell.column.id] - printed["ce"])
            noise = rng.normal(0, std, seeds)
            made += [record_of(cell, seed, mean + float(noise[seed])) for seed in range(seeds)]
        return made

    return records
