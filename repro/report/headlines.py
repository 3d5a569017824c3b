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
    Verdict.PARTLY.value: "significant and in the paper's direction, but smaller than half, or the paper's difference "
    "outside the prediction interval",
    Verdict.NOT_REPRODUCED.value: "the 95% interval excludes half of the paper's difference",
    Verdict.UNDERPOWERED.value: "too few seeds to tell",
    "not run": "no pair of runs that count",
}


@dataclass(frozen=True)
class Tally:
    """How many printed differences have which answer, in the order of ``MEANINGS``."""

    counts: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """All differences that are printed."""
        return sum(count for _, count in self.counts)

    @property
    def of(self) -> dict[str, int]:
        """The counts by answer."""
        return dict(self.counts)


def tally(tables: Iterable[Recorded]) -> Tally:
    """Count the answers over every cell for which a difference is printed."""
    answers = Counter(answer_of(result) for table in tables for result in printed_cells(table))
    return Tally(tuple((answer, answers[answer]) for answer in MEANINGS))


def printed_cells(table: Recorded) -> list[CellResult]:
    """The cells of ``table`` for which the paper prints a difference."""
    cells = (table.result(row, column) for row in table.table.rows for column in table.compared)
    return [cell for cell in cells if cell.paper_delta is not None]


def answer_of(result: CellResult) -> str:
    """The verdict's word, or that there is nothing to judge."""
    return result.verdict.value if result.verdict else "not run"


def paper_headline(answers: Tally) -> str:
    """The verdict on the whole paper, in a sentence."""
    counts, total = answers.of, answers.total
    open_cells = counts[Verdict.UNDERPOWERED.value] + counts["not run"]
    if counts["not run"] == total:
        return f"No verdict yet: none of the {total} differences that the paper prints has a pair of runs."
    if open_cells == total:
        return f"No verdict yet: none of the {total} differences that the paper prints has enough seeds to be judged."
    judged = [
        f"{counts[verdict.value]} {'is' if counts[verdict.value] == 1 else 'are'} {words}"
        for verdict, words in (
            (Verdict.REPRODUCED, "reproduced"),
            (Verdict.PARTLY, "partly reproduced"),
            (Verdict.NOT_REPRODUCED, "not reproduced"),
        )
        if counts[verdict.value]
    ]
    *most, last = judged
    sentence = f"Of the {total} differences that the paper prints, {', '.join(most)}{' and ' if most else ''}{last}"
    if open_cells:
        return f"{sentence}; {open_cells} {'is' if open_cells == 1 else 'are'} still open."
    return f"{sentence}."


def paper_remarks(tables: Iterable[Recorded]) -> list[str]:
    """What a reader must know beside the headline: how much is recorded, and baselines that are off."""
    tables = list(tables)
    recorded, planned = (
        sum(getattr(table.shown, key) for table in tables) for key in ("recorded_runs", "planned_runs")
    )
    found = [f"{recorded:,} of {planned:,} planned runs of the paper's two tables are recorded."]
    if recorded == planned and any(
        cell.verdict is Verdict.UNDERPOWERED for one in tables for cell in printed_cells(one)
    ):
        found.append(
            "What is still open after them is no answer against the paper: it takes more seeds, as its line says and "
            "biasrepro plan says beforehand."
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
            f"{', '.join(far)}: there, little else is comparable."
        )
    declared = [(table, declaration) for table in tables if (declaration := table.declared)]
    found += [stopping_text(one, table.assessment, table.runs.values()).replace("`", "") for table, one in declared]
    if declared:
        found.append("The claims of the text are answered from the seeds up to the first look, whose number was fixed.")
    if tables and tables[0].assessment.metric == "best":
        found.append("All of this is at the best epoch, which is selected on the test set: a secondary reading.")
    return found


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


def study_scope(tables: Iterable[Recorded]) -> list[str]:
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
