"""Files that a command writes for its user: refused before any work, written whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

import typer

from repro.errors import UserError


def format_of(output: Path | None, given: str | None, suffixes: Mapping[str, str], *, default: str) -> str:
    """The format given, else what the output's name ends in, else ``default`` where it ends in nothing.

    Raises UserError for an ending that stands for none of these formats: a PDF must not be Markdown inside.
    """
    if given is not None or output is None or not output.suffix:
        return given or default
    if output.suffix.lower() in suffixes:
        return suffixes[output.suffix.lower()]
    raise UserError(
        f"nothing is written here as {output.suffix}",
        where=str(output),
        hint=f"Give it a name that ends in {', '.join(suffixes)}, or say which --format.",
    )


def refuse_unwritable(output: Path) -> None:
    """Raise UserError for a folder that is not there, or one in the place of the file, and for a dash."""
    if output == Path("-"):
        hint = "Leave the option out: it then goes to the terminal, or to a file that the command names."
        raise UserError("'-' would be a file of that name, and not standard output", hint=hint)
    if output.is_dir():
        raise UserError("this is a folder", where=str(output), hint="Give the name of a file in it.")
    if not output.parent.is_dir():
        raise UserError(
            f"the folder {output.parent} does not exist", where=str(output), hint=f"Make it: mkdir -p {output.parent}"
        )


def write_output(output: Path, content: bytes) -> None:
    """Write ``content`` and say so. Raises UserError where the disk or its permissions refuse."""
    from repro.cli.console import size
    from repro.results.disk_space import free_bytes
    from repro.results.durable import write_durably

    try:
        if output.exists() and not output.is_file():  # a pipe or a terminal, which a rename would replace
            output.write_bytes(content)
        else:
            write_durably(output.resolve(), content)
    except OSError as error:
        said = f"cannot be written: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(output.resolve().parent)
            said += f"; {size(len(content))} are needed, {size(free)} are free on the disk"
        raise UserError(said, where=str(output)) from error
    typer.echo(f"Written: {output}", err=True)
