"""``biasrepro table``: what was recorded beside what was published."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from repro.cli.options import RESULTS_DEFAULT, Results, Settings
from repro.errors import UserError, nearest

if TYPE_CHECKING:
    from repro.analysis.runs import Metric
    from repro.experiment.schema import Table
    from repro.tables import AssembledTable

_MOST_SIBLINGS = 3
_NEVER_COMPACT = ("csv", "json")  # every figure has a place of its own there


def table(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TABLE",
            help="Built-in tables, or YAML files of your own; overrides may follow, as in table1+dataset.classes=20. "
            "Without a name: every table of the paper.",
            show_default=False,
        ),
    ] = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="markdown, latex, csv, json or html. By default what the output's name ends in, else markdown.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str,
        typer.Option(metavar="last|best", help="The epoch reported; best is selected on the test set."),
    ] = "last",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here.", show_default="the terminal")
    ] = None,
    results: Results = RESULTS_DEFAULT,
    variants: Annotated[
        bool | None,
        typer.Option(
            "--variants/--no-variants",
            help="Other readings of a row below it, whether recorded or not, or never.",
            show_default="those recorded",
        ),
    ] = None,
    verdicts: Annotated[
        str | None,
        typer.Option(
            metavar="words|stars",
            help="Judge every difference: its verdict in a line of its own, or stars for its p after Holm.",
            show_default="none",
        ),
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="One line a model: ours, with the difference in parentheses.")
    ] = False,
    siunitx: Annotated[bool, typer.Option("--siunitx", help="LaTeX with every figure as a number of siunitx.")] = False,
    settings: Settings = None,
) -> None:
    """Show tables: the paper's figures, ours (mean and spread over seeds), and the differences from cross-entropy."""
    from repro.analysis.runs import METRICS
    from repro.cli.output import format_of, refuse_unwritable
    from repro.cli.references import chosen_tables
    from repro.tables import RENDERERS, SUFFIXES, VERDICTS, gather
    from repro.tables import latex_format as latex

    format_name = format_of(output, format_name, SUFFIXES, default="markdown")
    _refuse_unknown("format", format_name, list(RENDERERS))
    _refuse_unknown("metric", metric, list(METRICS))
    if verdicts is not None and verdicts not in VERDICTS:
        raise UserError(f"verdicts are not shown as '{verdicts}'", where="--verdicts", hint=nearest(verdicts, VERDICTS))
    if siunitx and format_name != "latex":
        raise UserError("siunitx is for LaTeX", where="--siunitx", hint="Add --format latex, or an output named .tex.")
    if compact and format_name in _NEVER_COMPACT:
        hint = "Leave it out, or give another --format."
        raise UserError("compact is for markdown, latex and html", where="--compact", hint=hint)
    if output:
        refuse_unwritable(output)
    chosen = chosen_tables(names or [], settings or [])
    assembled = [
        replace(
            gather(
                one,
                results,
                metric=cast("Metric", metric),
                show_variants=variants,
                verdicts=verdicts,
                given=chosen,
            ),
            compact=compact,
        )
        for one in chosen
    ]
    shape = [*(["--verdicts", verdicts] if verdicts else []), *(["--compact"] if compact else [])]
    shape += ["--siunitx"] if siunitx else []
    command = _as_typed(chosen, format_name, metric, variants, shape, results)
    render = partial(latex.render, siunitx=True) if siunitx else RENDERERS[format_name]
    text = render(assembled, command)
    _deliver(text, output)
    shown_in = _terminal_columns() if output is None and format_name == "markdown" else None
    for line in [*_too_wide(text, shown_in), *_next_steps(chosen, assembled, results, format_name)]:
        typer.echo(line, err=True)


def _refuse_unknown(kind: str, name: str, valid: Sequence[str]) -> None:
    if name not in valid:
        raise UserError(f"no {kind} is called '{name}'", where=f"--{kind}", hint=nearest(name, valid))


def _deliver(text: str, output: Path | None) -> None:
    from repro.cli.output import write_output

    if output is not None:
        return write_output(output, text.encode())
    # as bytes: no terminal width wraps it, and no locale without a minus sign stops it
    typer.echo(text.encode(), nl=False)
    sys.stdout.flush()


def _terminal_columns() -> int | None:
    """How wide the terminal is, None where the output goes elsewhere."""
    from repro.cli.console import console

    return console().width if sys.stdout.isatty() else None


def _too_wide(text: str, columns: int | None) -> list[str]:
    """Where rows of a table are longer than the terminal's lines, how to see them whole."""
    widest = max((len(line) for line in text.splitlines() if line.startswith("|")), default=0)
    if columns is None or widest <= columns:
        return []
    return [f"{widest} columns wide, and this terminal has {columns}: `| less -S` behind it, or -o table.html"]


def _as_typed(
    chosen: Sequence[Table], format_name: str, metric: str, variants: bool | None, shape: Sequence[str], results: Path
) -> str:
    """The command that gives this output, every choice in it."""
    from repro.cli.references import command_line

    words = ["table", *(one.reference for one in chosen), "--format", format_name, "--metric", metric]
    if variants is not None:
        words.append("--variants" if variants else "--no-variants")
    return command_line(*words, *shape, results=results)


def _next_steps(
    chosen: Sequence[Table], assembled: Sequence[AssembledTable], results: Path, format_name: str
) -> list[str]:
    """How much is recorded, and the commands that go on from here."""
    from repro.cli.console import counted
    from repro.cli.references import command_line
    from repro.tables import modified_siblings

    lines = []
    for one, shown in zip(chosen, assembled, strict=True):
        line = f"{one.id}: {shown.recorded_runs} of {shown.planned_runs} runs recorded"
        if shown.recorded_runs < shown.planned_runs:
            rest = command_line("sweep", one.reference, "--seeds", str(one.seeds), results=results)
            line += f"; `{rest}` runs {'the rest' if shown.recorded_runs else 'them'}"
        lines.append(f"{line}.")
        if shown.left_out:
            lines.append(f"  {counted(len(shown.left_out), 'record')} left out of the means: the footnotes say why.")
        siblings = [] if one.overrides else modified_siblings(one, results)
        for sibling, count in siblings[:_MOST_SIBLINGS]:
            reference = sibling.replace(one.table, one.reference, 1)
            show = command_line("table", reference, results=results)
            lines.append(f"  {count} recorded under a modified protocol, not shown here: `{show}`")
        if len(siblings) > _MOST_SIBLINGS:
            lines.append(f"  and under {len(siblings) - _MOST_SIBLINGS} more, in {results}")
    if format_name != "latex" and all(shown.recorded_runs == shown.planned_runs for shown in assembled):
        latex = command_line("table", *(one.reference for one in chosen), "-o", "tables.tex", results=results)
        lines.append(f"For a paper: `{latex}`.")
    return lines
