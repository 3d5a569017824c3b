"""``biasrepro table``: what was recorded beside what was published."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from repro.cli.folders import ResultsFolders, say_if_absent
from repro.cli.options import (
    Columns,
    CountImported,
    Metric,
    Output,
    Overwrite,
    Plugins,
    Rows,
    Settings,
    complete,
    format_option,
    listed,
)
from repro.cli.references import tables_argument
from repro.errors import UserError, nearest
from repro.wording import shell_line

if TYPE_CHECKING:
    from repro.analysis import runs
    from repro.experiment.schema import Table
    from repro.tables import AssembledTable, Part, Verdicts

_MOST_SIBLINGS = 3
_OF_NUMBERS = ("csv", "json")  # every figure has a place of its own there, and no look

Names = Annotated[list[str] | None, tables_argument("every table of the paper")]
Format = Annotated[
    str | None,
    format_option(*("markdown", "latex", "csv", "json", "html"), default="markdown, and on a terminal a drawn table"),
]
Variants = Annotated[
    bool | None,
    typer.Option(
        "--variants/--no-variants",
        help="Show other interpretations of a row below it: also without runs, or never.",
        show_default="those recorded",
    ),
]
ShownVerdicts = Annotated[
    str | None,
    typer.Option(
        metavar="words|stars",
        autocompletion=complete("words", "stars"),
        help="Test every difference: a line with its verdict, or stars for its p-value after Holm's adjustment.",
        show_default="none",
    ),
]
Compact = Annotated[
    bool, typer.Option("--compact", help="One line per model: ours, with the difference in parentheses.")
]
BoldBest = Annotated[bool, typer.Option("--bold-best", help="The best accuracy of each line in bold.")]
Siunitx = Annotated[bool, typer.Option("--siunitx", help="LaTeX with numbers in siunitx's S columns.")]


def table(
    names: Names = None,
    format_name: Format = None,
    metric: Metric = "last",
    output: Output = None,
    overwrite: Overwrite = False,
    rows: Rows = None,
    columns: Columns = None,
    results: ResultsFolders = [],  # noqa: B006 - its callback gives the default
    variants: Variants = None,
    verdicts: ShownVerdicts = None,
    compact: Compact = False,
    bold_best: BoldBest = False,
    siunitx: Siunitx = False,
    plugin: Plugins = None,
    settings: Settings = None,
    count_imported: CountImported = False,
) -> None:
    """Show tables: the paper's figures, ours (mean and spread over seeds), and the differences from the baseline."""
    from repro.analysis.runs import unread
    from repro.cli.console import console, say
    from repro.cli.output import deliver, fail_if_unread, format_of, refuse_unwritable
    from repro.cli.references import chosen_tables
    from repro.cli.terminal_table import drawn
    from repro.tables import RENDERERS, SUFFIXES, gather
    from repro.tables import latex_format as latex

    to_people = format_name is None and output is None and on_terminal()
    format_name = format_of(output, format_name, SUFFIXES, default="markdown")
    looks = {"compact": compact, "bold-best": bold_best, "siunitx": siunitx}
    _refuse(format_name, metric, verdicts, looks, len(results))
    if output:
        refuse_unwritable(output, format_name, overwrite=overwrite)
    chosen = chosen_tables(names or [], settings or [])
    part = _part_of(chosen, rows, columns)
    say_if_absent(results[0])
    look = partial(
        gather,
        metric=cast("runs.Metric", metric),
        show_variants=variants,
        verdicts=cast("Verdicts | None", verdicts),
        given=chosen,
        count_imported=count_imported,
        part=part,
    )
    found = (_of_folders(asked, results, look) for asked in chosen)
    assembled = [replace(one, compact=compact, bold_best=bold_best) for one in found]
    choices: dict[str, str | bool | None] = {"--rows": rows, "--columns": columns, "--verdicts": verdicts}
    choices |= {"--variants": variants, "--no-variants": variants is False, "--count-imported": count_imported}
    choices |= {f"--{look}": asked for look, asked in looks.items()}
    if to_people:
        terminal = console()
        terminal.print(drawn(assembled, terminal.width))
    else:
        render = partial(latex.render, siunitx=True) if siunitx else RENDERERS[format_name]
        deliver(render(assembled, _command(chosen, format_name, metric, choices, results)), output)
    words_of_part = _words_of_part(rows, columns)
    for line in _last_lines(chosen, assembled, results, format_name, words_of_part, count_imported=count_imported):
        say(line, stderr=True)
    fail_if_unread(unread(chain.from_iterable(shown.left_out for shown in assembled)))


