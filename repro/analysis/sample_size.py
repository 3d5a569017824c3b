"""Before a run: seeds each cell needs, their cost, the order of answers, and the verdicts to expect. Pure.

Cells of a row share their cross-entropy runs, so what a cell costs depends on which were chosen before it. They are
taken greedily, the one whose answer is cheapest next: no exact optimum, but the order in which answers come soonest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TypeVar

from repro.analysis.assessment import Assessment, CellResult
from repro.analysis.stats.decision_rule import Verdict
from repro.analysis.stats.power import GUESSED_RUN_STD, POWER, planning_std, seeds_to_confirm, seeds_to_refute
from repro.analysis.stats.simulation import verdict_shares
from repro.errors import UserError
from repro.experiment.schema import BASELINE, Cell, Run, Table

HoursPerRun = Callable[[Cell], float | None]
_Wanted = TypeVar("_Wanted")
_DRAWS = 4_000  # simulated tables


@dataclass(frozen=True)
class Need:
    """The seeds that an open cell takes.

    ``std`` is the spread of paired differences planned with, in points; ``level`` what Holm's adjustment holds p to.
    ``confirm`` paired seeds show the paper's effect if it is there, ``refute`` exclude half of it if there is none,
    each with the power asked for; None where it takes more than 10,000. ``paired`` are there already.
    """

    cell: Cell
    baseline: Cell
    paper_delta: float
    std: float
    level: float
    confirm: int | None
    refute: int | None
    paired: int

    @property
    def seeds(self) -> int | None:
        """The paired seeds for an answer either way, None where more than could be run."""
        return None if self.confirm is None or self.refute is None else max(self.confirm, self.refute)


@dataclass(frozen=True)
class Step:
    """A cell to be answered next: the runs it takes beside those of the steps before it, in pairs by seed."""

    need: Need
    runs: tuple[Run, ...]
    hours: float


@dataclass(frozen=True)
class Design:
    """A plan: the open cells, soonest answer first, of which the first ``affordable`` fit ``gpu_hours``.

    ``unknown_cost``: nothing is known of the time of a run. ``out_of_reach``: it takes more than 10,000 seeds.
    ``decided``: there is a verdict.
    """

    power: float
    gpu_hours: float | None
    steps: tuple[Step, ...]
    affordable: int
    unknown_cost: tuple[Need, ...]
    out_of_reach: tuple[Need, ...]
    decided: tuple[CellResult, ...]

    @property
    def needs(self) -> tuple[Need, ...]:
        """All open cells."""
        return (*(step.need for step in self.steps), *self.unknown_cost, *self.out_of_reach)

    @property
    def hours(self) -> float:
        """The time of all steps."""
        return sum(step.hours for step in self.steps)


@dataclass(frozen=True)
class ExpectedVerdict:
    """What to expect of one cell after ``seeds`` seeds.

    ``reproduced``: the chance of that verdict if every effect of its family is the paper's. ``refuted``: the chance of
    "not reproduced" if there is no effect.
    """

    cell: str
    paper_delta: float
    seeds: int
    reproduced: float
    refuted: float


def design(
    tables: Sequence[Table],
    assessment: Assessment,
    hours_per_run: HoursPerRun,
    *,
    power: float = POWER,
    gpu_hours: float | None = None,
    guessed_run_std: float = GUESSED_RUN_STD,
) -> Design:
    """Plan the open cells of ``tables``, given what ``assessment`` holds (of every table of the family, runs or none).

    A cell is planned with its own spread where it has one and with that of all cells where it has none;
    ``guessed_run_std``, of one run over seeds in points, is counted in as five seeds would be.
    """
    results = [one for one in assessment.cells.values() if one.table in {table.id for table in tables}]
    needs = [
        _need(table, result, assessment, power, guessed_run_std)
        for table in tables
        for result in results
        if result.table == table.id and result.paper_delta is not None and not result.decided
    ]
    reachable = [need for need in needs if need.seeds is not None]
    unknown = [need for need in reachable if hours_per_run(need.cell) is None or hours_per_run(need.baseline) is None]
    steps = _soonest_first([need for need in reachable if need not in unknown], assessment, hours_per_run)
    return Design(
        power=power,
        gpu_hours=gpu_hours,
        steps=steps,
        affordable=_affordable(steps, gpu_hours),
        unknown_cost=tuple(unknown),
        out_of_reach=tuple(need for need in needs if need.seeds is None),
        decided=tuple(result for result in results if result.decided),
    )


def next_runs(table: Table, assessment: Assessment, hours_per_run: HoursPerRun = lambda cell: None) -> tuple[Run, ...]:
    """The runs that bring every open cell of ``table`` to its next declared look, in pairs by seed, each run once.

    None are left when every cell is decided or the last look is over: ``sweep --until-decided`` trains these, assesses
    again, and goes on until there are none. The cells that cost least come first. Cross-entropy goes on as long as any
    cell of its row is open. Raises UserError where no looks were declared.
    """
    if table.id not in assessment.looks:
        raise UserError(
            f"no interim analyses are preregistered for {table.id}",
            hint=f"Preregister them: biasrepro plan {table.reference} --looks 5,10,20 --declare",
        )
    left = []
    for cell in table.cells:
        result = assessment.cells[table.id, cell.row.id, cell.column.id]
        if result.next_look is not None:
            runs = _runs_before(result.next_look, cell, _baseline(table, cell.row.id), assessment)
            left.append((cell, {run.id: run for run in runs}))
    return tuple(run for _, runs, _ in _cheapest_first(left, hours_per_run) for run in runs)


def runs_to_last_look(table: Table, assessment: Assessment) -> tuple[Run, ...]:
    """The runs that are left at worst: if no cell of ``table`` that is open were answered before the last look."""
    runs: dict[str, Run] = {}
    for cell in table.cells:
        result = assessment.cells[table.id, cell.row.id, cell.column.id]
        if result.next_look is not None and result.looks:
            further = _runs_before(result.looks.seeds[-1], cell, _baseline(table, cell.row.id), assessment)
            runs |= {run.id: run for run in further}
    return tuple(runs.values())


def expected_verdicts(
    tables: Sequence[Table], assessment: Assessment, seeds: int, *, run_std: float = GUESSED_RUN_STD
) -> list[ExpectedVerdict]:
    """The verdict to expect on every printed difference of ``tables``, simulated with its whole family.

    ``assessment`` covers the whole family, with or without runs. ``run_std`` is of one run over seeds, in points.
    """
    shown = {table.id for table in tables}
    index = {verdict: place for place, verdict in enumerate(Verdict)}
    expected = []
    for family in dict.fromkeys(table.family for table in tables):
        rows = _printed_rows(assessment, family)
        if not rows:
            continue
        deltas = [[cell.paper_delta or 0.0 for cell in row] for row in rows]
        as_printed = verdict_shares(deltas, seeds, scale=1, run_std=run_std, draws=_DRAWS)
        no_effect = verdict_shares(deltas, seeds, scale=0, run_std=run_std, draws=_DRAWS)
        reproduced = as_printed[:, index[Verdict.REPRODUCED]]
        refuted = no_effect[:, index[Verdict.NOT_REPRODUCED]]
        for cell, yes, no in zip(chain.from_iterable(rows), reproduced, refuted, strict=True):
            if cell.table in shown:
                name = f"{cell.table}/{cell.row}/{cell.column}"
                expected.append(ExpectedVerdict(name, cell.paper_delta or 0.0, seeds, float(yes), float(no)))
    return expected


def _printed_rows(assessment: Assessment, family: str) -> list[list[CellResult]]:
    """The cells of a family that have a printed difference, row by row."""
    rows: dict[tuple[str, str], list[CellResult]] = {}
    for cell in assessment.cells.values():
        if cell.paper_delta is not None and assessment.families[cell.table] == family:
            rows.setdefault((cell.table, cell.row), []).append(cell)
    return list(rows.values())


def _need(table: Table, result: CellResult, assessment: Assessment, power: float, guessed_run_std: float) -> Need:
    spreads = [
        (one.delta.std, one.delta.n)
        for one in ([result] if result.delta and result.delta.std else assessment.cells.values())
        if one.delta and one.delta.std
    ]
    std = planning_std(spreads, guessed_run_std)
    paper_delta, level = result.paper_delta or 0.0, result.level or assessment.alpha
    row = next(row for row in table.rows if row.id == result.row)
    column = next(column for column in table.columns if column.id == result.column)
    return Need(
        cell=table.cell(row, column),
        baseline=_baseline(table, row.id),
        paper_delta=paper_delta,
        std=std,
        level=level,
        confirm=seeds_to_confirm(paper_delta, std, level=level, power=power),
        refute=seeds_to_refute(paper_delta, std, power=power),
        paired=result.delta.n if result.delta else 0,
    )


def _soonest_first(needs: Sequence[Need], assessment: Assessment, hours_per_run: HoursPerRun) -> tuple[Step, ...]:
    left = [
        (need, {run.id: run for run in _runs_to(need.seeds or 0, need.cell, need.baseline, assessment)})
        for need in needs
    ]
    return tuple(Step(need, runs, hours) for need, runs, hours in _cheapest_first(left, hours_per_run))


def _cheapest_first(
    left: list[tuple[_Wanted, dict[str, Run]]], hours_per_run: HoursPerRun
) -> Iterator[tuple[_Wanted, tuple[Run, ...], float]]:
    """Each of ``left`` with the runs that it takes beside those before it and their hours, the cheapest next.

    What is of unknown cost comes last, in the order given.
    """
    while left:
        hours = [_hours(runs.values(), hours_per_run) for _, runs in left]
        wanted, runs = left.pop(hours.index(min(hours)))
        yield wanted, tuple(runs.values()), min(hours)
        left = [(one, {name: run for name, run in more.items() if name not in runs}) for one, more in left]


def _hours(runs: Collection[Run], hours_per_run: HoursPerRun) -> float:
    counts = Counter(run.cell.column.id for run in runs)
    cells = {run.cell.column.id: run.cell for run in runs}
    known = [(count, hours_per_run(cells[column])) for column, count in counts.items()]
    return sum(math.inf if hours is None else count * hours for count, hours in known)


def _runs_before(seed: int, cell: Cell, baseline: Cell, assessment: Assessment) -> list[Run]:
    """The runs still to be trained of the seeds below this one, in pairs; one lost in either arm takes no partner."""
    arms = [assessment.cells[one.table, one.row.id, one.column.id].runs for one in (baseline, cell)]
    lost = {one for arm in arms for one in arm.lost}
    both = list(zip((baseline, cell), arms, strict=True))
    return [Run(cell=one, seed=n) for n in range(seed) if n not in lost for one, arm in both if n not in arm.seeds]


def _runs_to(pairs: int, cell: Cell, baseline: Cell, assessment: Assessment) -> list[Run]:
    """The runs still to be trained for so many pairs: by seed, passing over seeds that were lost in either arm."""
    arms = [assessment.cells[one.table, one.row.id, one.column.id].runs for one in (baseline, cell)]
    lost = {left_out.seed for arm in arms for left_out in arm.left_out}
    there = sorted(set(arms[0].seeds) & set(arms[1].seeds))
    fresh = (seed for seed in count() if seed not in lost and seed not in there)
    seeds = [next(fresh) for _ in range(pairs - len(there))]
    both = list(zip((baseline, cell), arms, strict=True))
    return [Run(cell=one, seed=seed) for seed in seeds for one, arm in both if seed not in arm.seeds]


def _affordable(steps: Sequence[Step], gpu_hours: float | None) -> int:
    if gpu_hours is None:
        return len(steps)
    spent = 0.0
    for number, step in enumerate(steps):
        spent += step.hours
        if spent > gpu_hours:
            return number
    return len(steps)


def _baseline(table: Table, row_id: str) -> Cell:
    row = next(row for row in table.rows if row.id == row_id)
    return table.cell(row, next(column for column in table.columns if column.id == BASELINE))
