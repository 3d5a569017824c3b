"""``biasrepro plan``: how many seeds an answer takes, what that costs, and what a budget can answer."""

from __future__ import annotations

from itertools import chain
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from repro.cli.folders import RESULTS_DEFAULT, Results, say_if_absent
from repro.cli.options import ADD_OR_LEAVE_OUT, Plugins, refuse_unused
from repro.cli.preflight import say_warnings
from repro.cli.references import command_line, listed_seeds, tables_argument
from repro.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from repro.analysis.assessment import Assessment
    from repro.analysis.sample_size import ExpectedVerdict, HoursPerRun, Need, SeedPlan, Step
    from repro.analysis.stats.alpha_spending import Looks
    from repro.experiment.schema import Table
    from repro.results import Found

MOST_COMMANDS = 3
LARGE_POINTS = 1.0
_CHANCES = "chance  of 'reproduced' if all effects are the paper's; of 'not reproduced' if there are none"
_PRINTED = "printed\ndifference\n(points)"

Names = Annotated[list[str] | None, tables_argument("both tables of the paper", of="with published figures")]
Power = Annotated[
    float, typer.Option(min=0.5, max=0.999, help="Chance of a verdict, whether the effect is the paper's or none.")
]
GpuHours = Annotated[
    float | None, typer.Option(min=0, max=1e9, help="Show which cells this budget can answer.", show_default="none")
]
HoursOfARun = Annotated[
    float | None,
    typer.Option(min=0, max=1e6, help="Hours that one run takes.", show_default="from records of runs on a GPU"),
]
Spread = Annotated[
    float, typer.Option(min=0.01, max=20, help="Guessed standard deviation of one run over seeds, in points.")
]
Analyses = Annotated[
    str | None,
    typer.Option(
        metavar="SEEDS", help="Show the significance levels of interim analyses at these numbers of seeds: 5,10,20."
    ),
]
AlphaSpending = Annotated[
    Literal["pocock", "obrien_fleming"],
    typer.Option(help="How alpha is spent over the interim analyses: evenly, or almost all of it at the last."),
]
Declare = Annotated[
    bool,
    typer.Option(
        "--declare",
        is_eager=True,  # it decides whether --results may name a folder that does not exist
        help="Preregister these interim analyses for the tables named, once, before there are results.",
    ),
]
Unseen = Annotated[
    bool, typer.Option("--unseen", help="With --declare: state that nobody has looked at the results that exist.")
]
At = Annotated[
    str | None,
    typer.Option(
        metavar="SEEDS",
        help="Show the verdicts to expect from these numbers of seeds, cell by cell: 5,6,8.",
        show_default="each table's seeds, totals only",
    ),
]


def plan(
    context: typer.Context,
    names: Names = None,
    power: Power = 0.8,
    gpu_hours: GpuHours = None,
    hours_per_run: HoursOfARun = None,
    spread: Spread = 0.25,
    looks: Analyses = None,
    spending: AlphaSpending = "pocock",
    declare: Declare = False,
    unseen: Unseen = False,
    at: At = None,
    plugin: Plugins = None,
    results: Results = RESULTS_DEFAULT,
) -> None:
    """Plan before running: seeds for each cell, GPU-hours, the order for the soonest answers. Trains nothing."""
    from repro.analysis.sample_size import expected_verdicts, plan_seeds
    from repro.analysis.stats.alpha_spending import Looks
    from repro.cli.console import say
    from repro.cli.references import chosen_tables

    shown = Looks.parse(looks, spending) if looks is not None else None
    numbers = _numbers(at) if at is not None else None
    if looks is None:
        refuse_unused(context, "spending", because="is for --looks", hint=ADD_OR_LEAVE_OUT)
    if declare:
        of_plans = ("power", "gpu_hours", "hours_per_run", "spread", "at")
        refuse_unused(context, *of_plans, because="and --declare exclude each other: --declare plans nothing")
        from repro.cli.declare import declare_looks

        return declare_looks(names or [], shown, unseen=unseen, results=results)
    refuse_unused(context, "unseen", because="is for --declare", hint=ADD_OR_LEAVE_OUT)
    tables = chosen_tables(names or [], [])
    say_if_absent(results)
    say_warnings(tables)
    assessment, read = _assess(tables, results)
    hours = _hours(hours_per_run, results, read)
    planned = plan_seeds(tables, assessment, hours, power=power, gpu_hours=gpu_hours, guessed_run_std=spread)
    if not (planned.needs or planned.decided):
        raise UserError(
            f"nothing is published in {' or '.join(table.label for table in tables)} to plan for",
            hint="table1, table2 and released have published figures.",
        )
    if planned.needs:
        _show_cells(planned)
    seeds = numbers or sorted({table.seeds for table in tables})
    expected = [expected_verdicts(tables, assessment, number, run_std=spread) for number in seeds]
    if numbers:
        _show_chances(expected)
    lines = [*_summary(planned, tables), *([_CHANCES] if numbers else ()), *_expectations(expected, spread)]
    lines += _looks(shown) if shown else []
    declared = [assessment.looks[table.id] for table in tables if table.id in assessment.looks]
    lines += [f"looks   {declaration.table}: {declaration.words}" for declaration in declared]
    for line in [*lines, *_next_steps(planned, tables, results)]:
        say(line)


