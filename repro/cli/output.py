"""Output files of a command: checked before any work, written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import typer

from repro.errors import RunFailure, UserError, nearest
from repro.wording import printable, shell_line

# How a file begins that a command wrote, by format.
_BEGINNINGS = {
    "markdown": rb"\*\*[^\n]+\*\* |# [^\n]+: (reproducibility summary|results with biasrepro)\n",
    "latex": rb"% [^\n]+ runs recorded",
    "yaml": rb"(# yaml-language-server: [^\n]+\n)?# From `biasrepro config ",
    "csv": rb"(table|run),",
    "json": rb'\{\s*"schema_version": \d+,\s*"command": ',
    "text": rb"Comparison of two results folders",
    "schema": rb'\{\s*"\$schema": ',
    "benchmark": rb'\{\s*"kind": "benchmark"',
    "html": rb"<!doctype html>",
    "svg": rb"<\?xml",
    "pdf": rb"%PDF-",
    "png": rb"\x89PNG",
    "parquet": rb"PAR1",
}


def format_of(output: Path | None, given: str | None, suffixes: Mapping[str, str], *, default: str) -> str:
    """The given format, else that of the output's suffix, else ``default`` for a name without a suffix.

    Raises UserError for an unsupported suffix: a file named .pdf must not contain Markdown.
    """
    if given is not None or output is None or not output.suffix:
        return given or default
    if output.suffix.lower() in suffixes:
        return suffixes[output.suffix.lower()]
    raise UserError(
        f"{output.suffix} is not supported",
        where=str(output),
        hint=f"Use a name that ends in {', '.join(suffixes)}, or choose a --format.",
    )


def refuse_unwritable(output: Path, format_name: str, *, overwrite: bool = False) -> None:
    """Raise UserError for a missing parent folder, for a folder in the file's place, and for a dash.

    Also for a file that no command wrote in this format (notes, an experiment, a record), unless ``overwrite``.
    """
    if output == Path("-"):
        hint = "Leave the option out to write to the terminal, or to the command's default file."
        raise UserError("'-' is a file name here, not standard output", hint=hint)
    if output.is_dir():
        raise UserError("this is a folder", where=str(output), hint="Give the name of a file in it.")
    if not output.parent.is_dir():
        make = shell_line(["mkdir", "-p", str(output.parent)])
        raise UserError(f"the folder {output.parent} does not exist", where=str(output), hint=f"Make it: {make}")
    if overwrite or not output.is_file():  # a pipe is written to
        return
    try:
        with output.open("rb") as file:
            start = file.read(4096)
    except OSError as error:
        raise UserError(f"cannot be replaced: {error.strerror}", where=str(output)) from error
    if start and not re.match(_BEGINNINGS[format_name], start):
        what = "a record of biasrepro" if b'\n  "id": "' in start else f"not {format_name} that biasrepro wrote"
        raise UserError(
            f"the file here is {what}, and is kept",
            where=str(output),
            hint="Give another name, or --overwrite to replace it.",
        )


def refuse_unknown(kind: str, given: str, valid: Iterable[str], where: str | None = None) -> None:
    """Raise UserError with the nearest valid name for one that is not ``valid``; ``where`` is the option."""
    names = list(valid)
    if given not in names:
        raise UserError(f"no {kind} is called '{given}'", where=where or f"--{kind}", hint=nearest(given, names))


KEPT = "They may be intact: do not delete them. Fix the cause (for newer ones: update biasrepro), and run this again."


def fail_if_unread(unread: Mapping[str, str]) -> None:
    """Raise RunFailure where records, by path with the reason, could not be read: an answer lacks them."""
    from repro.wording import counted

    for path, reason in unread.items():
        count = counted(len(unread), "record")
        raise RunFailure(f"{count} could not be read, and are in no number here, such as {path}: {reason}", hint=KEPT)


def deliver(content: str | bytes | Iterable[bytes], output: Path | None) -> None:
    """Write ``content`` to the file, or to standard output as bytes: nothing wraps it, no locale stops a minus sign.

    It may be parts, each of whole characters, that are made while they are written. A path may hold bytes that are no
    text: question marks in the file, escapes on standard output.
    """
    if output is not None:
        return write_output(output, content.encode(errors="replace") if isinstance(content, str) else content)
    for part in [content] if isinstance(content, str | bytes) else content:
        text = part if isinstance(part, str) else part.decode()
        typer.echo(printable(text).encode(), nl=False)
    sys.stdout.flush()


def write_output(output: Path, content: bytes | Iterable[bytes], *, quiet: bool = False) -> None:
    """Write ``content`` and report it, unless ``quiet``. Raises UserError if the file cannot be written."""
    from repro.cli.console import say, size
    from repro.results.disk_space import free_bytes
    from repro.results.durable import write_durably

    try:
        if output.exists() and not output.is_file():  # a rename would replace a pipe or a terminal
            with output.open("wb") as file:
                file.writelines([content] if isinstance(content, bytes) else content)
        else:
            with _mode_kept(output):
                write_durably(output.resolve(), content)
    except OSError as error:
        message = f"cannot be written: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = free_bytes(output.resolve().parent)
            needed = f"it needs {size(len(content))}, " if isinstance(content, bytes) else ""
            message += f"; {needed}{size(free)} free on the disk"
        raise UserError(message, where=str(output)) from error
    if not quiet:
        say(f"Written: {output}", stderr=True)


@contextmanager
def _mode_kept(output: Path) -> Iterator[None]:
    """Give the file that takes the place of ``output`` its permissions, from its first byte on."""
    if not output.exists():
        yield
        return
    umask = os.umask(0o777 & ~output.stat().st_mode)
    try:
        yield
    finally:
        os.umask(umask)
