"""``biasrepro report``: the whole answer as one page, or as a summary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from repro.cli.folders import RESULTS_DEFAULT, Results, say_if_absent
from repro.cli.options import CountImported, Metric, Overwrite, Plugins, Settings, format_option, output_option
from repro.cli.references import listed_seeds, tables_argument
from repro.errors import UserError
from repro.experiment.plugins import plugin_options
from repro.wording import shell_line

if TYPE_CHECKING:
    from repro.analysis import runs
    from repro.experiment.schema import Table
    from repro.figures import Recorded
    from repro.report import Report
    from repro.tables.structure import AssembledCell


def report(
    tables: Annotated[list[str] | None, tables_argument("the paper's tables, and every other that has records")] = None,
    output: Annotated[Path | None, output_option("report.html, or the terminal")] = None,
    format_name: Annotated[str | None, format_option("html", "markdown", default="html")] = None,
    metric: Metric = "last",
    overwrite: Overwrite = False,
    results: Results = RESULTS_DEFAULT,
    plugin: Plugins = None,
    settings: Settings = None,
    count_imported: CountImported = False,
) -> None:
    """Report on what was recorded: verdict, claims, tables, figures, assumptions, provenance, in one file."""
    from repro.analysis.runs import METRICS, unread
    from repro.cli.console import say
    from repro.cli.output import deliver, fail_if_unread, format_of, refuse_unknown, refuse_unwritable
    from repro.cli.references import chosen_tables
    from repro.report import FORMATS, SUFFIXES, gather_report

    format_name = format_of(output, format_name, SUFFIXES, default="html")
    refuse_unknown("format", format_name, FORMATS)
    refuse_unknown("metric", metric, METRICS)
    if settings and not tables:
        raise UserError("--set needs a table to set it on", hint="Name one: biasrepro report table1 --set KEY=VALUE")
    output = output or (Path("report.html") if format_name == "html" else None)
    if output:
        refuse_unwritable(output, format_name, overwrite=overwrite)
    chosen = chosen_tables(tables, settings or []) if tables else []
    say_if_absent(results)
    found = gather_report(results, chosen, cast("runs.Metric", metric), count_imported=count_imported)
    again = ["report", *map(_shown_reference, chosen), "--format", format_name, "--metric", metric]
    again += ["--count-imported"] if count_imported else []
    again += [*(["-o", output.name] if output else []), *plugin_options()]
    text = FORMATS[format_name](found, _commands(found, again))
    deliver(text, output)
    for line in _next_steps(found, results):
        say(line, stderr=True)
    fail_if_unread(unread(chain.from_iterable(table.shown.left_out for table in (*found.papers, *found.sections))))


def _commands(found: Report, again: Sequence[str]) -> list[str]:
    """The commands that fetch the data, train the runs in the report (all runs, if it has none) and make it again."""
    sections = [section for section in found.sections if _begun(section)] or found.sections
    facts = [section.table.dataset.facts for section in sections]
    data = dict.fromkeys(known.name for known in facts if known is not None and known.archives)
    commands = [["data", "fetch", name] for name in data]
    own = plugin_options()
    commands += [[*_sweep(section), *own] for section in sections]
    return [shell_line(["biasrepro", *words]) for words in (*commands, again)]


def _sweep(section: Recorded) -> list[str]:
    """The words that train the runs of a table: of a part of it, if only a part was begun."""
    table = section.table
    begun = _begun(section)
    rows, columns = dict.fromkeys(row for row, _ in begun), dict.fromkeys(cell.column for _, cell in begun)
    seeds = {seed for _, cell in begun for seed in _seeds_of(cell)} or range(table.seeds)
    words = ["sweep", _shown_reference(table)]
    words += ["--rows", ",".join(rows)] if 0 < len(rows) < len(table.rows) else []
    words += ["--columns", ",".join(columns)] if 0 < len(columns) < len(table.columns) else []
    return [*words, "--seeds", listed_seeds(seeds)]


def _begun(section: Recorded) -> list[tuple[str, AssembledCell]]:
    """The cells of a table's own that have runs, of whatever seeds, each with its row."""
    own = [row for row in section.shown.rows if row.table == section.table.id]
    return [(row.id, cell) for row in own for cell in row.cells if _seeds_of(cell)]


def _seeds_of(cell: AssembledCell) -> tuple[int, ...]:
    """The seeds that were trained in a cell, those that diverged too."""
    return (*(cell.ours.seeds if cell.ours else ()), *cell.diverged_seeds)


def _shown_reference(table: Table) -> str:
    """The table on the command line, without the folder of a file that was given by its absolute path."""
    folder = f"{Path(table.origin).parent}/"
    return table.reference.removeprefix(folder) if folder.startswith("/") else table.reference


def _next_steps(found: Report, results: Path) -> Sequence[str]:
    """What to run next, and what was left out."""
    from repro.cli.references import command_line

    lines = []
    if found.on_paper and any(table.shown.recorded_runs < table.shown.planned_runs for table in found.papers):
        lines.append(f"Runs are missing: `{command_line('plan', results=results)}` shows which runs to add first.")
    if found.unknown:
        names = ", ".join(found.unknown)
        lines.append(
            f"Not shown, because their experiments are files of their own: {names}. Name the files to show them."
        )
    return lines
