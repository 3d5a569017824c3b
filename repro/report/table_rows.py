"""The rows of the report's tables: text, sort keys, and the seeds of each cell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import product

from repro.analysis.answers import Answers
from repro.analysis.cell import CellResult
from repro.analysis.stats.decision_rule import SMALLEST_EFFECT, Verdict
from repro.experiment.schema import Column, Row
from repro.figures import Recorded
from repro.report.headlines import answer_of
from repro.results import RunRecord
from repro.tables.layout import (
    MISSING,
    accuracy,
    interval,
    p_text,
    parameter_count,
    published_accuracy,
    usual_number_of_seeds,
)
from repro.tables.structure import AssembledCell, AssembledRow
from repro.wording import counted, duration, signed

_LEFT_OUT = {
    "diverged": "diverged",
    "configuration": "left out: recorded under another configuration",
    "imported": "left out: trained elsewhere",
    "unusable": "left out: unusable record",
    "unreadable": "left out: the record could not be read",
}


@dataclass
class Entry:
    """The text of a place in a table, and the number to sort it by (None: missing, always last).

    ``filler`` is what the text lacks at its end, shown as blank space, so that the points of a column stand in line.
    """

    text: str
    value: float | None = None
    note: str = ""
    filler: str = ""


@dataclass(frozen=True)
class AccuracyCell:
    """A model with a loss: the published accuracy, ours with its footnote marks, and the outcome of every seed."""

    loss: str
    published: Entry | None
    ours: Entry
    marks: tuple[str, ...]
    seeds: tuple[tuple[int, str], ...]


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
    """The difference of a loss from the baseline.

    ``answer`` is None if nothing comparable is printed, ``words`` the same with its qualification. ``p`` is of the
    effect, ``compatible`` says whether the paper's difference is, and ``small`` is the p of a difference that is
    smaller than what matters.
    """

    model: str
    loss: str
    paper: Entry
    ours: Entry
    interval: str
    n: Entry
    p: Entry
    superiority: Entry
    compatible: str
    small: Entry
    answer: str | None
    words: str
    seeds_needed: str


def accuracy_rows(table: Recorded) -> list[AccuracyRow]:
    """Every model of the table, each followed by its recorded variants."""
    rows = [_accuracy_row(table, row) for row in table.shown.rows]
    _align(row.printed for row in rows)
    _align(row.counted for row in rows)
    for cells in zip(*(row.cells for row in rows), strict=True):
        _align(cell.published for cell in cells)
        _align(cell.ours for cell in cells)
    return rows


def delta_rows(table: Recorded) -> list[DeltaRow]:
    """Every cell that is compared with the baseline."""
    rows = [_delta_row(table, *cell) for cell in product(table.table.rows, table.compared)]
    for field in ("paper", "ours", "n", "p", "small", "superiority"):
        _align(getattr(row, field) for row in rows)
    return rows


def _align(column: Iterable[Entry | None]) -> None:
    """Give the entries of a column their fillers."""
    entries = [entry for entry in column if entry is not None]
    tails = [f".{entry.text.partition('.')[2]}" if "." in entry.text else "" for entry in entries]
    longest = max(tails, key=len, default="")
    for entry, tail in zip(entries, tails, strict=True):
        entry.filler = longest[len(tail) :] if entry.value is not None else ""


def _accuracy_row(table: Recorded, row: AssembledRow) -> AccuracyRow:
    printed, trained = row.published_parameters_millions, row.counted_parameters
    return AccuracyRow(
        title=row.title,
        variant=row.variant,
        marks=row.marks,
        printed=_entry(printed, "{:g}M".format) if table.shown.published_as else None,
        counted=_entry(trained, parameter_count),
        cells=tuple(_accuracy_cell(table, row, cell) for cell in row.cells),
    )


def _accuracy_cell(table: Recorded, row: AssembledRow, cell: AssembledCell) -> AccuracyCell:
    title = next(heading.title for heading in table.shown.columns if heading.id == cell.column)
    ours = Entry(MISSING)
    if cell.ours:
        usual = cell.ours.n == (usual_number_of_seeds(table.shown) or 1)
        ours = Entry(accuracy(cell.ours), cell.ours.mean, "" if usual else f"n = {cell.ours.n}")
    published = None
    if table.shown.published_as:
        published = _entry(cell.published, partial(published_accuracy, table=table.shown))
    return AccuracyCell(title, published, ours, cell.marks, tuple(_outcomes(table, row, cell)))


def _outcomes(table: Recorded, row: AssembledRow, cell: AssembledCell) -> list[tuple[int, str]]:
    """Every seed that is planned or recorded, with its outcome; none if nothing is recorded."""
    result = table.assessment.cells.get((row.table, row.id, cell.column))
    if result is None or not (result.runs.completed or result.runs.left_out):
        return []
    lines = dict.fromkeys(range(table.table.seeds), "not run")
    for record in result.runs.completed:
        dead = "at chance level: " if record in result.runs.at_chance else ""
        under = "" if record.table == row.table else f", under {record.table}"
        lines[record.seed] = f"{dead}{_of_record(record)}{under}"
    for left_out in result.runs.left_out:
        if left_out.seed is not None:
            reason = _LEFT_OUT.get(left_out.why, "left out")
            lines[left_out.seed] = f"{reason} ({left_out.detail.removesuffix('.')})"
    return sorted(lines.items())


def _of_record(record: RunRecord) -> str:
    last, best = record.last_top1_percent, record.best_top1_percent
    parts = ["no accuracy" if last is None else f"{last:.2f} at the last epoch"]
    if best is not None:
        parts.append(f"best {best:.2f} at epoch {record.best_epoch}")
    if record.imported:
        return ", ".join([*parts, f"imported from {record.imported.file}"])
    made = record.provenance
    parts.append(f"{duration(made.duration_seconds)} on {made.device_name}")
    if made.resumptions:
        parts.append(f"resumed {counted(made.resumptions, 'time')}")
    return ", ".join(parts)


def _delta_row(table: Recorded, row: Row, column: Column) -> DeltaRow:
    result = table.result(row, column)
    delta, paper = result.delta, result.paper_delta
    ends, p = "", None
    # below three seeds there is no test, and 1.000 would look like the outcome of one
    if delta and delta.low is not None and delta.high is not None:
        ends, p = interval(delta.low, delta.high), delta.p_adjusted
    return DeltaRow(
        model=row.title,
        loss=column.title,
        paper=_entry(paper, partial(signed, decimals=2)),
        ours=_entry(delta.mean if delta else None, partial(signed, decimals=2)),
        interval=ends,
        n=_entry(delta.n if delta else 0, str),
        p=_p_entry(p),
        superiority=_entry(delta.superiority if delta else None, "{:.2f}".format),
        compatible=_compatible(result.answers),
        small=_p_entry(result.answers.small.p_adjusted if result.answers else None),
        answer=None if paper is None else answer_of(result),
        words=result.verdict_words or "",
        seeds_needed=_seeds_needed(result),
    )


def _p_entry(p: float | None) -> Entry:
    return _entry(p, lambda p: p_text(p).removeprefix("p ").removeprefix("= "))


def _compatible(answers: Answers | None) -> str:
    """``yes, -0.30 to +1.10``: whether the paper's difference lies where one of two single runs like ours would."""
    if answers is None:
        return MISSING
    found = answers.compatible
    word = "yes" if found.holds else "rejected" if found.excluded else "no"
    return f"{word}, {interval(found.low, found.high)}"


def _seeds_needed(result: CellResult) -> str:
    if result.paper_delta is None or result.decided:
        return ""
    if result.looks and result.next_look is None:
        return "none: the last interim analysis is done"
    if result.seeds_needed is None:
        if result.verdict is not Verdict.UNDECIDED:
            return ""
        return "no number is certain" if abs(result.paper_delta) <= SMALLEST_EFFECT else "more than 10,000"
    return f"{result.seeds_needed:,} more"


def _entry(value: float | None, text: Callable[[float], str]) -> Entry:
    return Entry(MISSING) if value is None else Entry(text(value), value)