def _assess(tables: Sequence[Table], results: Path) -> tuple[Assessment, Sequence[Found]]:
    """What is known of ``tables`` and the paper's, whose spread serves for cells without runs; and the records read."""
    from repro.analysis.evidence import family_of, gather_evidence
    from repro.cli.output import fail_if_unread
    from repro.cli.references import chosen_tables

    judged = list(chain.from_iterable(family_of(table, tables) for table in tables))
    if all(table.kind != "paper" for table in tables):
        judged += chosen_tables([], [])
    evidence = gather_evidence(results, judged)
    fail_if_unread(evidence.unread)
    return evidence.assess(judged), evidence.found


def _numbers(at: str) -> tuple[int, ...]:
    """The numbers of seeds of ``--at``. Raises UserError."""
    from repro.analysis.stats.alpha_spending import Looks

    try:
        return Looks.parse(at).seeds
    except UserError as error:
        raise UserError(f"--at {at} is not a list of seed counts", hint=error.hint) from error


def _hours(hours_per_run: float | None, results: Path, read: Sequence[Found]) -> HoursPerRun:
    """Hours of a run of a cell: the number given, or what such runs took on a GPU, whatever their loss and seed."""
    from repro.results.store import records_without_epochs
    from repro.sweep.cost.estimate import hours_in_records

    if hours_per_run is not None:
        return lambda cell: hours_per_run
    return hours_in_records(records_without_epochs(results, read), "cuda")


def _show_cells(planned: SeedPlan) -> None:
    """The open cells in the order of their answers, then those whose cost is unknown or out of reach.

    Columns of costs stand only if there is one.
    """
    from repro.cli.console import show_table

    budget = [] if planned.gpu_hours is None else [f"within\n{planned.gpu_hours:g} GPU-hours"]
    cost = ["new\nruns", "GPU-hours", "GPU-hours\nadded up", *budget] if planned.steps else []
    rows, total = [], 0.0
    for number, step in enumerate(planned.steps):
        total += step.hours
        rows.append([*_texts(step.need), str(len(step.runs)), f"{step.hours:,.1f}", f"{total:,.1f}"])
        if budget:
            rows[-1].append("yes" if number < planned.affordable else "no")
    for need in planned.needs[len(planned.steps) :]:
        rows.append([*_texts(need), *("–" for _ in cost)])
    headers = ["cell", _PRINTED, "seeds to\nconfirm it", "seeds to\nrefute it", "seeds\npaired\nso far", *cost]
    show_table(headers, rows, right=range(1, len(headers)))


def _texts(need: Need) -> list[str]:
    from repro.analysis.stats.decision_rule import SMALLEST_EFFECT
    from repro.wording import signed

    never = abs(need.paper_delta) <= SMALLEST_EFFECT
    seeds = [f"{need.confirm or 'more than 10,000'}", f"{need.refute or ('never' if never else 'more than 10,000')}"]
    return [need.cell.id, signed(need.paper_delta, 2), *seeds, str(need.paired)]


def _summary(planned: SeedPlan, tables: Sequence[Table]) -> list[str]:
    from repro.experiment.schema import baseline_names
    from repro.wording import counted

    steps, lines = planned.steps, []
    if planned.gpu_hours is not None:
        used = sum(step.hours for step in steps[: planned.affordable])
        lines.append(
            f"budget  {planned.gpu_hours:,.1f} GPU-hours pay for {planned.affordable} of "
            f"{counted(len(planned.needs), 'open cell')}, using {used:,.1f}"
        )
    if steps:
        runs = sum(len(step.runs) for step in steps)
        lines.append(f"all     {counted(len(steps), 'cell')}: {counted(runs, 'run')}, {planned.hours:,.1f} GPU-hours")
    if planned.unknown_cost:
        lines.append(
            f"cost    unknown for {counted(len(planned.unknown_cost), 'cell')}: no such run is recorded on a GPU; "
            "set it with --hours-per-run"
        )
    for name, cells, which in (
        ("open", planned.out_of_reach, "that no number of seeds is certain to decide"),
        ("wait", planned.waiting, "with the seeds of an analysis that others lack"),
        ("done", planned.decided, "with a verdict already"),
    ):
        if cells:
            lines.append(f"{name}    {counted(len(cells), 'cell')} {which}")
    if planned.needs:
        spreads = sorted({round(need.std, 2) for need in planned.needs})
        width = f"{spreads[0]:.2f}" if len(spreads) == 1 else f"{spreads[0]:.2f} to {spreads[-1]:.2f}"
        level = max(need.level for need in planned.needs)
        lines += [
            "seeds   to confirm it: to show the paper's effect, if it is real (if it prints none: that ours is small)",
            "        to refute it: to show, if there is none, that ours is below 0.5 points (never: it prints no more)",
            f"        paired so far: recorded for both the cell and its baseline, {baseline_names(tables)}",
            f"        each with a chance of {100 * planned.power:g} % after Holm's adjustment (p below {level:.4f}), "
            f"for a spread of {width} points between pairs, if the row's other losses have as many seeds",
        ]
    return lines


