"""Fake records with figures computed by formula, and the situations that every format is held against."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from repro.analysis.evidence import variants_of
from repro.analysis.runs import Metric
from repro.experiment.config import find_table, runs_of
from repro.experiment.schema import Run, Table
from repro.results import EpochRecord, Found, Provenance, RunRecord
from repro.tables import AssembledTable, assemble

RESULTS = Path("results")
COUNTED_PARAMETERS = {
    "shufflenetv2_x0_5": 444_000,
    "shufflenetv2_x1_0": 1_356_104,
    "mobilenetv2_x0_75": 1_484_000,
    "squeezenet_bn": 781_156,
    "densenet100_k24": 27_500_000,
}


def accuracy(run: Run) -> float:
    """Near what is printed for the cell, else 60, moved by row, column and seed; two decimals as on 10,000 images."""
    row, column = run.cell.row, run.cell.column
    printed = row.published.top1_percent if row.published else {}
    index = sum(map(ord, row.id)) % 7, sum(map(ord, column.id)) % 7
    seed_effect = (run.seed * (31 + index[1]) % 41 - 20) / 60
    return round(printed.get(column.id, 60.0 + 0.3 * index[1]) + 0.11 * index[0] + seed_effect, 2)


def fake_record(run: Run, **changes: Any) -> RunRecord:
    """A completed run of ``run``; ``changes`` replace fields of the record, or of its provenance."""
    last = accuracy(run)
    best = round(last + 0.25, 2)
    provenance = {
        "biasrepro": "0.1.0",
        "git_commit": "0" * 40,
        "git_dirty": False,
        "code_hash": "c" * 64,
        "python": "3.11.2",
        "packages": {"torch": "2.15.0"},
        "platform": "Linux",
        "host": "host",
        "device": "cuda",
        "device_name": "NVIDIA H200",
        "driver": None,
        "threads": 1,
        "command": f"biasrepro sweep {run.cell.table}",
        "started_at": "2026-01-01T00:00:00+00:00",
        "finished_at": "2026-01-01T01:00:00+00:00",
        "duration_seconds": 3600.0,
        "images_per_second": 20_000.0,
    }
    provenance |= {key: changes.pop(key) for key in list(changes) if key in Provenance.model_fields}
    fields = {
        "id": run.id,
        "table": run.cell.table,
        "row": run.cell.row.id,
        "column": run.cell.column.id,
        "seed": run.seed,
        "status": "completed",
        "configuration": run.configuration(),
        "configuration_hash": run.hash,
        "parameters": COUNTED_PARAMETERS.get(run.cell.row.model, 11_000_000),
        "last_top1_percent": last,
        "best_top1_percent": best,
        "best_epoch": 1,
        "state_hash": "5" * 64,
        "execution_in_force": {"precision": "fp32"},
        "provenance": Provenance(**provenance),
        "epochs": (_epoch(1, best), *(_epoch(number, last) for number in range(2, run.cell.recipe.epochs + 1))),
    }
    return RunRecord(**(fields | changes))


def _epoch(number: int, accuracy_percent: float) -> EpochRecord:
    figures = dict.fromkeys(EpochRecord.model_fields, number / 7) | {"test_top1_percent": accuracy_percent}
    return EpochRecord(**(figures | {"epoch": number, "feature_correlation": None}))


def found(record: RunRecord) -> Found:
    """The record as if read from its place."""
    return Found(RESULTS / record.id / "run.json", record, None)


def unusable(run: Run, problem: str) -> Found:
    """A file in the place of the record of ``run`` that cannot be used."""
    return Found(RESULTS / run.id / "run.json", None, problem)


def every_run(table: Table, seeds: Iterable[int]) -> list[Found]:
    """Every cell of ``table`` with every seed, completed."""
    return [found(fake_record(run)) for run in runs_of(table.cells, seeds)]


def run_of(table: Table, row: str, column: str, seed: int) -> Run:
    """The run of ``table`` in ``row`` under ``column`` with ``seed``."""
    cell = next(cell for cell in table.cells if (cell.row.id, cell.column.id) == (row, column))
    return Run(cell=cell, seed=seed)


def some_runs(table: Table) -> list[Found]:
    """The first row with five seeds (a pair missing), the second with single runs, the third with cross-entropy only.

    The two arms of the first row share the seeds 0 to 3.
    """
    first, second, third = table.rows[:3]
    wanted = [run_of(table, first.id, "ce", seed) for seed in range(5)]
    wanted += [run_of(table, first.id, "bias", seed) for seed in range(4)]
    wanted += [run_of(table, second.id, column.id, 0) for column in table.columns]
    wanted += [run_of(table, third.id, "ce", seed) for seed in (0, 2)]
    return [found(fake_record(run)) for run in wanted]


def troubled_runs(table: Table) -> list[Found]:
    """Every kind of record that must not be averaged in silence."""
    first, second, third = (row.id for row in table.rows[:3])
    other = table.model_copy(update={"recipe": table.recipe.model_copy(update={"weight_decay": 0.5})})
    stray = run_of(table, first, "ce", 0)
    reason = "the loss is nan at step 17 of epoch 3"
    return [
        *(found(fake_record(run_of(table, first, "ce", seed))) for seed in range(3)),
        found(fake_record(run_of(table, first, "bias", 0))),
        found(fake_record(run_of(table, first, "bias", 1), changes_accepted=("torch 2.14.0 -> 2.15.0",))),
        found(fake_record(run_of(table, first, "bias", 2), status="diverged", reason=reason)),
        found(fake_record(run_of(table, second, "ce", 0), device_name="NVIDIA A100", code_hash="d" * 64)),
        found(fake_record(run_of(other, second, "ce", 1))),
        found(fake_record(run_of(other, second, "bias", 0))),
        unusable(run_of(table, second, "bias", 1), "the seal is broken: the record was edited or damaged"),
        found(fake_record(run_of(table, third, "bias", 0), status="diverged", reason=reason, last_top1_percent=None)),
        Found(RESULTS / table.id / "gone" / "ce" / "seed-0" / "run.json", fake_record(stray), None),
    ]


@dataclass(frozen=True)
class Situation:
    """Tables and the record files that exist for them."""

    tables: tuple[str, ...]
    found: Callable[[Table], Sequence[Found]]
    metric: Metric = "last"
    show_variants: bool | None = None
    found_of_variants: Callable[[Table], Sequence[Found]] = lambda table: ()

    def assembled(self) -> list[AssembledTable]:
        return [self._assembled(find_table(name)) for name in self.tables]

    def _assembled(self, table: Table) -> AssembledTable:
        variants = [variant for variant in variants_of(table) if variant.table.endswith("_variants")]
        records = [*self.found(table), *(one for variant in variants for one in self.found_of_variants(variant))]
        return assemble(table, records, metric=self.metric, variants=variants, show_variants=self.show_variants)


def _first_row(table: Table) -> list[Found]:
    runs = runs_of(table.cells[: len(table.columns)], range(3))
    return [found(fake_record(run)) for run in runs]


PAPER = ("table1", "table2")
SITUATIONS = {
    "none": Situation(PAPER, lambda table: []),
    "some": Situation(PAPER, some_runs),
    "one_seed": Situation(PAPER, lambda table: every_run(table, [0])),
    "all": Situation(PAPER, lambda table: every_run(table, range(5))),
    "best": Situation(("table1",), lambda table: every_run(table, range(3)), metric="best"),
    "troubled": Situation(("table1",), troubled_runs),
    "variants": Situation(("table2",), lambda table: every_run(table, range(5)), found_of_variants=_first_row),
    "empty_variants": Situation(("table1",), lambda table: [], show_variants=True),
    "demo": Situation(("demo",), lambda table: every_run(table, range(3))),
    "released": Situation(("released",), lambda table: every_run(table, range(2))),
    "normalization": Situation(("normalization",), some_runs),
    "modified": Situation(
        ("table1+dataset.classes=20+recipe.epochs=10",), lambda table: every_run(table, range(2)), show_variants=True
    ),
    "executed": Situation(("table1+execution.precision=bf16",), lambda table: every_run(table, [0, 1])),
}


@pytest.fixture(params=SITUATIONS, scope="session")
def situation(request: pytest.FixtureRequest) -> tuple[str, list[AssembledTable]]:
    """The name of a situation, and its tables."""
    return request.param, SITUATIONS[request.param].assembled()


@pytest.fixture(scope="session")
def fakes() -> types.ModuleType:
    """This module: tests make their own records with what it has."""
    return sys.modules[__name__]
