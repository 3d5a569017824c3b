"""Options that several commands share, each defined once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from repro.errors import UserError

ProgressStyle = Literal["auto", "rich", "plain", "json"]


def _a_folder(path: Path) -> Path:
    """The path of a folder, there or yet to be made. Raises UserError for what is there and is none."""
    if os.path.lexists(path) and not path.is_dir():
        raise UserError("this is no folder, nor does it lead to one", where=str(path))
    return path


Results = Annotated[
    Path,
    typer.Option(
        "--results", envvar="BIASREPRO_RESULTS", help="Folder of recorded runs.", file_okay=False, callback=_a_folder
    ),
]
Root = Annotated[
    Path,
    typer.Option(
        "--root", envvar="BIASREPRO_DATA", help="Folder of the data sets.", file_okay=False, callback=_a_folder
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, such as recipe.epochs=2; such runs are kept apart. May be repeated.",
    ),
]
Deterministic = Annotated[
    bool,
    typer.Option(
        "--deterministic",
        help="A GPU repeats every bit, at a price; a CPU does so anyway. Sets execution.deterministic.",
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, max=1024, metavar="N", help="CPU threads for each run.")
]
AllowChanged = Annotated[
    bool,
    typer.Option(
        "--allow-changed",
        help="Resume although code, torch, device or thread count changed; the record will say so.",
    ),
]

TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard",
        metavar="DIR",
        help="Log every epoch for TensorBoard too, a folder a run under DIR; needs biasrepro\\[tensorboard].",
        file_okay=False,
        show_default=False,
    ),
]

NodeData = Annotated[
    Path | None,
    typer.Option(
        "--node-data",
        metavar="DIR",
        help="Copy the decoded data once to DIR, a folder of the node that trains ($TMPDIR: the node's), and open "
        "that; without it, those in --root are opened, read-only.",
        file_okay=False,
        show_default=False,
        rich_help_panel="On a cluster",
    ),
]

RESULTS_DEFAULT = Path("results")
ROOT_DEFAULT = Path("data")
ADD_OR_LEAVE_OUT = "Add that, or leave the option out."


def refuse_unused(context: typer.Context, *names: str, because: str, hint: str = "Leave it out.") -> None:
    """Raise UserError where the command line gave one of these parameters, since it would have no effect.

    The message is the options' names, then ``because``. Defaults and environment variables do not count: nobody typed
    them for this command.
    """
    given = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            is_option = parameter.param_type_name == "option"
            given.append(parameter.opts[0] if is_option else parameter.metavar or names[0])
    if given:
        raise UserError(f"{' and '.join(given)} {because}", hint=hint)
