"""From recorded runs to an answer for every cell: the delta against the baseline, its interval, p-values and verdict.

Holm's adjustment is over all cells of a paper's tables, with or without runs: pass all of them, whichever is shown. A
cell without runs counts as p = 1, so that running another row never takes an answer away; it can decide a cell, since
Holm's factor falls with every test that is shown. The other arms of its own row sharpen the estimate of the spread
(``stats/row.py``). Every other table is a family of its own. A cell without a printed difference has no direction and
no verdict: it is tested two-sided, from its own differences alone.

The cells of a preregistered table are judged at its interim analyses, and further seeds never change an answer: p and
p_adjusted hold over all analyses together, the interval is a repeated one (``stats/sequential.py`` says how, and why
that keeps the family's error). Such a table counts the family's other cells as p = 1, so that its answers depend on its
own records alone.

All of this is over seeds only: what other data, other code or another recipe would do, no interval says.
The last epoch is the primary metric. ``best`` is selected on the test set, and secondary wherever it is shown.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from statistics import stdev

import numpy as np

from repro.analysis.answers import answers_of, qualification
from repro.analysis.arms import Arms, arms_of_rows, dead_seeds
from repro.analysis.cell import CellResult, Delta
from repro.analysis.interim import Question, ask, look_at
from repro.analysis.pairs import Pairs, pair
from repro.analysis.preregistration import Declaration
from repro.analysis.runs import (
    CellKey,
    CellRuns,
    LeftOut,
    Metric,
    count_runs,
    difference_points,
)
from repro.analysis.seeds import seeds_missing
from repro.analysis.stats.decision_rule import (
    ALPHA,
    THREE_ANSWERS,
    Asked,
    Printed,
    Verdict,
    cell_p,
    main_test,
)
from repro.analysis.stats.effect import arm_correlation, superiority
from repro.analysis.stats.estimates import MIN_SEEDS, Floats, interval
from repro.analysis.stats.holm import holm
from repro.experiment.schema import Cell, Row, Table
from repro.results import Found, RunRecord
from repro.wording import decimals_printed


@dataclass(frozen=True)
class Assessment:
    """Every cell of the tables given, by (table, row, column); ``left_out`` lists the records that count nowhere.

    By the table's id: ``looks`` are the preregistrations of those tables that have one, ``families`` the families of
    tests that they belong to, ``baselines`` the columns that their differences are taken from.
    """

    metric: Metric
    alpha: float
    looks: Mapping[str, Declaration]
    families: Mapping[str, str]
    baselines: Mapping[str, str]
    cells: Mapping[CellKey, CellResult]
    left_out: tuple[LeftOut, ...]

    def pairs(self, table: str, row: str, column: str) -> Pairs:
        """A column of a row and the table's baseline, paired by seed."""
        return pair(self.cells[table, row, column].runs, self.cells[table, row, self.baselines[table]].runs)


def assess(
    tables: Sequence[Table],
    found: Iterable[Found | RunRecord],
    metric: Metric = "last",
    *,
    looks: Mapping[str, Declaration] | None = None,
    lending: Mapping[str, Sequence[Cell]] | None = None,
    count_imported: bool = False,
    alpha: float = ALPHA,
) -> Assessment:
    """Judge every cell of ``tables`` by the records found, in any order.

    ``lending`` and ``count_imported`` are as for ``count_runs``. ``looks`` are preregistrations by the id of their
    table. A preregistered cell is judged at its latest interim analysis, which keeps the error rate wherever it stops;
    any other as if its seeds had been fixed.
    """
    tables, looks = list({table.id: table for table in tables}.values()), dict(looks or {})
    counted, unplaced = count_runs(tables, found, metric, lending, count_imported=count_imported)
    printed = {(table.id, row.id): _printed(table, row, tables) for table in tables for row in table.rows}
    names = {table.id: table.family for table in tables}
    by_id = {table.id: table for table in tables}
    cells: dict[CellKey, CellResult] = {}
    families: dict[str, dict[CellKey, Question]] = defaultdict(dict)
    for place, arms in arms_of_rows(counted).items():
        against = by_id[place[0]].baseline
        for column in arms:
            result = _without_answer((*place, column), against, arms, *printed[place])
            cells[*place, column] = result
            if column != against:
                delta = np.nan if result.paper_delta is None else result.paper_delta
                families[names[place[0]]][*place, column] = ask(arms, column, against, Printed.of(delta, result.unit))
    for questions in families.values():
        cells |= _answered(cells, look_at(questions, looks, alpha), alpha, by_id)
    left_out = chain.from_iterable(runs.left_out for runs in counted.values())
    baselines = {table.id: table.baseline for table in tables}
    return Assessment(metric, alpha, looks, names, baselines, cells, (*left_out, *unplaced))


