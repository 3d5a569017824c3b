"""``biasrepro sweep --until-decided``: run to the next interim analysis, analyse, continue with undecided cells.

Only records are kept: after an interruption the same records are analysed again, and the missing runs are trained.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from repro import machine
from repro.analysis.assessment import Assessment
from repro.analysis.preregistration import Declaration, read_declaration, tested_cells
from repro.analysis.sample_size import HoursPerRun, next_runs, runs_to_last_look
from repro.analysis.stats.alpha_spending import look_levels
from repro.analysis.stats.decision_rule import THREE_ANSWERS, Printed
from repro.analysis.stats.half_delta_rule import HALF_DELTA
from repro.analysis.stats.simulation import expected_course
from repro.cli.console import say, show_table
from repro.cli.output import fail_if_unread
from repro.cli.references import command_line
from repro.cli.sweep.request import SweepRequest
from repro.cli.sweep.steps import sweep_runs
from repro.errors import UserError
from repro.experiment.schema import Cell, Table
from repro.results.store import records_without_epochs
from repro.sweep.cost.estimate import hours_in_records
from repro.wording import counted, signed

PROPOSED_LOOKS = "5,10,20"


def sweep_until_decided(request: SweepRequest) -> int:
    """Run to the next interim analysis, analyse, continue with undecided cells; returns the exit code."""
    table, results = request.table, request.results
    preregistration = require_preregistration(results, table)
    assessment = assess_table(table, results)
    say(f"{table.id}: {preregistration.words}")
    if request.dry_run:
        _show_levels(preregistration)
    _show_standing(table, assessment, preregistration)
    backend = request.backend
    has_gpus = bool(machine.find_gpus()) if backend is None else backend.uses_gpus
    on_cpu = request.device == "cpu" or not has_gpus
    hours = hours_in_records(records_without_epochs(results), "cpu" if on_cpu else "cuda")
    if request.dry_run:
        _show_cost(table, assessment, preregistration, hours)
        say("Nothing was started.")
        return 0
    return _run_until_decided(request, assessment, preregistration, hours)


def _run_until_decided(
    request: SweepRequest, assessment: Assessment, preregistration: Declaration, hours: HoursPerRun
) -> int:
    """Train to the next interim analysis and analyse, until nothing is undecided; returns the exit code.

    A diverged seed is left out of the analysis, and the sweep continues; an analysis waits for runs that failed.
    """
    table, results = request.table, request.results
    code = 0
    while runs := next_runs(table, assessment, hours):
        seeds = _next_analysis(table, assessment)
        say(f"analysis at {seeds} seeds next: {counted(len(runs), 'run')} to train")
        ended = sweep_runs(request, runs)
        code = code or ended
        if ended > 1 or (ended and request.fail_fast):
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
    """The preregistered interim analyses of ``table``. Raises UserError, with a proposal, if there are none.

    There is no default: a preregistration cannot be changed, so a person has to decide on it.
    """
    if not tested_cells(table):
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
        hint=f"For example: {propose}. It cannot be changed afterwards; without --declare it only shows the "
        "significance levels.",
    )


def assess_table(table: Table, results: Path) -> Assessment:
    """The verdicts on ``table`` so far, by its records and preregistration, with p-values adjusted in its family."""
    from repro.analysis.evidence import family_of, gather_evidence

    family = family_of(table)
    evidence = gather_evidence(results, family)
    fail_if_unread(evidence.unread)
    return evidence.assess(family)


def _show_levels(preregistration: Declaration) -> None:
    """Print the significance level of each interim analysis."""
    levels = look_levels(preregistration.looks, preregistration.alpha)
    rows = []
    for seeds, level, spent in zip(preregistration.seeds, levels, levels.cumsum(), strict=True):
        rows.append([str(seeds), f"{level:.2g}", f"{spent:.2g}"])
    show_table(["seeds", "alpha at this analysis", "spent so far"], rows, right=(0, 1, 2))


def _show_cost(table: Table, assessment: Assessment, preregistration: Declaration, hours: HoursPerRun) -> None:
    """Print the runs and hours to the next interim analysis, at most, and on average.

    The average is from the first run on, if the effects are the paper's and if they are zero.
    """
    left = runs_to_last_look(table, assessment)
    for what, runs in (("next", next_runs(table, assessment, hours)), ("at most", left)):
        say(f"{what:<10}  {counted(len(runs), 'run')}, {_total([hours(run.cell) for run in runs])}")
    by_row: dict[str, list[Cell]] = {}
    for cell in tested_cells(table):
        by_row.setdefault(cell.row.id, []).append(cell)
    deltas, units = [], []
    for cells in by_row.values():
        results = [assessment.cells[table.id, cell.row.id, cell.column.id] for cell in cells]
        deltas.append([result.paper_delta or 0.0 for result in results])
        units += [result.unit for result in results]
    baselines = {cell.row.id: cell for cell in table.cells if cell.column.id == table.baseline}
    tested = {(table.id, cell.row.id, cell.column.id) for cell in tested_cells(table)}
    beside = [
        (math.nan if cell.paper_delta is None else cell.paper_delta, cell.unit)
        for key, cell in assessment.cells.items()
        if key[2] != assessment.baselines[key[0]] and key not in tested and assessment.families[key[0]] == table.family
    ]
    others = Printed.of([delta for delta, _unit in beside], [unit for _delta, unit in beside])
    rule = HALF_DELTA if preregistration.rule == "half_delta" else THREE_ANSWERS
    for scale, what in ((1.0, "the paper's"), (0.0, "zero")):
        course = expected_course(deltas, preregistration.looks, others=others, scale=scale, rule=rule, unit=units)
        needed: list[float | None] = []
        for row, cell_seeds, baseline_seeds in zip(by_row, course.cell_seeds, course.baseline_seeds, strict=True):
            cells = [*by_row[row], baselines[row]]
            for cell, seeds in zip(cells, [*cell_seeds, baseline_seeds], strict=True):
                per_run = hours(cell)
                needed.append(None if per_run is None else seeds * per_run)
        say(
            f"expected    {course.runs:,.0f} runs in total, {_total(needed)}, if the effects are {what}: "
            f"{100 * course.decided:.0f} % of the cells are decided"
        )


def _total(hours: Sequence[float | None]) -> str:
    """The sum in words; unknown if one of them is."""
    known = [value for value in hours if value is not None]
    if len(known) < len(hours):
        return "hours unknown: no such run is recorded on this device"
    return f"{sum(known):,.1f} run-hours"


def _next_analysis(table: Table, assessment: Assessment) -> int | None:
    """The seeds of the next interim analysis, over all cells of the table; None after the last."""
    cells = [cell for key, cell in assessment.cells.items() if key[0] == table.id]
    return min((cell.next_look for cell in cells if cell.next_look), default=None)


def _show_standing(table: Table, assessment: Assessment, preregistration: Declaration) -> None:
    """The latest analysis, the verdicts so far, and the runs that are left out."""
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
        say(f"and {counted(len(left_out) - 10, 'more run is', 'more runs are')} left out")


def _show_verdicts(table: Table, assessment: Assessment, preregistration: Declaration) -> None:
    """A line per cell: its verdict, and at which analysis it was decided."""
    for cell in preregistration.cells:
        _, row, column = cell.split("/")
        result = assessment.cells[table.id, row, column]
        verdict = result.verdict_words or "not run"
        if not result.decided:
            verdict = f"{verdict} after the last analysis"
        delta = ""
        if result.delta is not None and result.paper_delta is not None:
            delta = f"  {signed(result.delta.mean)} (paper: {signed(result.paper_delta)})"
        say(f"{verdict}  {cell}  at {result.look or 0} seeds{delta}")
