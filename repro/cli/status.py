"""``biasrepro status``: which runs are done, running, failed, damaged, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.folders import RESULTS_DEFAULT, Results, say_if_absent
from repro.cli.options import ADD_OR_LEAVE_OUT, Plugins, Settings, refuse_unused
from repro.cli.references import command_line, complete_table, listed_seeds, with_settings
from repro.errors import RunFailure, UserError

if TYPE_CHECKING:
    from collections import Counter
    from pathlib import Path

    from repro.sweep.overview import Overview
    from repro.sweep.survey import Stage

MOST_SHOWN = 20  # of the runs in trouble


def status(
    context: typer.Context,
    table_name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="A table or a YAML file. Without it: every table with results.",
            autocompletion=complete_table,
        ),
    ] = None,
    settings: Settings = None,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat while something is in training.")] = False,
    every: Annotated[
        float, typer.Option(min=0.5, max=86_400, metavar="SECONDS", help="With --watch: how often.")
    ] = 5.0,
    plugin: Plugins = None,
    results: Results = RESULTS_DEFAULT,
) -> None:
    """Show where the runs of a table stand, why some failed, and what to do next.

    It works on any machine that has the results folder. Where SLURM answers, it asks whether detached sweeps are over.
    """
    from repro.cli.output import KEPT
    from repro.cli.watching import show_in_training, show_sweeps, watched
    from repro.sweep.survey import Stage
    from repro.wording import counted

    shown: list[Overview] = []
    if not watch:
        refuse_unused(context, "every", because="is for --watch", hint=ADD_OR_LEAVE_OUT)
    if settings and table_name is None:
        raise UserError("--set needs a table to set it on", hint="Name one: biasrepro status table1 --set KEY=VALUE")

    def show() -> bool:
        """Show the status once; whether something is in training."""
        overviews = _show(table_name, settings, results)
        shown[:] = overviews
        going_on = show_in_training(overviews, results)
        return show_sweeps(results, None if table_name is None else overviews[0].name) or going_on

    if watch:
        watched(show, every)
        return
    show()
    if unread := sum(table.stages[Stage.UNREADABLE] + table.stages[Stage.NEWER] for table in shown):
        raise RunFailure(f"{counted(unread, 'record')} could not be read", hint=KEPT)


def _show(table_name: str | None, settings: list[str] | None, results: Path) -> list[Overview]:
    """Show the overviews of one table or all."""
    from repro.cli.console import say
    from repro.experiment.config import find_table
    from repro.sweep.overview import overview, overview_of_folder, table_folders
    from repro.sweep.registry import registered
    from repro.wording import counted

    if table_name is not None:
        overviews = [overview(results, find_table(with_settings(table_name, settings or [])))]
        say_if_absent(results)
        _show_cells(overviews[0])
    else:
        overviews = [overview_of_folder(results, name) for name in table_folders(results)]
        if not overviews:
            say_if_absent(results)
            if results.is_dir():
                say(f"There are no runs under {results}.")
            say(f"next  {command_line('sweep', 'demo', results=results)}")
            return []
        _show_tables(overviews)
    for table in overviews:
        for lender, count in table.borrowed.items():
            say(f"{counted(count, 'run')} of {table.name} recorded under {lender}: the configuration is the same")
        _show_compute(table, whole=table_name is not None)
        _show_trouble(table, results)
    swept = {registration.table for registration in registered(results)}
    for table in overviews:
        for line in _next_steps(table, results, is_swept=table.name in swept):
            say(line)
    return overviews


def _show_tables(overviews: list[Overview]) -> None:
    from repro.cli.console import show_table
    from repro.sweep.survey import Stage

    found = {stage for table in overviews for stage, count in table.stages.items() if count}
    stages = [stage for stage in Stage if stage in found]
    rows = []
    for table in overviews:
        counts = [str(table.stages[stage] or "–") for stage in stages]
        rows.append([table.name, str(table.stages.total()), *counts])
    show_table(["table", "runs", *(stage.value for stage in stages)], rows, right=range(1, len(stages) + 2))


def _show_cells(found: Overview) -> None:
    """Rows and columns of a table, and in each cell how many of its runs are done; on a narrow terminal a line each."""
    from repro.cli.console import fits_terminal, show_table

    if found.table is None:
        return
    rows = []
    for row in found.table.rows:
        cells = (found.table.cell(row, column) for column in found.table.columns)
        rows.append([row.title, *(_counts(found.by_cell[cell.id]) for cell in cells)])
    titles = [column.title for column in found.table.columns]
    if fits_terminal([[found.name, *titles], *rows]):
        show_table([found.name, *titles], rows)
        return
    cells_below = [
        [f"{row[0]}, {title}", counts] for row in rows for title, counts in zip(titles, row[1:], strict=True)
    ]
    show_table([found.name, "runs done"], cells_below)


def _counts(cell: Counter[Stage]) -> str:
    """``3/5``, and the stage of the others unless they simply have not started: ``3/5, 1 failed``."""
    from repro.sweep.survey import Stage

    done = cell[Stage.COMPLETED]
    others = [f"{cell[stage]} {stage.value}" for stage in Stage if cell[stage] and stage not in _PLAIN]
    return ", ".join([f"{done}/{cell.total()}", *others])


_PLAIN = ("done", "to do")


def _show_compute(found: Overview, *, whole: bool) -> None:
    """What the finished runs of a table took; their sum alone unless ``whole``."""
    from repro.cli.console import say
    from repro.tables.compute_words import compute_parts

    parts = compute_parts(found.compute) if found.compute is not None else []
    if not whole:
        parts = [f"{found.name}: {part}" for part in parts[1:2] or parts]
    for number, part in enumerate(parts):
        say(f"{'' if number else 'compute':<8} {part}")


def _show_trouble(found: Overview, results: Path) -> None:
    """Each run that needs attention, with its cause."""
    from repro.cli.console import say
    from repro.sweep.survey import FINISHED, Stage

    for run_id, state in found.trouble[:MOST_SHOWN]:
        cause = (state.detail or "").splitlines() or [""]
        say(f"{state.stage.value}  {run_id}: {cause[0]}", "red")
        if state.stage is Stage.FAILED:
            say(f"    log: {results / run_id / 'run.log'}")
        elif state.stage not in FINISHED:
            say(f"    file: {results / run_id / 'run.json'}")
    if len(found.trouble) > MOST_SHOWN:
        say(f"… and {len(found.trouble) - MOST_SHOWN} more like these in {found.name}")
    for path in found.unrecognised[:MOST_SHOWN]:
        say(f"unrecognised in {found.name}: {path}", "yellow")


def _seeds_beyond(found: Overview, *stages: Stage) -> list[str]:
    """``--seeds`` for the runs in these stages, if there are any that the table alone does not ask for."""
    seeds = set().union(*(found.seeds.get(stage, frozenset()) for stage in stages))
    planned = found.table.seeds if found.table else 0
    return ["--seeds", listed_seeds(seeds)] if any(seed >= planned for seed in seeds) else []


def _next_steps(found: Overview, results: Path, *, is_swept: bool) -> list[str]:
    """The commands to run next; none to continue a registered sweep, whose own line says how."""
    from repro.cli.advice import next_analysis
    from repro.results.store import is_preregistered
    from repro.sweep.selection import KEEP_BOTH
    from repro.sweep.survey import WAYS_OUT, WITH_ACCURACY, Stage
    from repro.wording import counted

    if found.table is None:
        return [f"{found.name} is not a built-in table; name its YAML file to see more: biasrepro status FILE"]
    lines = []
    stages = found.stages
    if stages[Stage.DAMAGED] or stages[Stage.FOREIGN]:
        lines.append(f"{found.name}: move the files named above, and those runs are trained again")
        if stages[Stage.FOREIGN]:
            lines.append(f"{found.name}: {KEEP_BOTH}")
    for stage in (stage for stage in WAYS_OUT if stages[stage]):
        lines.append(f"{found.name}: {stages[stage]} {stage.value}, perhaps whole: keep them. {WAYS_OUT[stage]}")
    if stages[Stage.FAILED]:
        failed = [found.table.reference, "--only", "failed", *_seeds_beyond(found, Stage.FAILED)]
        lines.append(f"again {command_line('sweep', *failed, results=results)}")
    at_chance = [cell for cell, counts in found.by_cell.items() if counts[Stage.CHANCE]]
    to_do = (Stage.MISSING, Stage.INTERRUPTED, Stage.LOST)
    left = any(counts[stage] for cell, counts in found.by_cell.items() for stage in to_do if cell not in at_chance)
    if at_chance:
        lines.append(
            f"at chance level: {', '.join(at_chance)}; more seeds show nothing (--rows, --columns leave them out)"
        )
    if not is_swept and is_preregistered(results, found.name):
        command = next_analysis(found.table, results)
        lines += [f"next  {command}"] if command else []
    elif not is_swept and left:
        done = f"{stages[Stage.COMPLETED]} of {stages.total()} runs"
        part = f"part  {found.name}: {done} done; the rows without runs were never begun"
        seeds = _seeds_beyond(found, *to_do)
        next_step = f"next  {command_line('sweep', found.table.reference, *seeds, results=results)}"
        lines.append(part if _is_a_part(found) else next_step)
    if stages[Stage.IMPORTED]:
        count = counted(stages[Stage.IMPORTED], "run is", "runs are")
        lines.append(f"{found.name}: {count} imported, not trained here; without their run.json files they are to do")
    if any(stages[stage] for stage in WITH_ACCURACY):
        lines.append(f"show  {command_line('table', found.table.reference, results=results)}")
    return lines


def _is_a_part(found: Overview) -> bool:
    """Whether somebody trained some rows of the table, and finished them."""
    from repro.cli.advice import is_finished_part
    from repro.sweep.survey import Stage

    rows: dict[str, list[int]] = {}
    for cell, counts in found.by_cell.items():
        rows.setdefault(cell.rsplit("/", 2)[1], []).append(counts[Stage.COMPLETED])
    finished = found.stages[Stage.COMPLETED] + found.stages[Stage.MISSING] == found.stages.total()
    return finished and is_finished_part(rows)
