"""``biasrepro sweep --until-decided``: seeds up to the next declared look, one look, and on with the cells still open.

Nothing is kept but records: after an interruption the same looks are taken at the same records, and the rest goes on.
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
    from repro.experiment.schema import Run, Table

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
    """Raise UserError where options choose runs that the declaration has chosen already."""
    names = ("seeds", "rows", "columns", "only")
    if options := [f"--{name}" for name in names if getattr(request, name) is not None]:
        raise UserError(
            f"--until-decided goes without {' and '.join(options)}",
            hint="The declaration says which cells are run, and the looks say how many seeds of each.",
        )


def run_until_decided(
    table: Table, results: Path, train: Callable[[Sequence[Run]], int], *, hours: HoursPerRun, fail_fast: bool
) -> int:
    """Go from look to look; ``train`` trains runs and returns its exit code. Returns that of the whole.

    A diverged seed is left out of its look, and the rest goes on; a look whose runs failed waits for them.
    """
    from repro.analysis.sample_size import next_runs
    from repro.cli.console import counted, say

    declaration = require_declaration(results, table)
    say(f"{table.id}: {declaration.words}")
    code = 0
    while True:
        assessment = assess_table(table, results)
        runs = next_runs(table, assessment, hours)
        for line in _standing(table, assessment, declaration):
            say(line)
        if not runs:
            for line in _verdicts(table, assessment, declaration):
                say(line)
            say(f"next    {command_line('table', table.reference, '--verdicts', 'words', results=results)}")
            return code
        look = _next_look(table, assessment)
        say(f"look    at {look} seeds: {counted(len(runs), 'run')} to go")
        ended = train(runs)
        code = code or ended
        if ended > 1 or (ended and fail_fast):
            return ended
        waiting = next_runs(table, after := assess_table(table, results), hours)
        if waiting and _next_look(table, after) == look:
            say(f"The look at {look} seeds waits for {counted(len(waiting), 'run')}, such as {waiting[0].id}.", "red")
            return ended or 1


def require_declaration(results: Path, table: Table) -> Declaration:
    """What was declared of ``table``. Raises UserError with a proposal where nothing was.

    Nothing is declared by default: it cannot be taken back, so it is a person's to say and not a batch job's.
    """
    from repro.analysis.preregistration import looked_at, read_declaration

    if not looked_at(table):
        raise UserError(
            f"nothing is published in {table.label} to decide on",
            where=table.id,
            hint="--until-decided is for tables with published differences: table1, table2, released.",
        )
    if (found := read_declaration(results, table)) is not None:
        return found
    propose = command_line("plan", table.reference, "--looks", PROPOSED_LOOKS, "--declare", results=results)
    raise UserError(
        f"no looks are declared for {table.id}, and one that is chosen on the way is no honest one",
        hint=f"A proposal: {propose}. It cannot be changed afterwards; without --declare it shows what looks cost.",
    )


def assess_table(table: Table, results: Path) -> Assessment:
    """Where ``table`` stands by its records and declaration, in the family that its p-values are adjusted in."""
    from repro.analysis.assessment import assess
    from repro.analysis.preregistration import read_declarations
    from repro.results import load_records
    from repro.tables.gather import family_of

    family = family_of(table)
    records = [one.record for one in load_records(results, [table.id], epochs=False) if one.record]
    return assess(family, records, looks=read_declarations(results, [table]))


def hours_from_records(results: Path, device: str) -> HoursPerRun:
    """Hours of a run of a cell on this kind of device, from earlier records of such runs; None where there are none."""
    from repro.sweep.cost.estimate import hours_in_records
    from repro.sweep.survey import headers_under

    return hours_in_records(headers_under(results), device)


def show_until_decided(table: Table, results: Path, hours: HoursPerRun) -> None:
    """``--dry-run``: the looks, what each may cost, and the runs and hours at worst and on average."""
    from repro.analysis.preregistration import looked_at
    from repro.analysis.sample_size import next_runs, runs_to_last_look
    from repro.analysis.stats.alpha_spending import look_levels
    from repro.analysis.stats.simulation import expected_course
    from repro.cli.console import counted, say, show_table
    from repro.experiment.schema import BASELINE

    declaration = require_declaration(results, table)
    assessment = assess_table(table, results)
    say(f"{table.id}: {declaration.words}")
    levels = look_levels(declaration.looks, declaration.alpha)
    rows = [
        [str(n), f"{level:.2g}", f"{so_far:.2g}"]
        for n, level, so_far in zip(declaration.seeds, levels, levels.cumsum(), strict=True)
    ]
    show_table(["seeds", "alpha at this look", "spent up to it"], rows, right=(0, 1, 2))
    for line in _standing(table, assessment, declaration):
        say(line)
    runs, worst = next_runs(table, assessment, hours), runs_to_last_look(table, assessment)
    say(f"next look   {counted(len(runs), 'run')}, {_hours_text(_sum(runs, hours))}")
    say(f"at worst    {counted(len(worst), 'run')}, {_hours_text(_sum(worst, hours))}")
    cells = looked_at(table)
    by_row = [[cell for cell in cells if cell.row.id == row] for row in dict.fromkeys(cell.row.id for cell in cells)]
    deltas = [[assessment.cells[table.id, c.row.id, c.column.id].paper_delta or 0.0 for c in row] for row in by_row]
    baselines = {cell.row.id: cell for cell in table.cells if cell.column.id == BASELINE}
    for scale, what in ((1.0, "the paper's"), (0.0, "none")):
        course = expected_course(deltas, declaration.looks, family=_family_size(table, assessment), scale=scale)
        parts = [
            (seeds, hours(cell))
            for row, of_row, shared in zip(by_row, course.cell_seeds, course.baseline_seeds, strict=True)
            for cell, seeds in (*zip(row, of_row, strict=True), (baselines[row[0].row.id], shared))
        ]
        known = None if any(h is None for _, h in parts) else sum(seeds * (h or 0.0) for seeds, h in parts)
        say(
            f"expected    {course.runs:,.0f} runs from the first on, {_hours_text(known)}, if the effects are {what}: "
            f"{100 * course.decided:.0f} % of the cells get an answer"
        )
    say("Nothing was started.")


def _family_size(table: Table, assessment: Assessment) -> int:
    """The cells that Holm adjusts for: of all the paper's tables for one of them, else of the table alone."""
    from repro.experiment.schema import BASELINE

    shared = table.kind == "paper" and table.comparable
    return sum(key[2] != BASELINE and (shared or key[0] == table.id) for key in assessment.cells)


