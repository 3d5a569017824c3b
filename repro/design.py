"""What to run, before running it: seeds a cell, their cost, what a budget can answer, and in which order. Pure.

Cells of a row share their cross-entropy runs, so what a cell costs depends on which were chosen before it. They are
taken greedily, the one whose answer is cheapest next: no exact optimum, but the order in which answers come soonest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from repro.errors import UserError
from repro.schema import BASELINE, Cell, Run, Table
from repro.stats.power import GUESSED_RUN_STD, POWER, planning_std, seeds_to_confirm, seeds_to_refute
from repro.verdicts import Assessment, CellResult

HoursPerRun = Callable[[Cell], float | None]


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


def next_runs(tables: Sequence[Table], assessment: Assessment) -> tuple[Run, ...]:
    """The runs that bring every open cell of ``tables`` to its next declared look, in pairs by seed, each run once.

    None are left when every cell is decided or the last look is over: ``sweep --until-decided`` trains these, assesses
    again with the same looks, and goes on until there are none. Raises UserError where no looks were declared.
    """
    if assessment.looks is None:
        raise UserError("no looks are declared", mend="Say beforehand when to look: such as --looks 5,10,20.")
    runs: dict[str, Run] = {}
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                result = assessment.cells[table.id, row.id, column.id]
                if result.paper_delta is None or result.decided:
                    continue
                look = assessment.looks.after(len(assessment.pairs(table.id, row.id, column.id).seeds))
                cell, baseline = table.cell(row, column), _baseline(table, row.id)
                runs |= {run.id: run for run in _runs_to(look or 0, cell, baseline, assessment)}
    return tuple(runs.values())


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
    steps: list[Step] = []
    while left:
        candidates = [_step(need, runs, hours_per_run) for need, runs in left]
        best = min(candidates, key=lambda step: step.hours)
        steps.append(best)
        planned = {run.id for run in best.runs}
        left = [
            (need, {name: run for name, run in runs.items() if name not in planned})
            for need, runs in left
            if need is not best.need
        ]
    return tuple(steps)


def _step(need: Need, runs: Mapping[str, Run], hours_per_run: HoursPerRun) -> Step:
    baselines = sum(run.cell.id == need.baseline.id for run in runs.values())
    hours = baselines * (hours_per_run(need.baseline) or 0.0)
    return Step(need, tuple(runs.values()), hours + (len(runs) - baselines) * (hours_per_run(need.cell) or 0.0))


def _runs_to(pairs: int, cell: Cell, baseline: Cell, assessment: Assessment) -> list[Run]:
    """The runs still to be trained for so many pairs: by seed, passing over seeds that were lost in either arm."""
    arms = [assessment.cells[one.table, one.row.id, one.column.id].arm for one in (baseline, cell)]
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
