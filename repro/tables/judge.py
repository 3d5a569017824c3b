"""Which records count: a mean holds a run only if its record is whole and of the present configuration."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from repro.experiment.schema import Cell, Run, Table
from repro.results import Found, RunRecord
from repro.tables.structure import Exclusion, LeftOut, Metric

CellKey = tuple[str, str]  # the ids of a row and a column


@dataclass(frozen=True)
class Judged:
    """The runs of one cell: those that count, those that diverged, and every record that is in no mean."""

    completed: tuple[RunRecord, ...] = ()
    diverged: tuple[RunRecord, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def found_any(self) -> bool:
        """Whether there is any record file at all."""
        return bool(self.completed or self.left_out)


def judge(table: Table, found: Iterable[Found], metric: Metric) -> tuple[dict[CellKey, Judged], tuple[LeftOut, ...]]:
    """The runs of every cell of ``table``, and the record files under rows or columns that it does not have.

    A file's place (``table/row/column/seed-n/run.json``) says which run it claims to be.
    """
    cells = {(row.id, column.id): table.cell(row, column) for row in table.rows for column in table.columns}
    by_cell: dict[CellKey, list[Found]] = defaultdict(list)
    for one in found:
        if one.path.parts[-5] == table.id:
            by_cell[one.path.parts[-4], one.path.parts[-3]].append(one)
    judged = {key: _judge_cell(cell, by_cell.pop(key, []), metric) for key, cell in cells.items()}
    strays = [
        _left_out(one, "unknown", "the table has no such row or column") for group in by_cell.values() for one in group
    ]
    return judged, tuple(strays)


def figure_of(record: RunRecord, metric: Metric) -> float | None:
    """Test top-1 in percent: at the last epoch, or at the best one, which is selected on the test set."""
    return record.last_top1_percent if metric == "last" else record.best_top1_percent


def _judge_cell(cell: Cell, found: Iterable[Found], metric: Metric) -> Judged:
    completed, diverged, left_out = [], [], []
    for one in found:
        record = one.record
        if record is None:
            left_out.append(_left_out(one, "unusable", one.problem or "cannot be read"))
        elif record.configuration_hash != Run(cell=cell, seed=record.seed).hash:
            left_out.append(_left_out(one, "configuration", "recorded under another configuration"))
        elif record.status == "diverged":
            diverged.append(record)
            left_out.append(_left_out(one, "diverged", record.reason or "no reason recorded"))
        elif figure_of(record, metric) is None:
            left_out.append(_left_out(one, "unusable", "completed without an accuracy"))
        else:
            completed.append(record)
    return Judged(tuple(completed), tuple(diverged), tuple(left_out))


def _left_out(found: Found, why: Exclusion, detail: str) -> LeftOut:
    return LeftOut(run=_place(found), path=str(found.path), why=why, detail=" ".join(detail.split()))


def _place(found: Found) -> str:
    return "/".join(found.path.parts[-5:-1])