def _answered(
    cells: Mapping[CellKey, CellResult], family: Mapping[CellKey, Question], alpha: float, tables: Mapping[str, Table]
) -> dict[CellKey, CellResult]:
    """The cells of one family, judged together."""
    by_test = np.stack([_p_in_family(question) for question in family.values()], axis=-1)
    adjusted = holm(by_test)
    # Holm's next step: a cell not rejected yet will be, once its p is under alpha over the number of such cells.
    levels = alpha / np.maximum((adjusted >= alpha).sum(axis=-1), 1)
    answered = {}
    for (key, question), by_holm in zip(family.items(), adjusted.T, strict=True):
        p_adjusted = by_holm if question.p_adjusted is None else question.p_adjusted
        verdict = _verdict(question, p_adjusted, alpha)
        ours, baseline = cells[key].runs, question.arms[question.against]
        chance = _is_at_chance(question, verdict, ours, baseline)
        if question.paper_delta is not None and chance:
            verdict = Verdict.CHANCE
        result = replace(
            cells[key],
            delta=_delta(question, p_adjusted, verdict, tested=not chance) if question.pairs.seeds else None,
            unpaired=question.pairs.unpaired,
            verdict=verdict,
            answers=None if chance else answers_of(question, p_adjusted, alpha),
            qualification=qualification(verdict, ours, baseline, tables[key[0]].baseline_name, question.look),
            level=float(levels[main_test(question.printed)]),
            opposite_level=float(levels[Asked.OPPOSITE]),
            small_level=float(levels[Asked.SMALL]),
            looks=question.looks,
            look=question.look,
            seeds_in=question.seeds_in,
            arms=len(question.arms),
        )
        wanted = question.paper_delta is not None and verdict in (None, Verdict.UNDECIDED)
        answered[key] = replace(result, seeds_needed=seeds_missing(result)) if wanted else result
    return answered


def _p_in_family(question: Question) -> Floats:
    """The p-values that others are adjusted with: under an older rule, which asks other tests, as if not run."""
    if question.rule is THREE_ANSWERS:
        return question.p
    asked = cell_p(question.measured, question.printed)
    return np.where(np.isnan(asked), np.nan, 1.0)


def _verdict(question: Question, p_adjusted: Floats, alpha: float) -> Verdict | None:
    """The verdict on a cell, whatever its runs ended like; None if nothing is printed or no seed is in."""
    if question.paper_delta is None:
        return None
    if not question.pairs.seeds:
        return Verdict.UNDECIDED if question.seeds_in else None
    if question.verdict is not None:
        return question.verdict
    measured, printed = question.measured, question.printed
    return Verdict(question.rule.judge(measured, printed, p_adjusted, alpha, question.confidence).item())


def _is_at_chance(question: Question, verdict: Verdict | None, *arms: CellRuns) -> bool:
    """Whether the answer is of a run at chance level, or would wait for more of such a cell.

    What a preregistered analysis decided is of its seeds, and stays what it is whatever runs later.
    """
    decided = question.look is not None and verdict not in (None, Verdict.UNDECIDED)
    return any(not decided or seed < (question.look or 0) for seed in dead_seeds(arms))


def _delta(question: Question, p_adjusted: Floats, verdict: Verdict | None, *, tested: bool) -> Delta:
    pairs, n = question.pairs, len(question.pairs.seeds)
    shown = question.rule.estimate(question.measured) if question.paper_delta is not None else question.measured.paired
    low, high = interval(shown, question.confidence)
    test = 0 if question.rule is not THREE_ANSWERS else int(main_test(question.printed))
    test = Asked.OPPOSITE if verdict is Verdict.OPPOSITE else test
    error = _or_none(shown.standard_error) if tested else None
    return Delta(
        seeds=pairs.seeds,
        mean=float(shown.value),
        std=stdev(pairs.differences) if tested and n >= MIN_SEEDS else None,
        pooled_std=None if error is None else error * math.sqrt(n),
        df=float(shown.df),
        low=_or_none(low) if tested else None,
        high=_or_none(high) if tested else None,
        p=float(question.p[test]),
        p_adjusted=float(p_adjusted[test]),
        superiority=superiority(pairs.ours, pairs.baseline) if tested else None,
        correlation=arm_correlation(pairs.ours, pairs.baseline) if tested else None,
    )


def _without_answer(key: CellKey, against: str, arms: Arms, printed: Mapping[str, float], unit: float) -> CellResult:
    table, row, column = key
    baseline, paper_baseline = arms[against].mean, printed.get(against)
    return CellResult(
        table=table,
        row=row,
        column=column,
        runs=arms[column],
        paper_top1=printed.get(column),
        paper_delta=_paper_delta(printed, column, against),
        baseline_offset=None if baseline is None or paper_baseline is None else baseline - paper_baseline,
        unit=unit,
        arms=len(arms),
    )


def _printed(table: Table, row: Row, tables: Sequence[Table]) -> tuple[Mapping[str, float], float]:
    """What is printed for a row, top-1 in percent by column, and the unit that its table rounds to.

    Of a variant, that of the row that it stands beside.
    """
    if not table.comparable:
        return {}, 0.1
    if row.published:
        return row.published.top1_percent, _unit(table)
    for other in tables:
        for theirs in other.rows if other.id == table.beside else ():
            if theirs.id == row.beside and theirs.published:
                return theirs.published.top1_percent, _unit(other)
    return {}, 0.1


def _unit(table: Table) -> float:
    printed = [row.published.top1_percent.values() for row in table.rows if row.published]
    return float(10.0 ** -decimals_printed(chain.from_iterable(printed)))


def _paper_delta(printed: Mapping[str, float], column: str, against: str) -> float | None:
    if column == against or column not in printed or against not in printed:
        return None
    return difference_points(printed[column], printed[against])


def _or_none(value: Floats) -> float | None:
    return None if np.isnan(value) else float(value)
