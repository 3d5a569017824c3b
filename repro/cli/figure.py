"""``biasrepro figure``: what was recorded, drawn for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from repro.cli.folders import RESULTS_DEFAULT, Results, say_if_absent
from repro.cli.options import Metric, Overwrite, Plugins, Settings, complete, refuse_unused
from repro.cli.references import tables_argument
from repro.errors import RunFailure, UserError

if TYPE_CHECKING:
    from repro.analysis import runs
    from repro.figures import Recorded

Name = Annotated[
    str,
    typer.Argument(
        metavar="FIGURE",
        autocompletion=complete("1", "curves", "deltas", "parameters", "weights"),
        help="1: the inverse bias function (Figure 1 of the supplement). curves: test top-1 by epoch. deltas: our "
        "differences from the baseline beside the paper's. parameters: the gain against the size of the network. "
        "weights: the weights z over training.",
    ),
]
Tables = Annotated[list[str] | None, tables_argument("the tables of the paper")]
Outputs = Annotated[
    list[Path] | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        help="A name that ends in .pdf, .svg or .png. May be repeated.",
        show_default="figure-NAME.pdf",
    ),
]


def figure(
    context: typer.Context,
    name: Name,
    tables: Tables = None,
    outputs: Outputs = None,
    metric: Metric = "last",
    overwrite: Overwrite = False,
    results: Results = RESULTS_DEFAULT,
    plugin: Plugins = None,
    settings: Settings = None,
) -> None:
    """Draw a figure as wide as a column of a paper; its caption goes to standard output.

    Exit code 1, and no file, if there are no runs to draw.
    """
    from repro.cli.console import say
    from repro.cli.output import fail_if_unread, refuse_unknown, refuse_unwritable, write_output
    from repro.cli.references import chosen_tables, command_line

    outputs = outputs or [Path(f"figure-{name}.pdf")]
    formats = [_format_of(output) for output in outputs]
    for output, format_name in zip(outputs, formats, strict=True):
        refuse_unwritable(output, format_name, overwrite=overwrite)
    from repro.analysis.runs import METRICS, unread
    from repro.figures import FIGURES, NEEDS_NO_RUNS, SHOWS_EVERY_EPOCH, draw_figure, gather_recorded, unusable
    from repro.results.store import is_preregistered

    refuse_unknown("figure", name, FIGURES, where="FIGURE")
    refuse_unknown("metric", metric, METRICS)
    if name in NEEDS_NO_RUNS:
        refuse_unused(context, "tables", "metric", "settings", because=f"has no effect: figure {name} shows no runs")
    if name in SHOWS_EVERY_EPOCH:
        refuse_unused(context, "metric", because=f"has no effect: figure {name} shows every epoch")
    chosen = [] if name in NEEDS_NO_RUNS else chosen_tables(tables or [], settings or [])
    if chosen:
        say_if_absent(results)
    gathered = gather_recorded(chosen, results, cast("runs.Metric", metric))
    drawing = draw_figure(name, gathered)
    if not drawing.empty:
        for output, format_name in zip(outputs, formats, strict=True):
            write_output(output, drawing.to_bytes(format_name))
        say(drawing.caption)
    for left_out in unusable(gathered):
        say(f"  left out: {left_out.path}: {left_out.reason}", stderr=True)
    fail_if_unread(unread(unusable(gathered)))
    if drawing.empty:
        how = ["--until-decided"] if is_preregistered(results, chosen[0].id) else []
        raise _nothing_to_draw(gathered, command_line("sweep", chosen[0].reference, *how, results=results))


def _nothing_to_draw(gathered: Sequence[Recorded], train: str) -> RunFailure:
    """The refusal of a figure that would show nothing of ours; ``train`` is the command that changes it."""
    tables = " and ".join(table.label for table in gathered)
    if not any(table.shown.recorded_runs for table in gathered):
        return RunFailure(f"no runs of {tables} are recorded: nothing is drawn", hint=f"`{train}` trains them.")
    return RunFailure(
        f"the recorded runs of {tables} have nothing that this figure shows: nothing is drawn",
        hint=f"`{train}` trains what is missing.",
    )


def _format_of(output: Path) -> str:
    from repro.figures.style import FORMATS

    suffix = output.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise UserError(
            f"{output.suffix} is not supported" if suffix else "the name has no extension",
            where=str(output),
            hint=f"Give it a name that ends in {', '.join(f'.{name}' for name in FORMATS)}.",
        )
    return suffix
