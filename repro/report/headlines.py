"""The first sentences of a report: what became of the paper's differences, or what a study of ours shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from repro.analysis.assessment import CellResult
from repro.analysis.stats.decision_rule import Verdict
from repro.figures import Recorded
from repro.tables.interim_notes import stopping_text
from repro.tables.layout import caption

MEANINGS: dict[str, str] = {
    Verdict.REPRODUCED.value: "significant after Holm's adjustment, in the paper's direction, at least half as large, "
    "and the paper's difference within the 95% prediction interval",
    Verdict.PARTLY.value: "significant and in the paper's direction, but less than half as large, or the paper's "
    "difference outside the prediction interval",
    Verdict.NOT_REPRODUCED.value: "the 95% interval excludes half of the paper's difference",
    Verdict.UNDERPOWERED.value: "too few seeds to tell",
    "not run": "no completed pair of runs",
}


@dataclass(frozen=True)
class Tally:
    """The number of printed differences with each verdict, in the order of ``MEANINGS``."""

    counts: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """The number of printed differences."""
        return sum(count for _, count in self.counts)

    @property
    def of(self) -> dict[str, int]:
        """The counts by verdict."""
        return dict(self.counts)


def tally(tables: Iterable[Recorded]) -> Tally:
    """Count the verdicts over all cells with a printed difference."""
    answers = Counter(answer_of(result) for table in tables for result in printed_cells(table))
    return Tally(tuple((answer, answers[answer]) for answer in MEANINGS))


def printed_cells(table: Recorded) -> list[CellResult]:
    """The cells of ``table`` for which the paper prints a difference."""
    cells = (table.result(row, column) for row in table.table.rows for column in table.compared)
    return [cell for cell in cells if cell.paper_delta is not None]


def answer_of(result: CellResult) -> str:
    """The verdict, or ``not run``."""
    return result.verdict.value if result.verdict else "not run"


def paper_headline(answers: Tally) -> str:
    """The verdict on the whole paper, in a sentence."""
    counts, total = answers.of, answers.total
    open_cells = counts[Verdict.UNDERPOWERED.value] + counts["not run"]
    if counts["not run"] == total:
        return f"No verdict yet: none of the paper's {total} differences has been run."
    if open_cells == total:
        return f"No verdict yet: none of the paper's {total} differences has enough seeds."
    words = {
        Verdict.REPRODUCED: "reproduced",
        Verdict.PARTLY: "partly reproduced",
        Verdict.NOT_REPRODUCED: "not reproduced",
    }
    judged = []
    for verdict, word in words.items():
        count = counts[verdict.value]
        if count:
            judged.append(f"{count} {'is' if count == 1 else 'are'} {word}")
    *most, last = judged
    sentence = f"Of the paper's {total} differences, {', '.join(most)}{' and ' if most else ''}{last}"
    if open_cells:
        return f"{sentence}; {open_cells} {'is' if open_cells == 1 else 'are'} still undecided."
    return f"{sentence}."


def paper_remarks(tables: Iterable[Recorded]) -> list[str]:
    """Remarks below the headline: how much is recorded, and baselines that are far from the paper's."""
    tables = list(tables)
    recorded = sum(table.shown.recorded_runs for table in tables)
    planned = sum(table.shown.planned_runs for table in tables)
    found = [f"{recorded:,} of {planned:,} planned runs of the paper's two tables are recorded."]
    verdicts = {cell.verdict for table in tables for cell in printed_cells(table)}
    if recorded == planned and Verdict.UNDERPOWERED in verdicts:
        found.append(
            "A cell that is still undecided is not evidence against the paper: it needs more seeds. Its line, and "
            "biasrepro plan, show how many."
        )
    far = [
        f"{row.title} in {table.label}"
        for table in tables
        for row in table.table.rows
        if any(table.result(row, column).baseline_is_far for column in table.compared)
    ]
    if far:
        found.append(
            "Our cross-entropy is more than a point from the paper's for "
            f"{', '.join(far)}: other numbers of these networks are hard to compare."
        )
    preregistered = [table for table in tables if table.declared]
    for table in preregistered:
        assert table.declared
        found.append(stopping_text(table.declared, table.assessment).replace("`", ""))
    if preregistered:
        found.append("The claims are tested on the seeds of the first interim analysis, a number fixed in advance.")
    if tables and tables[0].assessment.metric == "best":
        found.append("All of this is at the best epoch, which is selected on the test set: a secondary analysis.")
    return found


def study_headline(tables: Sequence[Recorded]) -> str:
    """Which losses differ significantly from cross-entropy, in a sentence or two."""
    tested = [(table, result) for table in tables for result in _cells(table) if _is_tested(result)]
    shown = [(table, result) for table, result in tested if _is_shown(table, result)]
    if not tested:
        return "No result yet: no loss has three seeds in common with cross-entropy."
    if not shown:
        return f"None of the {len(tested)} differences from cross-entropy is significant."
    positive = [_name(table, result) for table, result in shown if _points(result) > 0]
    negative = [_name(table, result) for table, result in shown if _points(result) < 0]
    sides = [
        f"{len(names)} {'is' if len(names) == 1 else 'are'} significantly {side} ({'; '.join(names)})"
        for side, names in (("positive", positive), ("negative", negative))
        if names
    ]
    rest = len(tested) - len(shown)
    others = f" The other{f' {rest} are' if rest > 1 else ' is'} not significant." if rest else ""
    return f"Of {len(tested)} differences from cross-entropy, {' and '.join(sides)}.{others}"


def study_remarks(tables: Sequence[Recorded]) -> list[str]:
    """Remarks below the headline: how much is recorded."""
    return [
        f"{table.label}: {table.shown.recorded_runs:,} of {table.shown.planned_runs:,} planned runs are recorded."
        for table in tables
    ]


def study_scope(tables: Iterable[Recorded]) -> list[str]:
    """A statement for each table that it is not the paper's."""
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
