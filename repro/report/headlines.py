"""The first sentences of a report: the verdicts on the paper's differences, or the result of a study."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from repro.analysis.cell import CellResult
from repro.analysis.stats.decision_rule import Verdict
from repro.experiment.schema import Row
from repro.figures import Recorded
from repro.figures.recorded import baselines_beside_the_papers, baselines_of, imported_runs
from repro.report.contents import is_of_a_paper
from repro.tables.interim_notes import stopping_text
from repro.tables.layout import caption
from repro.wording import counted

_PRINTED = (
    "The paper prints 6 of these differences, in Table 1; the others are formed from its accuracies, which are rounded "
    "to 0.1 points. All intervals are over seeds only."
)
MEANINGS: dict[str, str] = {
    Verdict.REPRODUCED: "an effect in the paper's direction is shown, and the paper's difference is compatible with "
    "ours (if the paper prints none: ours is shown to be smaller than what matters)",
    Verdict.PARTLY: "the same is shown, but the paper's difference is not compatible with ours",
    Verdict.NOT_REPRODUCED: "no effect is shown, and either ours is shown to be smaller than what matters while the "
    "paper's is not, or the paper's difference is rejected",
    Verdict.OPPOSITE: "an effect in the other direction is shown",
    Verdict.UNDECIDED: "none of these is shown: more seeds may tell",
    Verdict.CHANCE: "a run under this loss or under the baseline did no better than guessing",
    "not run": "no completed pair of runs",
}


def tally(tables: Iterable[Recorded]) -> dict[str, int]:
    """The number of printed differences with each verdict, in the order of ``MEANINGS``."""
    answers = Counter(answer_of(result) for table in tables for result in printed_cells(table))
    return {answer: answers[answer] for answer in MEANINGS}


def printed_cells(table: Recorded) -> list[CellResult]:
    """The cells of ``table`` that can be compared with the paper: it prints their accuracy and the baseline's."""
    cells = (table.result(*cell) for cell in product(table.table.rows, table.compared))
    return [cell for cell in cells if cell.paper_delta is not None]


def answer_of(result: CellResult) -> str:
    """The verdict, or ``not run``."""
    return result.verdict or "not run"


def paper_headline(counts: Mapping[str, int]) -> str:
    """The verdict on the whole paper, in a sentence; ``counts`` as ``tally`` gives them."""
    total = sum(counts.values())
    undecided, not_run = counts[Verdict.UNDECIDED], counts["not run"]
    if not_run == total:
        return f"No verdict yet: none of the {total} differences between the paper's accuracies has been run."
    if undecided == total:
        return f"No verdict yet: none of the {total} differences between the paper's accuracies has enough seeds."
    if undecided + not_run == total:
        few = f"{undecided} {'has' if undecided == 1 else 'have'} too few seeds and {_not_run(not_run)}"
        return f"No verdict yet: of the {total} differences between the paper's accuracies, {few}."
    judged = []
    words = {
        Verdict.REPRODUCED: "reproduced",
        Verdict.PARTLY: "partly reproduced",
        Verdict.OPPOSITE: "in the opposite direction",
        Verdict.NOT_REPRODUCED: "not reproduced",
        Verdict.CHANCE: "at chance level",
    }
    for verdict, text in words.items():
        if counts.get(verdict):
            judged.append(f"{_are(counts[verdict])} {text}")
    *most, last = judged
    of_all = f"{counted(total, 'difference')} between the paper's accuracies"
    sentence = f"Of the {of_all}, {', '.join(most)}{' and ' if most else ''}{last}"
    still_open = [f"{_are(undecided)} still undecided"] if undecided else []
    still_open += [_not_run(not_run)] if not_run else []
    return f"{sentence}{'; ' if still_open else ''}{' and '.join(still_open)}."


