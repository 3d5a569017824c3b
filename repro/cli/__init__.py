"""The command line: mounts the commands, and turns errors into messages and exit codes.

The commands' modules are imported here, so they are light: whatever is heavy (pydantic, rich, and above all
torch) is imported inside the command that needs it. A test holds that.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import repro
from repro.cli import bench, cite, data, doctor, export, figure, models, plan, report, status, table, train, verify
from repro.cli.sweep.command import sweep as sweep_command
from repro.errors import UserError

# What the disk or its permissions refuse is the user's to mend, not a defect of ours.
_MENDED_BY_THE_USER = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE),
}

app = typer.Typer(
    name="biasrepro",
    help="Reproduces Tables 1 and 2 of the supplement to 'Bias Loss for Mobile Neural Networks' (ICCV 2021): "
    "YAML experiments in, trained and recorded runs, paper-style tables out.",
    epilog="Begin with: biasrepro train, then biasrepro sweep demo. Options: biasrepro COMMAND --help",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train.train)
app.command()(plan.plan)
app.command("sweep")(sweep_command)
app.command()(status.status)
app.command()(table.table)
app.command()(figure.figure)
app.command()(report.report)
app.command()(export.export)
app.add_typer(data.app, name="data")
app.command()(verify.verify)
app.command()(models.models)
app.command()(doctor.doctor)
app.command()(bench.bench)
app.command()(cite.cite)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"biasrepro {repro.__version__}")
        raise typer.Exit


@app.callback()
def _biasrepro(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version and stop.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """The console script: run the command that the arguments name, and exit."""
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what the terminal's encoding lacks shows as a question mark
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code.

    0 done, 1 failed, 2 wrong use, 75 in training by another process, 130 or 143 interrupted, 141 nobody reads the
    output.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        _complain("the folder that this was started in is gone", hint="Go to one that is there: cd")
        return 2
    try:
        _refuse_empty(arguments)
        returned = app(
            args=list(arguments) or ["--help"], prog_name="biasrepro", standalone_mode=False, obj=list(arguments)
        )
        sys.stdout.flush()
        return returned if isinstance(returned, int) else 0
    except UserError as error:
        _complain(error.what, where=error.where, hint=error.hint)
        return error.exit_code
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "biasrepro")
        if message := error.format_message().replace("Value error, ", ""):  # none where the help was shown instead
            _complain(message, hint=f"`{command} --help` shows what it takes.")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        return _output_is_gone()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer turns that one into its own exit
            return _output_is_gone()
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _MENDED_BY_THE_USER:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "Make room where this writes: its results, its output, or where standard output goes."
            _complain(f"{error.strerror}", where=error.filename and str(error.filename), hint=hint if is_full else None)
            return 2
        _own_up(error)
        return 1


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Raise UserError for an argument without a character: as a folder it would be taken for the one we are in."""
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if not argument or (argument.startswith("--") and argument.find("=") == len(argument) - 1):
            option = argument.rstrip("=") or before
            named = option if option.startswith("-") else "an argument"
            raise UserError(f"{named} is empty", hint="Perhaps it is a variable of the shell that is not set.")


def _open_closed_streams() -> None:
    """Have standard streams that were closed lead nowhere: else the next file opened is where output ends up."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(descriptor, mode))


def _output_is_gone() -> int:
    """Whoever read our output stopped: the exit code of a SIGPIPE, and no complaint when Python flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return 141


def _complain(what: str, *, where: str | None = None, hint: str | None = None) -> None:
    """One message on standard error: what, where, and the way out."""
    from repro.cli.console import console

    lines = console(stderr=True)
    lines.print("error:", style="bold red", end=" ")
    lines.print(f"{where}: {what}" if where else what, soft_wrap=True)
    if hint:
        lines.print(f"  {hint}", soft_wrap=True)


def _own_up(error: Exception) -> None:
    """An error that no command foresaw: ours. The traceback is kept in a file, and shown where nobody watches."""
    text = "".join(traceback.format_exception(error))
    if not sys.stderr.isatty():
        sys.stderr.write(text)
    descriptor, name = tempfile.mkstemp(prefix="biasrepro-", suffix="-traceback.txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(f"biasrepro {repro.__version__}: {' '.join(sys.argv)}\n{text}")
    _complain(
        f"{type(error).__name__}: {error}",
        hint=f"This is a defect of biasrepro, not of your input. Please report it with {Path(name)}",
    )
