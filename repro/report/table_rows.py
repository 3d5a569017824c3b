"""The rows of the report's tables: text, sort keys, and the seeds of each cell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from repro.analysis.assessment import CellResult
from repro.analysis.stats.decision_rule import Verdict
from repro.experiment.schema import Column, Row
from repro.figures import Recorded
from repro.report.headlines import answer_of
from repro.results import RunRecord
from repro.tables import AssembledTable
from repro.tables.layout import MISSING, accuracy, interval, p_text, published_accuracy, signed, usual_number_of_seeds
from repro.tables.structure import AssembledCell, AssembledRow

_LEFT_OUT = {
    "diverged": "diverged",
    "configuration": "left out: recorded under another configuration",
    "unusable": "left out: unusable record",
}


@dataclass(frozen=True)
class Entry:
    """The text of a place in a table, and the number to sort it by (None: missing, always last)."""

    text: str
    value: float | None = None
    note: str = ""


@dataclass(frozen=True)
class SeedLine:
    """One seed of a cell."""

    seed: int
    text: str


@dataclass(frozen=True)
class AccuracyCell:
    """A model with a loss: the published accuracy, ours with its footnote marks, and every seed."""

    loss: str
    published: Entry | None
    ours: Entry
    marks: tuple[str, ...]
    seeds: tuple[SeedLine, ...]


@dataclass(frozen=True)
class AccuracyRow:
    """A model; ``printed`` is None in a table without published figures."""

    title: str
    variant: bool
    marks: tuple[str, ...]
    printed: Entry | None
    counted: Entry
    cells: tuple[AccuracyCell, ...]


@dataclass(frozen=True)
class DeltaRow:
    """The difference of a loss from cross-entropy. ``answer`` is None where nothing comparable is printed."""

    model: str
    loss: str
    paper: Entry
    ours: Entry
    interval: str
    n: Entry
    p: Entry
    superiority: Entry
    answer: str | None
    seeds_needed: str


def accuracy_rows(table: Recorded) -> list[AccuracyRow]:
    """Every model of the table, each followed by its recorded variants."""
    return [_accuracy_row(table, row) for row in table.shown.rows]


def delta_rows(table: Recorded) -> list[DeltaRow]:
    """Every cell that is compared with cross-entropy."""
    return [_delta_row(table, row, column) for row in table.table.rows for column in table.compared]


def _accuracy_row(table: Recorded, row: AssembledRow) -> AccuracyRow:
    printed, counted = row.published_parameters_millions, row.counted_parameters
    return AccuracyRow(
        title=row.title,
        variant=row.variant,
        marks=row.marks,
        printed=_or_missing(printed, "{:g}M") if table.shown.published_as else None,
        counted=_or_missing(None if counted is None else counted / 1e6, "{:.2f}M"),
        cells=tuple(_accuracy_cell(table, row, cell) for cell in row.cells),
    )


def _accuracy_cell(table: Recorded, row: AssembledRow, cell: AssembledCell) -> AccuracyCell:
    title = next(heading.title for heading in table.shown.columns if heading.id == cell.column)
    ours = Entry(MISSING)
    if cell.ours:
        usual = cell.ours.n == (usual_number_of_seeds(table.shown) or 1)
        ours = Entry(accuracy(cell.ours), cell.ours.mean, "" if usual else f"n = {cell.ours.n}")
    published = _published(table.shown, cell) if table.shown.published_as else None
    return AccuracyCell(title, published, ours, cell.marks, tuple(_seed_lines(table, row, cell)))


def _published(shown: AssembledTable, cell: AssembledCell) -> Entry:
    if cell.published is None:
        return Entry(MISSING)
    return Entry(published_accuracy(cell.published, shown), cell.published)


def _seed_lines(table: Recorded, row: AssembledRow, cell: AssembledCell) -> Iterator[SeedLine]:
    """Every seed that is planned or recorded, with its outcome."""
    result = table.assessment.cells.get((row.table, row.id, cell.column))
    if result is None or not (result.runs.completed or result.runs.left_out):
        return
    lines = dict.fromkeys(range(table.table.seeds), "not run")
    for record in result.runs.completed:
        lines[record.seed] = _of_record(record) + ("" if record.table == row.table else f", under {record.table}")
    for left_out in result.runs.left_out:
        if left_out.seed is not None:
            reason = _LEFT_OUT.get(left_out.why, "left out")
            lines[left_out.seed] = f"{reason} ({left_out.detail.removesuffix('.')})"
    yield from (SeedLine(seed, text) for seed, text in sorted(lines.items()))


def _of_record(record: RunRecord) -> str:
    last, best = record.last_top1_percent, record.best_top1_percent
    parts = ["no accuracy" if last is None else f"{last:.2f} at the last epoch"]
    if best is not None:
        parts.append(f"best {best:.2f} at epoch {record.best_epoch}")
    parts.append(f"{_time(record.provenance.duration_seconds)} on {record.provenance.device_name}")
    if record.provenance.resumptions:
        parts.append(f"resumed {record.provenance.resumptions} times")
    return ", ".join(parts)


def _delta_row(table: Recorded, row: Row, column: Column) -> DeltaRow:
    result = table.result(row, column)
    delta, paper = result.delta, result.paper_delta
    known = delta is not None and delta.low is not None and delta.high is not None
    low, high = (delta.low, delta.high) if delta else (None, None)
    # below three seeds there is no test, and 1.000 would look like the outcome of one
    p = delta.p_adjusted if delta and known else None
    superiority = delta.superiority if delta else None
    return DeltaRow(
        model=row.title,
        loss=column.title,
        paper=Entry(MISSING) if paper is None else Entry(signed(paper, 2), paper),
        ours=Entry(MISSING) if delta is None else Entry(signed(delta.mean, 2), delta.mean),
        interval="" if low is None or high is None else interval(low, high),
        n=Entry("0" if delta is None else str(delta.n), delta.n if delta else 0),
        p=Entry(MISSING) if p is None else Entry(p_text(p).removeprefix("p ").removeprefix("= "), p),
        superiority=Entry(MISSING) if superiority is None else Entry(f"{superiority:.2f}", superiority),
        answer=None if paper is None else answer_of(result),
        seeds_needed=_seeds_needed(result),
    )


def _seeds_needed(result: CellResult) -> str:
    if result.paper_delta is None or result.decided:
        return ""
    if result.looks and result.next_look is None:
        return "none: the last interim analysis is done"
    if result.seeds_needed is None:
        return "more than 10,000" if result.verdict is Verdict.UNDERPOWERED else ""
    return f"{result.seeds_needed:,} more"


def _or_missing(value: float | None, form: str) -> Entry:
    return Entry(MISSING) if value is None else Entry(form.format(value), value)


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
