"""Tables with a verdict or p-value for every difference."""

from __future__ import annotations

from dataclasses import replace

from repro.analysis.assessment import Assessment
from repro.analysis.cell import CellResult
from repro.tables.structure import AssembledCell, AssembledRow, AssembledTable, Judgement, Sample, Verdicts

_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def with_verdicts(table: AssembledTable, assessment: Assessment, how: Verdicts) -> AssembledTable:
    """``table`` with the test result of every cell in ``assessment``, to be shown in words or as stars."""

    def judged(row: AssembledRow, cell: AssembledCell) -> AssembledCell:
        result = assessment.cells.get((row.table, row.id, cell.column))
        if result is None or (result.delta is None and result.paper_delta is None):
            return cell
        seeds = result.delta.seeds if result.delta else ()
        if result.look and cell.delta and seeds:  # the difference of the analysis that was judged
            cell = replace(cell, delta=Sample.of({seed: v for seed, v in cell.delta.values if seed in seeds}))
        return replace(cell, judgement=_judgement(result))

    rows = []
    for row in table.rows:
        rows.append(replace(row, cells=tuple(judged(row, cell) for cell in row.cells)))
    return replace(table, rows=tuple(rows), verdicts=how)


def stars(judgement: Judgement | None) -> str:
    """One to three stars for adjusted p below 0.05, 0.01, 0.001; none if there is no test."""
    if judgement is None or judgement.p_adjusted is None:
        return ""
    return next((mark for level, mark in _STARS if judgement.p_adjusted < level), "")


def _judgement(result: CellResult) -> Judgement:
    delta = result.delta
    interval = None if delta is None or delta.low is None or delta.high is None else (delta.low, delta.high)
    return Judgement(
        verdict=result.verdict.value if result.verdict else None,
        qualification=result.qualification,
        p_adjusted=delta.p_adjusted if delta and interval else None,  # without an interval there was no test
        interval_points=interval,
        seeds_needed=result.seeds_needed,
        answers=result.answers,
    )
