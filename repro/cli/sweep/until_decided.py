"""``biasrepro sweep --until-decided``: run to the next interim analysis, analyse, continue with undecided cells.

Only records are kept: after an interruption the same records are analysed again, and the missing runs are trained.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.references import command_line
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.analysis.assessment import Assessment
    from repro.analysis.preregistration import Declaration
    from repro.analysis.sample_size import HoursPerRun
    from repro.cli.sweep.request import SweepRequest
    from repro.experiment.schema import Cell, Run, Table

PROPOSED_LOOKS = "5,10,20"


def sweep_until_decided(request: SweepRequest) -> int:
    """Run to the next interim analysis, analyse, continue with undecided cells; returns the exit code."""
    from repro.cli.sweep.steps import sweep_runs
    from repro.machine import find_gpus

    _refuse_selection(request)
    on_cpu = request.device == "cpu" or not find_gpus()
    hours = hours_from_records(request.results, "cpu" if on_cpu else "cuda")
    if request.dry_run:
        show_until_decided(request.table, request.results, hours)
        return 0
    train = partial(sweep_runs, request)
    return run_until_decided(request.table, request.results, train, hours=hours, fail_fast=request.fail_fast)


def _refuse_selection(request: SweepRequest) -> None:
    """Raise UserError where options choose runs that the preregistration has chosen already."""
    names = ("seeds", "rows", "columns", "only")
    if options := [f"--{name}" for name in names if getattr(request, name) is not None]:
        raise UserError(
            f"--until-decided and {' and '.join(options)} exclude each other",
            hint="The preregistration says which cells are run, and with how many seeds.",
        )


def run_until_decided(
    table: Table, results: Path, train: Callable[[Sequence[Run]], int], *, hours: HoursPerRun, fail_fast: bool
) -> int:
    """Go from one interim analysis to the next; ``train`` trains runs and returns its exit code. Returns the last one.

    A diverged seed is left out of the analysis, and the sweep goes on; failed runs hold the analysis up.
    """
    from repro.analysis.sample_size import next_runs
    from repro.cli.console import counted, say

    preregistration = require_preregistration(results, table)
    say(f"{table.id}: {preregistration.words}")
    assessment = assess_table(table, results)
    _show_standing(table, assessment, preregistration)
    code = 0
    while runs := next_runs(table, assessment, hours):
        seeds = _next_analysis(table, assessment)
        say(f"analysis at {seeds} seeds next: {counted(len(runs), 'run')} to train")
        ended = train(runs)
        code = code or ended
        if ended > 1 or (ended and fail_fast):
            return ended
        assessment = assess_table(table, results)
        missing = next_runs(table, assessment, hours)
        if missing and _next_analysis(table, assessment) == seeds:
            count = counted(len(missing), "run")
            say(f"The analysis at {seeds} seeds is waiting for {count}, such as {missing[0].id}.", "red")
            return ended or 1
        _show_standing(table, assessment, preregistration)
    _show_verdicts(table, assessment, preregistration)
    say(f"next    {command_line('table', table.reference, '--verdicts', 'words', results=results)}")
    return code


def require_preregistration(results: Path, table: Table) -> Declaration:
    """The preregistered interim analyses of ``table``. Raises UserError, with a proposal, where there are none.

    There is no default: a preregistration cannot be changed, so a person has to decide on it.
    """
    from repro.analysis.preregistration import looked_at, read_declaration

    if not looked_at(table):
        raise UserError(
            f"{table.label} has no published differences to decide on",
            where=table.id,
            hint="--until-decided is for tables with published differences: table1, table2, released.",
        )
    if (found := read_declaration(results, table)) is not None:
        return found
    propose = command_line("plan", table.reference, "--looks", PROPOSED_LOOKS, "--declare", results=results)
    raise UserError(
        f"no interim analyses are preregistered for {table.id}, and choosing them along the way would bias the result",
        hint=f"For example: {propose}. It cannot be changed afterwards; without --declare it only shows the cost.",
    )


def assess_table(table: Table, results: Path) -> Assessment:
    """The verdicts on ``table`` so far, by its records and preregistration, with p-values adjusted in its family."""
    from repro.analysis.evidence import family_of, gather_evidence

    family = family_of(table)
    return gather_evidence(results, family).assess(family)


def hours_from_records(results: Path, device: str) -> HoursPerRun:
    """Hours per run of a cell on this kind of device, from earlier records of such runs; None where there are none."""
    from repro.results.store import records_without_epochs
    from repro.sweep.cost.estimate import hours_in_records

    return hours_in_records(records_without_epochs(results), device)


def show_until_decided(table: Table, results: Path, hours: HoursPerRun) -> None:
    """``--dry-run``: the interim analyses, and the runs and hours to the next one, at most, and on average."""
    from repro.analysis.sample_size import next_runs, runs_to_last_look
    from repro.analysis.stats.alpha_spending import look_levels
    from repro.cli.console import counted, say, show_table

    preregistration = require_preregistration(results, table)
    assessment = assess_table(table, results)
    say(f"{table.id}: {preregistration.words}")
    levels = look_levels(preregistration.looks, preregistration.alpha)
    spent = levels.cumsum()
    rows = [
        [str(seeds), f"{level:.2g}", f"{so_far:.2g}"]
        for seeds, level, so_far in zip(preregistration.seeds, levels, spent, strict=True)
    ]
    show_table(["seeds", "alpha at this analysis", "spent so far"], rows, right=(0, 1, 2))
    _show_standing(table, assessment, preregistration)
    left = runs_to_last_look(table, assessment)
    for what, runs in (("next", next_runs(table, assessment, hours)), ("at most", left)):
        known = _sum([hours(run.cell) for run in runs])
        say(f"{what:<10}  {counted(len(runs), 'run')}, {_hours_text(known)}")
    _show_expected(table, assessment, preregistration, hours)
    say("Nothing was started.")


def _show_expected(table: Table, assessment: Assessment, preregistration: Declaration, hours: HoursPerRun) -> None:
    """Print the runs and hours on average, from the first run on, for the paper's effects and for none."""
    from repro.analysis.preregistration import looked_at
    from repro.analysis.stats.simulation import expected_course
    from repro.cli.console import say
    from repro.experiment.schema import BASELINE

    by_row: dict[str, list[Cell]] = {}
    for cell in looked_at(table):
        by_row.setdefault(cell.row.id, []).append(cell)
    deltas = []
    for cells in by_row.values():
        results = [assessment.cells[table.id, cell.row.id, cell.column.id] for cell in cells]
        deltas.append([result.paper_delta or 0.0 for result in results])
    baselines = {cell.row.id: cell for cell in table.cells if cell.column.id == BASELINE}
    family = _family_size(table, assessment)
    for scale, what in ((1.0, "the paper's"), (0.0, "zero")):
        course = expected_course(deltas, preregistration.looks, family=family, scale=scale)
        needed: list[float | None] = []
        for row, cell_seeds, baseline_seeds in zip(by_row, course.cell_seeds, course.baseline_seeds, strict=True):
            cells = [*by_row[row], baselines[row]]
            for cell, seeds in zip(cells, [*cell_seeds, baseline_seeds], strict=True):
                per_run = hours(cell)
                needed.append(None if per_run is None else seeds * per_run)
        say(
            f"expected    {course.runs:,.0f} runs in total, {_hours_text(_sum(needed))}, if the effects are {what}: "
            f"{100 * course.decided:.0f} % of the cells are decided"
        )