def paper_remarks(tables: Iterable[Recorded]) -> list[str]:
    """Remarks below the headline: how much is recorded, and baselines that are far from the paper's."""
    tables = list(tables)
    recorded = sum(table.shown.recorded_runs for table in tables)
    planned = sum(table.shown.planned_runs for table in tables)
    found = [f"{recorded:,} of {planned:,} planned runs of the paper's {counted(len(tables), 'table')} are recorded."]
    if any(table.table.paper and table.table.paper.id == "bias_loss" for table in tables):
        found.append(_PRINTED)
    verdicts = {cell.verdict for table in tables for cell in printed_cells(table)}
    qualified = [cell for table in tables for cell in printed_cells(table) if cell.qualification and cell.decided]
    if qualified:
        named = "; ".join(f"{cell.table}/{cell.row}/{cell.column}: {cell.verdict_words}" for cell in qualified)
        found.append(f"Some verdicts are of fewer runs than were trained. {named}.")
    if recorded == planned and Verdict.UNDECIDED in verdicts:
        found.append(
            "A cell that is still undecided is not evidence against the paper: it needs more seeds. Its line, and "
            "biasrepro plan, show how many."
        )
    far = baselines_beside_the_papers(tables, far=True)
    if far:
        whose = "its" if len(far) == 1 else "their"
        found.append(
            f"Our {baselines_of(tables)} is more than a point from the paper's for {', '.join(far)}: {whose} other "
            "numbers are hard to compare."
        )
    for table in tables:
        if table.declared:
            found.append(stopping_text(table.declared, table.assessment).replace("`", ""))
    if any(table.declared for table in tables):
        found.append("The claims are tested on the seeds of the first interim analysis, a number fixed in advance.")
    if elsewhere := imported_runs(tables)[0]:
        found.append(
            f"{counted(len(elsewhere), 'run')} behind these answers imported, not trained by biasrepro: that they have "
            "the paper's configuration is claimed, not verified."
        )
    if tables and tables[0].assessment.metric == "best":
        found.append("All of this is at the best epoch, which is selected on the test set: a secondary analysis.")
    return found


def study_headline(tables: Sequence[Recorded]) -> str:
    """The verdicts on another paper's differences, or a study's significant differences from its baseline."""
    answers = tally(tables)
    if any(answers.values()) and all(is_of_a_paper(table) for table in tables):
        return paper_headline(answers)
    tested, without_spread, against = 0, 0, baselines_of(tables)
    significant: dict[str, list[str]] = {"positive": [], "negative": []}
    for table in tables:
        for row, column in product(table.table.rows, table.compared):
            result = table.result(row, column)
            delta = result.delta
            if delta is None or delta.low is None or result.prints_none:  # then p is of equivalence
                without_spread += delta is not None and delta.low is None and delta.std is not None
                continue
            tested += 1
            if delta.p_adjusted < table.assessment.alpha:
                significant["positive" if delta.mean > 0 else "negative"].append(f"{column.title} on {row.title}")
    if not tested and any(_is_at_chance(table, row) for table in tables for row in table.table.rows):
        return f"No result: runs ended at chance level, and nothing is concluded of differences from {against}."
    of_them = f"{counted(without_spread, 'difference')} {'is' if without_spread == 1 else 'are'}"
    untested = f" {of_them} the same at every seed and could not be tested." if without_spread else ""
    if not tested:
        return f"No result yet{untested and '.'}{untested or f': no loss has three seeds in common with {against}.'}"
    rest = tested - sum(map(len, significant.values()))
    if rest == tested:
        return f"None of the {tested} differences from {against} is significant.{untested}"
    sides = []
    for side, names in significant.items():
        if names:
            sides.append(f"{_are(len(names))} significantly {side} ({'; '.join(names)})")
    sentence = f"Of {tested} differences from {against}, {' and '.join(sides)}."
    others = f"{rest} are" if rest > 1 else "is"
    return f"{sentence} The other {others} not significant.{untested}" if rest else f"{sentence}{untested}"


def _is_at_chance(table: Recorded, row: Row) -> bool:
    return any(table.result(row, column).runs.at_chance for column in table.table.columns)


def study_remarks(tables: Sequence[Recorded]) -> list[str]:
    """Remarks below the headline: how much is recorded."""
    return [
        f"{table.label}: {table.shown.recorded_runs:,} of {table.shown.planned_runs:,} planned runs are recorded."
        for table in tables
    ]


def study_scope(tables: Iterable[Recorded]) -> list[str]:
    """For each table whose it is: another paper's, or no paper's."""
    found = []
    for table in tables:
        words = caption(table.shown).replace("`", "")
        if table.table.paper and is_of_a_paper(table):
            found.append(f"{words.rstrip('.')}. From {table.table.paper.citation}.")
        else:
            of_ours = table.shown.kind != "released"
            found.append(f"{words}{' It neither reproduces nor refutes any number of the paper.' if of_ours else ''}")
    return found


def _not_run(count: int) -> str:
    return f"{_are(count)} not run"


def _are(count: int) -> str:
    return f"{count} {'is' if count == 1 else 'are'}"
