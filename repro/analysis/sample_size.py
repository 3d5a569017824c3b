"""Sample sizes: the seeds that each cell needs, their cost, the cheapest order, and the verdicts to expect.

Cells of a row share the runs of their baseline: the cost of a cell depends on those before it, and the order is greedy.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, count, islice
from operator import attrgetter
from typing import TypeVar

from repro.analysis.assessment import Assessment
from repro.analysis.cell import CellResult
from repro.analysis.seeds import most_of, seeds_wanted
from repro.analysis.stats.power import GUESSED_RUN_STD, POWER, planning_std
from repro.analysis.stats.simulation import verdict_chances
from repro.errors import UserError
from repro.experiment.schema import Cell, Run, Table
from repro.wording import shell_line

HoursPerRun = Callable[[Cell], float | None]
_Wanted = TypeVar("_Wanted")


@dataclass(frozen=True)
class Need:
    """The seeds that an undecided cell needs.

    ``std`` is the assumed spread of paired differences in points, ``level`` what Holm's adjustment compares p with.
    ``confirm`` paired seeds show the paper's effect if it exists, ``refute`` show it to be smaller than what matters if
    there is none, each with the requested power and the row's other losses trained to as many; None for more than
    10,000, and where no number refutes what is printed. ``seeds`` are those for an answer or the next interim analysis,
    None if no feasible number is certain to do. ``paired`` are recorded.
    """

    cell: Cell
    baseline: Cell
    paper_delta: float
    std: float
    level: float
    confirm: int | None
    refute: int | None
    seeds: int | None
    paired: int


@dataclass(frozen=True)
class Step:
    """A cell to answer next: the runs it needs in addition to those of the steps before it, in pairs by seed."""

    need: Need
    runs: tuple[Run, ...]
    hours: float


@dataclass(frozen=True)
class SeedPlan:
    """The undecided cells, soonest answer first, of which the first ``affordable`` fit ``gpu_hours``.

    ``unknown_cost``: the time of a run is not known. ``out_of_reach``: no feasible number of seeds is certain to do.
    ``waiting``: they have the seeds of the next interim analysis, which other cells of their table lack.
    """

    power: float
    gpu_hours: float | None
    steps: tuple[Step, ...]
    affordable: int
    unknown_cost: tuple[Need, ...]
    out_of_reach: tuple[Need, ...]
    waiting: tuple[Need, ...]
    decided: tuple[CellResult, ...]

    @property
    def needs(self) -> tuple[Need, ...]:
        """All undecided cells."""
        return (*(step.need for step in self.steps), *self.unknown_cost, *self.out_of_reach, *self.waiting)

    @property
    def hours(self) -> float:
        """The time of all steps."""
        return sum(step.hours for step in self.steps)


@dataclass(frozen=True)
class ExpectedVerdict:
    """What to expect of one cell after ``seeds`` seeds.

    ``reproduced``: the chance of that verdict if every effect of its family is the paper's. ``refuted``: the chance of
    "not reproduced" if there is no effect. The row's other losses have as many seeds.
    """

    cell: str
    paper_delta: float
    seeds: int
    reproduced: float
    refuted: float


def plan_seeds(
    tables: Sequence[Table],
    assessment: Assessment,
    hours_per_run: HoursPerRun,
    *,
    power: float = POWER,
    gpu_hours: float | None = None,
    guessed_run_std: float = GUESSED_RUN_STD,
) -> SeedPlan:
    """Plan the undecided cells of ``tables``; ``assessment`` covers every table of the family, with or without runs.

    A cell with seeds is planned with its own spread, others with that of all cells. ``guessed_run_std``, in points, is
    of one run over seeds and counts as five of them.
    """
    decided, out_of_reach, waiting, unknown_cost, known = [], [], [], [], []
    for baseline, cell in chain.from_iterable(map(_compared, tables)):
        result = _result(cell, assessment)
        if result.decided:
            decided.append(result)
        elif result.paper_delta is not None:
            need = _need(baseline, cell, result.paper_delta, assessment, power, guessed_run_std)
            if need.seeds is None:
                out_of_reach.append(need)
            elif None in (hours_per_run(need.cell), hours_per_run(need.baseline)):
                unknown_cost.append(need)
            else:
                runs = (_runs_before if result.looks else _runs_to)(need.seeds, (baseline, cell), assessment)
                known.append((need, runs)) if runs else waiting.append(need)
    steps = tuple(Step(need, runs, hours) for need, runs, hours in _cheapest_first(known, hours_per_run))
    spent = accumulate(step.hours for step in steps)
    return SeedPlan(
        power=power,
        gpu_hours=gpu_hours,
        steps=steps,
        affordable=len(steps) if gpu_hours is None else sum(hours <= gpu_hours for hours in spent),
        unknown_cost=tuple(unknown_cost),
        out_of_reach=tuple(out_of_reach),
        waiting=tuple(waiting),
        decided=tuple(decided),
    )


def next_runs(table: Table, assessment: Assessment, hours_per_run: HoursPerRun = lambda cell: None) -> tuple[Run, ...]:
    """The runs that bring every undecided cell of ``table`` to its next interim analysis, in pairs by seed.

    None when every cell is decided or the last analysis is done. The cells that cost least come first. The baseline
    continues as long as any cell of its row is undecided. Raises UserError without a preregistration.
    """
    if table.id not in assessment.looks:
        declare = shell_line(["biasrepro", "plan", table.reference, "--looks", "5,10,20", "--declare"])
        raise UserError(f"no interim analyses are preregistered for {table.id}", hint=f"Preregister them: {declare}")
    left = []
    for pair in _compared(table):
        if (look := _result(pair[1], assessment).next_look) is not None:
            left.append((pair, _runs_before(look, pair, assessment)))
    return tuple(run for _, runs, _ in _cheapest_first(left, hours_per_run) for run in runs)


def runs_to_last_look(table: Table, assessment: Assessment) -> tuple[Run, ...]:
    """The runs that are left at most: if no undecided cell of ``table`` is decided before the last interim analysis."""
    runs: dict[str, Run] = {}
    for pair in _compared(table):
        if _result(pair[1], assessment).next_look is not None:
            runs |= _runs_before(assessment.looks[table.id].seeds[-1], pair, assessment)
    return tuple(runs.values())


def expected_verdicts(
    tables: Sequence[Table], assessment: Assessment, seeds: int, *, run_std: float = GUESSED_RUN_STD
) -> list[ExpectedVerdict]:
    """The verdict to expect on every printed difference of ``tables``, simulated with its whole family.

    ``assessment`` covers the whole family, with or without runs. ``run_std`` is of one run over seeds, in points.
    """
    shown = {table.id for table in tables}
    expected = []
    for family in dict.fromkeys(table.family for table in tables):
        rows = _printed_rows(assessment, family)
        if not rows:
            continue
        deltas = [list(map(attrgetter("paper_delta"), row)) for row in rows]
        units = [cell.unit for cell in chain.from_iterable(rows)]
        reproduced, refuted = verdict_chances(deltas, seeds, run_std=run_std, unit=units)
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


def _need(
    baseline: Cell, cell: Cell, paper_delta: float, assessment: Assessment, power: float, guessed_run_std: float
) -> Need:
    result = _result(cell, assessment)
    own = bool(result.delta and result.delta.pooled_std)
    std = planning_std(_spreads([result] if own else assessment.cells.values()), guessed_run_std)
    confirm, refute = seeds_wanted(result, std, power)
    paired = len(assessment.pairs(result.table, result.row, result.column).seeds)
    return Need(
        cell=cell,
        baseline=baseline,
        paper_delta=paper_delta,
        std=std,
        level=result.level or assessment.alpha,
        confirm=confirm,
        refute=refute,
        seeds=_seeds(result, confirm, refute, paired),
        paired=paired,
    )


def _spreads(results: Iterable[CellResult]) -> list[tuple[float, float]]:
    """The spread of paired differences in points and its degrees of freedom, once a row: its losses share them."""
    rows: dict[tuple[str, str], tuple[float, float]] = {}
    for result in results:
        delta, row = result.delta, (result.table, result.row)
        if delta and delta.pooled_std and delta.df > rows.get(row, (0.0, 0.0))[1]:
            rows[row] = delta.pooled_std, delta.df
    return list(rows.values())


def _seeds(result: CellResult, confirm: int | None, refute: int | None, paired: int) -> int | None:
    """The paired seeds for an answer or the next interim analysis; None if no feasible number is certain to do."""
    seeds = result.next_look if result.looks else most_of(result, confirm, refute)
    if result.looks or seeds is None or seeds > paired:
        return seeds
    return None if result.seeds_needed is None else paired + result.seeds_needed


def _cheapest_first(
    left: list[tuple[_Wanted, dict[str, Run]]], hours_per_run: HoursPerRun
) -> Iterator[tuple[_Wanted, tuple[Run, ...], float]]:
    """Each of ``left`` with the runs that it needs in addition to those before it and their hours, the cheapest next.

    Unknown costs come last, in the order given.
    """
    hours: dict[int, float] = {}
    needing: dict[str, list[int]] = defaultdict(list)
    for index, (_, runs) in enumerate(left):
        hours[index] = _hours(runs.values(), hours_per_run)
        for name in runs:
            needing[name].append(index)
    while hours:
        cheapest = min(hours, key=hours.__getitem__)
        wanted, runs = left[cheapest]
        yield wanted, tuple(runs.values()), hours.pop(cheapest)
        others = [(other, name) for name in runs for other in needing[name] if other in hours]
        for other, name in others:
            del left[other][1][name]
        for other in {other for other, _ in others}:
            hours[other] = _hours(left[other][1].values(), hours_per_run)


def _hours(runs: Collection[Run], hours_per_run: HoursPerRun) -> float:
    counts = Counter(run.cell.column.id for run in runs)
    cells = {run.cell.column.id: run.cell for run in runs}
    known = [(count, hours_per_run(cells[column])) for column, count in counts.items()]
    return sum(math.inf if hours is None else count * hours for count, hours in known)


def _runs_before(seed: int, pair: Sequence[Cell], assessment: Assessment) -> dict[str, Run]:
    """The runs of the seeds below this one still to train; a seed lost in either cell is skipped in both."""
    lost = {lost for cell in pair for lost in _result(cell, assessment).runs.lost}
    return _not_recorded((n for n in range(seed) if n not in lost), pair, assessment)


def _runs_to(pairs: int, pair: Sequence[Cell], assessment: Assessment) -> dict[str, Run]:
    """The runs still to train for so many pairs, by seed; a seed left out of either cell is skipped in both."""
    first, second = (_result(cell, assessment).runs for cell in pair)
    paired = set(first.seeds) & set(second.seeds)
    skipped = paired | {left_out.seed for left_out in first.left_out + second.left_out}
    fresh = (seed for seed in count() if seed not in skipped)
    return _not_recorded(islice(fresh, max(pairs - len(paired), 0)), pair, assessment)


def _not_recorded(seeds: Iterable[int], pair: Sequence[Cell], assessment: Assessment) -> dict[str, Run]:
    recorded = {cell.id: _result(cell, assessment).runs.seeds for cell in pair}
    runs = [Run(cell=cell, seed=seed) for seed in seeds for cell in pair if seed not in recorded[cell.id]]
    return {run.id: run for run in runs}


def _result(cell: Cell, assessment: Assessment) -> CellResult:
    return assessment.cells[cell.table, cell.row.id, cell.column.id]


def _compared(table: Table) -> list[tuple[Cell, Cell]]:
    """Each cell that is compared with the baseline, behind the baseline's cell of its row."""
    cells = {(cell.row.id, cell.column.id): cell for cell in table.cells}
    return [(cells[row, table.baseline], cell) for (row, column), cell in cells.items() if column != table.baseline]
