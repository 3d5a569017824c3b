"""From recorded runs to an answer for every cell: the delta against cross-entropy, its interval, p and verdict.

Holm's adjustment is over all cells of a paper's tables, with or without runs: pass all of them, whichever is shown. A
cell without runs counts as p = 1, so that no answer depends on whether another cell was run. Every other table is a
family of its own.

The cells of a preregistered table are judged at its interim analyses, and further seeds never change an answer: p and
p_adjusted hold over all analyses together, the interval is a repeated one (``stats/sequential.py`` says how, and why
that keeps the family's error). Such a table counts the family's other cells as p = 1, so that its answers depend on its
own records alone.

The last epoch is the primary metric. ``best`` is selected on the test set, and secondary wherever it is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from repro.analysis.interim import Question, ask, look_at
from repro.analysis.preregistration import Declaration
from repro.analysis.runs import CellKey, CellRuns, LeftOut, Metric, Pairs, count_runs, pair
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import ALPHA, Verdict, judge
from repro.analysis.stats.effect import arm_correlation, superiority
from repro.analysis.stats.estimates import LEAST_STD, MIN_SEEDS, Floats, interval
from repro.analysis.stats.holm import holm
from repro.analysis.stats.power import planning_std, seeds_to_be_sure, seeds_to_decide
from repro.experiment.schema import BASELINE, Cell, Row, Table
from repro.results import Found, RunRecord

FAR_BASELINE_POINTS = 1.0  # our cross-entropy this far from the paper's is flagged: then little else is comparable


@dataclass(frozen=True)
class Delta:
    """A loss minus cross-entropy, paired by seed, in points. Fields that need three seeds are None with fewer.

    In a cell with a run at chance level nothing is tested, so that they are None there too.

    ``std`` is the sample standard deviation of the differences, ``low`` and ``high`` their mean's 95% t interval (if
    preregistered: the repeated interval, which holds at all analyses together). ``p`` is two-sided, or of
    equivalence if the paper prints no difference; ``p_adjusted`` is Holm's over the family. ``superiority`` is
    P(A > B), the chance that a run under this loss beats one under cross-entropy.
    """

    seeds: tuple[int, ...]
    mean: float
    std: float | None
    low: float | None
    high: float | None
    p: float
    p_adjusted: float
    superiority: float | None
    correlation: float | None

    @property
    def n(self) -> int:
        """How many pairs."""
        return len(self.seeds)


@dataclass(frozen=True)
class CellResult:
    """One cell: its runs, the paper's numbers, and what our runs say of them.

    ``verdict`` is None for cross-entropy itself, if nothing comparable is printed, or if no run is paired (at chance
    level it needs no pair).
    ``seeds_needed`` is how many more seeds a verdict takes: None if there is one, or if no feasible number is enough.
    ``level`` is what Holm's adjustment would compare p with next, given the family's other cells.
    ``baseline_offset`` is our mean cross-entropy minus the paper's, in points. ``looks`` are the preregistered interim
    analyses, ``look`` the seeds of the one that the cell is judged at (None before the first); the first ``seeds_in``
    seeds are complete.
    """

    table: str
    row: str
    column: str
    runs: CellRuns
    paper_top1: float | None
    paper_delta: float | None
    baseline_offset: float | None
    delta: Delta | None = None
    unpaired: tuple[str, ...] = ()
    verdict: Verdict | None = None
    seeds_needed: int | None = None
    level: float | None = None
    looks: Looks | None = None
    look: int | None = None
    seeds_in: int | None = None

    @property
    def next_look(self) -> int | None:
        """The seeds of the next interim analysis; None if the cell is decided, and after the last."""
        return None if self.looks is None or self.decided else self.looks.after(self.look or 0)

    @property
    def decided(self) -> bool:
        """Whether there is a verdict other than that there are too few seeds for one."""
        return self.verdict is not None and self.verdict is not Verdict.UNDERPOWERED

    @property
    def baseline_is_far(self) -> bool:
        """Whether our cross-entropy is more than a point off the paper's."""
        return self.baseline_offset is not None and abs(self.baseline_offset) > FAR_BASELINE_POINTS


@dataclass(frozen=True)
class Assessment:
    """Every cell of the tables given, by (table, row, column); ``left_out`` lists the records that count nowhere.

    ``looks`` are the preregistrations of those tables that have one, and ``families`` the families of tests that they
    belong to, by the table's id.
    """

    metric: Metric
    alpha: float
    looks: Mapping[str, Declaration]
    families: Mapping[str, str]
    cells: Mapping[CellKey, CellResult]
    left_out: tuple[LeftOut, ...]

    def pairs(self, table: str, row: str, column: str, against: str = BASELINE) -> Pairs:
        """Two columns of a row, paired by seed."""
        return pair(self.cells[table, row, column].runs, self.cells[table, row, against].runs)


def assess(
    tables: Sequence[Table],
    found: Iterable[Found | RunRecord],
    metric: Metric = "last",
    *,
    looks: Mapping[str, Declaration] | None = None,
    lending: Mapping[str, Sequence[Cell]] | None = None,
    alpha: float = ALPHA,
) -> Assessment:
    """Judge every cell of ``tables`` by the records found, in any order; ``lending`` as for ``count_runs``.

    ``looks`` are preregistrations by the id of their table. A preregistered cell is judged at its
    latest interim analysis, which keeps the error rate wherever it stops; any other as if its seeds had been fixed.
    """
    tables, looks = list({table.id: table for table in tables}.values()), dict(looks or {})
    counted, unplaced = count_runs(tables, found, metric, lending)
    printed = {(table.id, row.id): _printed(table, row, tables) for table in tables for row in table.rows}
    names = {table.id: table.family for table in tables}
    families: dict[str, dict[CellKey, Question]] = defaultdict(dict)
    for (table, row, column), runs in counted.items():
        if column != BASELINE:
            pairs = pair(runs, counted[table, row, BASELINE])
            question = ask(pairs, _paper_delta(printed[table, row], column))
            families[names[table]][table, row, column] = question
    cells = {key: _without_answer(key, counted, printed[key[:2]]) for key in counted}
    for questions in families.values():
        cells |= _answered(cells, look_at(questions, counted, looks, alpha), alpha)
    left_out = chain.from_iterable(runs.left_out for runs in counted.values())
    return Assessment(metric, alpha, looks, names, cells, (*left_out, *unplaced))