def _of_folders(table: Table, folders: Sequence[Path], look: Callable[[Table, Path], AssembledTable]) -> AssembledTable:
    """``table`` with the records of one results folder, or of several side by side."""
    from repro.tables import lab_names, side_by_side

    if len(folders) == 1:
        return look(table, folders[0])
    return side_by_side({name: look(table, folder) for name, folder in zip(lab_names(folders), folders, strict=True)})


def _command(
    chosen: Sequence[Table],
    format_name: str,
    metric: str,
    choices: Mapping[str, str | bool | None],
    folders: Sequence[Path],
) -> str:
    """The command that gives this output, with every choice in it."""
    from repro.cli.references import command_line

    words = ["table", *(table.reference for table in chosen), "--format", format_name, "--metric", metric]
    for option, choice in choices.items():
        if choice:
            words += [option, choice] if isinstance(choice, str) else [option]
    if len(folders) == 1:
        return command_line(*words, results=folders[0])
    return shell_line(["biasrepro", *words, *chain.from_iterable(("--results", str(folder)) for folder in folders)])


def _last_lines(
    chosen: Sequence[Table],
    assembled: Sequence[AssembledTable],
    folders: Sequence[Path],
    format_name: str,
    of_part: Sequence[str],
    *,
    count_imported: bool,
) -> list[str]:
    """How much is recorded, in one folder with the commands to run next, or in several together."""
    from repro.analysis.runs import counts_imported

    if len(folders) == 1:
        leaving_out = {table.id for table in chosen if not (count_imported or counts_imported(table))}
        return _next_steps(chosen, assembled, folders[0], format_name, of_part, leaving_out)
    compare = shell_line(["biasrepro", "compare", *map(str, folders[:2])])
    lines = [f"{shown.id}: {shown.recorded_runs} runs recorded in {len(folders)} folders." for shown in assembled]
    return [*lines, f"Run by run: `{compare}`."]


def _refuse(format_name: str, metric: str, verdicts: str | None, looks: Mapping[str, bool], folders: int) -> None:
    """Raise UserError for options with an unknown value, and for a look that the format does not have."""
    from repro.analysis.runs import METRICS
    from repro.cli.output import refuse_unknown
    from repro.tables import RENDERERS, VERDICTS

    refuse_unknown("format", format_name, RENDERERS)
    refuse_unknown("metric", metric, METRICS)
    if verdicts is not None and verdicts not in VERDICTS:
        raise UserError(f"unknown verdicts '{verdicts}'", where="--verdicts", hint=nearest(verdicts, VERDICTS))
    if verdicts and folders > 1:
        hint = "Give one --results folder, or leave --verdicts out."
        raise UserError("there is no verdict over several results folders", where="--verdicts", hint=hint)
    if looks["siunitx"] and format_name != "latex":
        raise UserError("siunitx is for LaTeX", where="--siunitx", hint="Add --format latex, or an output named .tex.")
    for look in ("compact", "bold-best"):
        if looks[look] and format_name in _OF_NUMBERS:
            hint = "Leave it out, or give another --format."
            raise UserError(f"{look} is for markdown, latex and html", where=f"--{look}", hint=hint)