def _show_chances(expected: Sequence[Sequence[ExpectedVerdict]]) -> None:
    """A line a cell, and for each number of seeds the chances of both verdicts, if the paper is right and if not."""
    from repro.cli.console import say, show_table
    from repro.wording import signed

    verdicts = ("'reproduced'", "'not reproduced'")
    chances_of = (f"chance of\n{verdict}\nat {of_n[0].seeds} seeds" for of_n in expected for verdict in verdicts)
    headers = ["cell", _PRINTED, *chances_of]
    rows = []
    for of_cell in zip(*expected, strict=True):
        chances = chain.from_iterable((verdict.reproduced, verdict.refuted) for verdict in of_cell)
        shares = [f"{100 * chance:.0f} %" for chance in chances]
        rows.append([of_cell[0].cell, signed(of_cell[0].paper_delta, 2), *shares])
    say("")
    show_table(headers, rows, right=range(1, len(headers)))


def _expectations(expected: Sequence[Sequence[ExpectedVerdict]], run_std: float) -> list[str]:
    """What so many seeds a cell can be expected to answer in all; simulated."""
    lines = []
    for of_n in expected:
        large = [verdict.reproduced for verdict in of_n if abs(verdict.paper_delta) >= LARGE_POINTS]
        of_large = f" ({100 * fmean(large):.1f} % of those that print a point or more)" if large else ""
        reproduced, refuted = sum(verdict.reproduced for verdict in of_n), sum(verdict.refuted for verdict in of_n)
        lines.append(
            f"at {of_n[0].seeds:<5}seeds a cell: if every effect is the paper's, {reproduced:.1f} of {len(of_n)} cells "
            f"are called reproduced{of_large}; if there is none, {refuted:.1f} are called not reproduced"
        )
    if lines:
        lines.append(f"        simulated with a spread of {run_std:g} points of a run over seeds")
    return lines


def _looks(looks: Looks) -> list[str]:
    from repro.analysis.stats.alpha_spending import look_levels
    from repro.analysis.stats.decision_rule import ALPHA

    levels = [f"{level:.2g}" for level in look_levels(looks, ALPHA)]
    seeds = ", ".join(map(str, looks.seeds))
    return [f"looks   at {seeds} paired seeds, each at p below {', '.join(levels)}: together at most {ALPHA:g}"]


def _next_steps(planned: SeedPlan, tables: Sequence[Table], results: Path) -> list[str]:
    """The commands of the first answers that the budget allows."""
    references = {table.id: table.reference for table in tables}
    steps = [step for step in planned.steps[: planned.affordable] if step.runs]
    whole = planned.gpu_hours is None
    commands = list(dict.fromkeys(_command(step, references, results, whole=whole) for step in steps))[:MOST_COMMANDS]
    lines = [f"{'then' if number else 'next':<8}{command}" for number, command in enumerate(commands)]
    return lines or (["next    no cell fits the budget: raise --gpu-hours"] if planned.steps else [])


def _command(step: Step, references: dict[str, str], results: Path, *, whole: bool) -> str:
    """What trains the runs of ``step``; of a preregistered table, of all its steps, if the ``whole`` is paid for."""
    from repro.results.store import is_preregistered

    cell = step.need.cell
    if whole and is_preregistered(results, cell.table):
        return command_line("sweep", references[cell.table], "--until-decided", results=results)
    seeds = listed_seeds(run.seed for run in step.runs)
    columns = f"{step.need.baseline.column.id},{cell.column.id}"
    chosen = ["--rows", cell.row.id, "--columns", columns, "--seeds", seeds]
    return command_line("sweep", references[cell.table], *chosen, results=results)