def _answered(
    cells: Mapping[CellKey, CellResult], family: Mapping[CellKey, Question], alpha: float
) -> dict[CellKey, CellResult]:
    """The cells of one family, judged together."""
    adjusted = holm([question.p for question in family.values()])
    # Holm's next step: a cell not rejected yet will be, once its p is under alpha over the number of such cells.
    level = alpha / max(int(np.sum(adjusted >= alpha)), 1)
    answered = {}
    for (key, question), by_holm in zip(family.items(), adjusted, strict=True):
        paper, n = question.paper_delta, len(question.pairs.seeds)
        p_adjusted = float(by_holm) if question.p_adjusted is None else question.p_adjusted
        verdict = Verdict.UNDERPOWERED if paper is not None and question.seeds_in else None
        if paper is not None and n:
            judged = judge(question.estimate, paper, p_adjusted, alpha=alpha, confidence=question.confidence)
            verdict = Verdict(judged.item())
        chance = _is_at_chance(question, verdict, cells[key].runs, cells[*key[:2], BASELINE].runs)
        if paper is not None and chance:
            verdict = Verdict.CHANCE
        needed = None
        if paper is not None and verdict in (None, Verdict.UNDERPOWERED):
            needed = _seeds_needed(question, paper, level)
        answered[key] = replace(
            cells[key],
            delta=_delta(question, p_adjusted, tested=not chance) if n else None,
            unpaired=question.pairs.unpaired,
            verdict=verdict,
            seeds_needed=needed,
            level=level,
            looks=question.looks,
            look=question.look,
            seeds_in=question.seeds_in,
        )
    return answered


def _is_at_chance(question: Question, verdict: Verdict | None, *arms: CellRuns) -> bool:
    """Whether the answer is of a run at chance level, or would wait for more of such a cell.

    What a preregistered analysis decided is of its seeds, and stays what it is whatever runs later.
    """
    decided = question.look is not None and verdict not in (None, Verdict.UNDERPOWERED)
    seeds = [record.seed for runs in arms for record in runs.at_chance]
    return any(not decided or seed < (question.look or 0) for seed in seeds)


def _seeds_needed(question: Question, paper_delta: float, level: float) -> int | None:
    """The seeds missing for the next interim analysis or, without one, for a verdict; None if no number is enough.

    A verdict takes the seeds of 80% power, as in ``biasrepro plan``. If a cell has that many and is still undecided,
    its mean lies between 0 and D/2, and it takes the number that decides any cell of this spread.
    """
    if question.seeds_in is not None:
        return None if question.next_look is None else max(question.next_look - question.seeds_in, 1)
    differences = question.pairs.differences
    n = len(differences)
    observed = float(np.std(differences, ddof=1)) if n > 1 else 0.0
    plausible = planning_std([(observed, n)] if n > 1 else [])
    total = seeds_to_decide(paper_delta, plausible, level=level)
    if total is not None and total <= n:
        total = seeds_to_be_sure(paper_delta, observed if observed > LEAST_STD else plausible, level=level)
    return None if total is None else max(total - n, 1)


def _delta(question: Question, p_adjusted: float, *, tested: bool) -> Delta:
    pairs = question.pairs
    low, high = interval(question.estimate, question.confidence)
    return Delta(
        seeds=pairs.seeds,
        mean=float(question.estimate.value),
        std=float(np.std(pairs.differences, ddof=1)) if tested and len(pairs.seeds) >= MIN_SEEDS else None,
        low=_or_none(low) if tested else None,
        high=_or_none(high) if tested else None,
        p=question.p,
        p_adjusted=p_adjusted,
        superiority=superiority(pairs.ours, pairs.baseline) if tested else None,
        correlation=arm_correlation(pairs.ours, pairs.baseline) if tested else None,
    )


def _without_answer(key: CellKey, counted: Mapping[CellKey, CellRuns], printed: Mapping[str, float]) -> CellResult:
    table, row, column = key
    baseline, paper_baseline = counted[table, row, BASELINE].mean, printed.get(BASELINE)
    return CellResult(
        table=table,
        row=row,
        column=column,
        runs=counted[key],
        paper_top1=printed.get(column),
        paper_delta=_paper_delta(printed, column),
        baseline_offset=None if baseline is None or paper_baseline is None else baseline - paper_baseline,
    )


def _printed(table: Table, row: Row, tables: Sequence[Table]) -> Mapping[str, float]:
    """What is printed for a row, top-1 in percent by column; of a variant, for the row that it stands beside."""
    if not table.comparable:
        return {}
    if row.published:
        return row.published.top1_percent
    beside = (other for other in tables if other.id == table.beside)
    rows = (other for table in beside for other in table.rows if other.id == row.beside and other.published)
    return next((other.published.top1_percent for other in rows if other.published), {})


def _paper_delta(printed: Mapping[str, float], column: str) -> float | None:
    if column == BASELINE or column not in printed or BASELINE not in printed:
        return None
    return round(printed[column] - printed[BASELINE], 6)  # 78.9 - 78.9 is 0; 70.2 - 69.5 is 0.7, not 0.7000000000000028


def _or_none(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)
