"""What tables that are not the paper's show: differences from cross-entropy, and nothing of what the paper claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from repro.analysis.assessment import CellResult
from repro.figures import Recorded
from repro.tables.layout import caption


def study_headline(tables: Sequence[Recorded]) -> str:
    """Which losses are shown to differ from cross-entropy, in a sentence or two."""
    tested = [(table, result) for table in tables for result in _cells(table) if _is_tested(result)]
    shown = [(table, result) for table, result in tested if _is_shown(table, result)]
    if not tested:
        return "Nothing is shown yet: no loss has three runs beside those of cross-entropy."
    if not shown:
        return f"In none of {len(tested)} comparisons with cross-entropy can a difference be told from none."
    sides = [
        f"{len(found)} come{'s' if len(found) == 1 else ''} out {side} it ({'; '.join(found)})"
        for side, sign in (("above", 1), ("below", -1))
        if (found := [_name(table, result) for table, result in shown if _points(result) * sign > 0])
    ]
    rest = len(tested) - len(shown)
    others = f" In the other{f' {rest}' if rest > 1 else ''} no difference can be told from none." if rest else ""
    return f"Of {len(tested)} comparisons with cross-entropy, {' and '.join(sides)}.{others}"


def study_remarks(tables: Sequence[Recorded]) -> list[str]:
    """What a reader must know beside the headline: how much of it there is."""
    return [
        f"{table.label}: {table.shown.recorded_runs:,} of {table.shown.planned_runs:,} planned runs are recorded."
        for table in tables
    ]


def whose(tables: Iterable[Recorded]) -> list[str]:
    """That none of this is the paper's, table by table."""
    captions = (caption(table.shown).replace("`", "") for table in tables)
    return [f"{words} It neither reproduces nor refutes any number of the paper." for words in captions]


def _cells(table: Recorded) -> list[CellResult]:
    return [table.result(row, column) for row in table.table.rows for column in table.compared]


def _is_tested(result: CellResult) -> bool:
    return result.delta is not None and result.delta.low is not None


def _is_shown(table: Recorded, result: CellResult) -> bool:
    return result.delta is not None and result.delta.p_adjusted < table.assessment.alpha


def _points(result: CellResult) -> float:
    return result.delta.mean if result.delta else 0.0


def _name(table: Recorded, result: CellResult) -> str:
    row = next(row for row in table.table.rows if row.id == result.row)
    column = next(column for column in table.table.columns if column.id == result.column)
    return f"{column.title} on {row.title}"