def _family_size(table: Table, assessment: Assessment) -> int:
    """The cells that Holm adjusts for: of all the paper's tables for one of them, else of the table alone."""
    from repro.experiment.schema import BASELINE

    shared = table.kind == "paper" and table.comparable
    return sum(key[2] != BASELINE and (shared or key[0] == table.id) for key in assessment.cells)


def _sum(hours: Sequence[float | None]) -> float | None:
    """The sum; None where one of them is unknown."""
    known = [value for value in hours if value is not None]
    return sum(known) if len(known) == len(hours) else None


def _hours_text(hours: float | None) -> str:
    return "hours unknown: no such run is recorded on this device" if hours is None else f"{hours:,.1f} hours"


def _next_analysis(table: Table, assessment: Assessment) -> int | None:
    """The seeds of the next interim analysis, over all cells of the table; None after the last."""
    cells = [cell for key, cell in assessment.cells.items() if key[0] == table.id]
    return min((cell.next_look for cell in cells if cell.next_look), default=None)


def _show_standing(table: Table, assessment: Assessment, preregistration: Declaration) -> None:
    """The latest analysis, the verdicts so far, and the runs that are left out."""
    from repro.cli.console import counted, say

    cells = [cell for key, cell in assessment.cells.items() if "/".join(key) in preregistration.cells]
    latest = max((cell.look or 0 for cell in cells), default=0)
    if latest:
        verdicts = Counter(cell.verdict.value for cell in cells if cell.verdict and cell.decided)
        parts = [f"{count} {verdict}" for verdict, count in verdicts.items()]
        if undecided := sum(not cell.decided for cell in cells):
            parts.append(f"{undecided} undecided")
        say(f"analysed at {latest} seeds: {', '.join(parts)}")
    of_table = [cell for key, cell in assessment.cells.items() if key[0] == table.id]
    left_out = [run for cell in of_table for run in cell.runs.left_out]
    for run in left_out[:10]:
        say(f"left out  {run.run}: {run.reason}")
    if len(left_out) > 10:
        say(f"and {counted(len(left_out) - 10, 'run')} more left out")


def _show_verdicts(table: Table, assessment: Assessment, preregistration: Declaration) -> None:
    """A line per cell: its verdict, and at which analysis it was decided."""
    from repro.cli.console import say

    for cell in preregistration.cells:
        _, row, column = cell.split("/")
        result = assessment.cells[table.id, row, column]
        verdict = result.verdict or "not run"
        if not result.decided:
            verdict = f"{verdict} after the last analysis"
        delta = "" if result.delta is None else f"  {result.delta.mean:+.2f} (paper: {result.paper_delta:+.2f})"
        say(f"{verdict}  {cell}  at {result.look or 0} seeds{delta}")