def _part_of(chosen: Sequence[Table], rows: str | None, columns: str | None) -> Part:
    """The rows and columns to show. Raises UserError for one that is not in every table."""
    from repro.tables import Part

    part = Part(listed("--rows", rows), listed("--columns", columns))
    for table in chosen:
        part.of(table)
    return part


def _words_of_part(rows: str | None, columns: str | None) -> list[str]:
    """The words of a command line that choose these rows and columns."""
    return [word for option, ids in (("--rows", rows), ("--columns", columns)) if ids for word in (option, ids)]


def on_terminal() -> bool:
    """Whether people read the output."""
    return sys.stdout.isatty()


def _runs_by_row(shown: AssembledTable) -> dict[str, list[int]]:
    """How many runs each cell has, by row."""
    runs: dict[str, list[int]] = {}
    for row in shown.rows:
        if not row.variant:
            runs[row.id] = [cell.ours.n if cell.ours else 0 for cell in row.cells]
    return runs


def _places_taken(shown: AssembledTable) -> int:
    """How many records that count nowhere lie where a run of the table belongs: no sweep trains those runs."""
    taken = [record for record in shown.left_out if record.why not in ("diverged", "unknown")]
    planned = range(shown.seeds)
    return sum(record.seed in planned and record.run.startswith(f"{shown.id}/") for record in taken)


def _next_steps(
    chosen: Sequence[Table],
    assembled: Sequence[AssembledTable],
    results: Path,
    format_name: str,
    of_part: Sequence[str],
    leaving_out: Collection[str],
) -> list[str]:
    """How much is recorded, and the commands to run next; tables ``leaving_out`` count no imported runs."""
    from repro.cli.advice import is_finished_part, next_analysis
    from repro.cli.references import command_line
    from repro.results.store import is_preregistered
    from repro.tables import modified_siblings
    from repro.wording import counted

    lines = []
    for table, shown in zip(chosen, assembled, strict=True):
        line = f"{table.id}: {shown.recorded_runs} of {shown.planned_runs} runs recorded"
        if is_preregistered(results, table.id):
            command = next_analysis(table, results)
            line += f"; `{command}` goes on" if command else ""
        elif not shown.left_out and is_finished_part(_runs_by_row(shown)):
            line += "; the rows without runs were never begun"
        elif shown.recorded_runs + _places_taken(shown) < shown.planned_runs:
            rest = command_line("sweep", table.reference, "--seeds", str(table.seeds), *of_part, results=results)
            line += f"; `{rest}` runs {'the rest' if shown.recorded_runs else 'them'}"
        lines.append(f"{line}.")
        if table.id in leaving_out and (imported := sum(record.why == "imported" for record in shown.left_out)):
            lines.append(f"  {counted(imported, 'run')} trained elsewhere left out: --count-imported counts them")
        if shown.left_out:
            lines.append(f"  {counted(len(shown.left_out), 'record')} left out of the means: the footnotes say why.")
        if table.dataset.unchecked:
            # Not by command_line: it has neither --results nor --plugin.
            decode = shell_line(["biasrepro", "data", "fetch", table.reference])
            lines.append(f"  Whether its images have changed is not checked: `{decode}` decodes them as they are now.")
        siblings = [] if table.overrides else modified_siblings(table, results)
        for sibling, count in siblings[:_MOST_SIBLINGS]:
            reference = sibling.replace(table.table, table.reference, 1)
            show = command_line("table", reference, results=results)
            lines.append(f"  {count} recorded under a modified protocol, not shown here: `{show}`")
        if len(siblings) > _MOST_SIBLINGS:
            lines.append(f"  and under {len(siblings) - _MOST_SIBLINGS} more, in {results}")
    if format_name != "latex" and all(shown.recorded_runs == shown.planned_runs for shown in assembled):
        names = [table.reference for table in chosen]
        latex = command_line("table", *names, *of_part, "-o", "tables.tex", results=results)
        lines.append(f"For a paper: `{latex}`.")
    return lines
