"""Folders on the command line: that of the records, and that of the data. What a missing one means is decided here."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from repro.errors import UserError, resembling

RESULTS_DEFAULT = Path("results")
ROOT_DEFAULT = Path("data")
_VARIABLE = "BIASREPRO_RESULTS"
# Options under which a command that reads records writes to the results folder, and the other way round.
_WRITES_WITH, _READS_WITH = "declare", "stop"


def folder_path(path: Path) -> Path:
    """The path of a folder, its ``~`` expanded, if it exists or can be made. Raises UserError for any other file."""
    try:
        path = path.expanduser()  # a shell leaves the ~ of --results=~/r and of a quoted variable
    except RuntimeError as error:
        raise UserError(
            "the home folder in this path is not known", where=str(path), hint="Write the path without ~."
        ) from error
    if os.path.lexists(path) and not path.is_dir():
        raise UserError("this is not a folder", where=str(path))
    if path.is_dir() and not os.access(path, os.R_OK | os.X_OK):
        from repro.results.files import permission_hint

        hint = f"{permission_hint(path)}, or choose another folder."
        raise UserError("cannot be read: Permission denied", where=str(path), hint=hint)
    return path


def recorded_folder(path: Path) -> Path:
    """The path of a results folder that must exist. Raises UserError, with the folder that is perhaps meant.

    A part of a results folder is refused too: in ``results/table1`` no record is where it belongs, so none is found.
    """
    path = folder_path(path)
    if path.is_dir():
        if whole := _results_around(path):
            raise UserError("this is a part of a results folder", where=str(path), hint=f"Did you mean {whole}?")
        return path
    beside = [other.name for other in path.parent.iterdir() if other.is_dir()] if path.parent.is_dir() else []
    meant = resembling(path.name, beside)
    hint = "Name the folder that a sweep wrote to; `biasrepro sweep demo` makes a first one."
    if meant:
        hint = f"Did you mean {path.with_name(meant)}?"
    raise UserError("there is no such results folder", where=str(path), hint=hint)


def _results_around(path: Path) -> Path | None:
    """The results folder that the folder at ``path`` is a part of; None if it is none, or whole."""
    from repro.results.store import record_paths

    if next(record_paths(path), None) is not None:
        return None
    above = path.absolute()
    for folder in (above, *chain.from_iterable(above.glob("*/" * levels + "seed-*") for levels in range(3))):
        if _is_in_place(folder):
            return folder.parents[3] if path.is_absolute() else Path(os.path.relpath(folder.parents[3]))
    return None


def _is_in_place(folder: Path) -> bool:
    """Whether the files of a run in ``folder`` are of the run whose place it is; so too if they cannot be read."""
    from repro.results.checkpoint_file import check_checkpoint
    from repro.results.files import read_file
    from repro.results.record import from_bytes
    from repro.results.store import RunFolder

    files = RunFolder(folder)
    there = (files.record, files.checkpoint, files.previous_checkpoint)
    if len(folder.parents) < 4 or (found := next(filter(os.path.lexists, there), None)) is None:
        return False
    try:
        is_record = found == files.record
        run_id = (
            from_bytes(read_file(found), where="", epochs=False).id if is_record else check_checkpoint(found).run_id
        )
    except (OSError, UserError):
        return folder.name.startswith("seed-")
    return folder.parts[-4:] == tuple(run_id.split("/"))


def say_if_absent(results: Path) -> None:
    """Say that nothing is recorded, if there is no results folder: once a command knows the tables that it is about."""
    from repro.cli.console import say

    if absent := absence(results):
        say(absent, stderr=True)


def absence(results: Path) -> str | None:
    """That there is no results folder, in words; None if there is one."""
    return None if results.is_dir() else f"there is no folder {results} yet: no run is recorded"


def recorded_argument(context: typer.Context, path: Path) -> Path:
    """``recorded_folder`` for an argument of the command line."""
    return path if context.resilient_parsing else recorded_folder(path)


def _is_named(context: typer.Context, parameter: typer.CallbackParam) -> bool:
    """Whether the command line or the environment gives the parameter."""
    source = context.get_parameter_source(parameter.name or "")
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _read(context: typer.Context, parameter: typer.CallbackParam, path: Path) -> Path:
    """A folder that a command reads. Raises UserError if it is named and does not exist."""
    if context.resilient_parsing:  # completion
        return path
    is_named = _is_named(context, parameter) and not context.params.get(_WRITES_WITH)
    return recorded_folder(path) if is_named else folder_path(path)


def _written(context: typer.Context, path: Path) -> Path:
    """A folder that a command writes to, and makes."""
    if context.resilient_parsing:
        return path
    return recorded_folder(path) if context.params.get(_READS_WITH) else folder_path(path)


def _several(context: typer.Context, parameter: typer.CallbackParam, paths: list[Path]) -> list[Path]:
    """The folders that a command reads. An environment variable is one path, whatever is in it."""
    source = context.get_parameter_source(parameter.name or "")
    if source is not None and source.name == "ENVIRONMENT":
        paths = [Path(os.environ[_VARIABLE])]
    paths = [_read(context, parameter, path) for path in paths or [RESULTS_DEFAULT]]
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("a results folder is given twice", where="--results")
    return paths


def _results(callback: Any, help_text: str = "Folder of recorded runs.", **settings: Any) -> Any:
    return typer.Option(
        "--results", envvar=_VARIABLE, help=help_text, readable=False, callback=callback, metavar="DIR", **settings
    )


Results = Annotated[Path, _results(_read)]
ResultsToWrite = Annotated[Path, _results(_written, "Folder of recorded runs; it is made if it does not exist.")]
ResultsFolders = Annotated[
    list[Path],
    _results(
        _several,
        "Folder of recorded runs. Given again, another: a line for each, side by side.",
        show_default="results",
    ),
]
Root = Annotated[
    Path,
    typer.Option(
        "--root",
        envvar="BIASREPRO_DATA",
        help="Folder of the data sets.",
        readable=False,
        callback=folder_path,
        metavar="DIR",
    ),
]