def _sum(runs: Sequence[Run], hours: HoursPerRun) -> float | None:
    known = [hours(run.cell) for run in runs]
    return None if any(one is None for one in known) else sum(one or 0.0 for one in known)


def _hours_text(hours: float | None) -> str:
    return "hours unknown: no such run is recorded on this device" if hours is None else f"{hours:,.1f} hours"


def _next_look(table: Table, assessment: Assessment) -> int | None:
    looks = [one.next_look for key, one in assessment.cells.items() if key[0] == table.id and one.next_look]
    return min(looks, default=None)


def _standing(table: Table, assessment: Assessment, declaration: Declaration) -> list[str]:
    """The latest look, the answers so far, and the seeds that no look counts."""
    from repro.cli.console import counted

    cells = [one for key, one in assessment.cells.items() if "/".join(key) in declaration.cells]
    latest = max((one.look or 0 for one in cells), default=0)
    answers = Counter(one.verdict.value for one in cells if one.verdict and one.decided)
    open_cells = sum(not one.decided for one in cells)
    said = [
        *(f"{count} {answer}" for answer, count in answers.items()),
        *([f"{open_cells} open"] if open_cells else []),
    ]
    lines = [f"looked  at {latest} seeds: {', '.join(said)}"] if latest else []
    lost = [one for key, cell in assessment.cells.items() if key[0] == table.id for one in cell.arm.left_out]
    lines += [f"left out  {one.run}: {one.reason}" for one in lost[:10]]
    if len(lost) > 10:
        lines.append(f"and {counted(len(lost) - 10, 'run')} more left out")
    return lines


def _verdicts(table: Table, assessment: Assessment, declaration: Declaration) -> list[str]:
    """A line a cell: its answer, and at which look it fell."""
    lines = []
    for cell in declaration.cells:
        _, row, column = cell.split("/")
        result = assessment.cells[table.id, row, column]
        delta = "" if result.delta is None else f"  {result.delta.mean:+.2f} ({result.paper_delta:+.2f} printed)"
        end = "" if result.decided else ", and the last look is over"
        lines.append(f"{result.verdict or 'not run'}{end}  {cell}  at {result.look or 0} seeds{delta}")
    return lines
