"""The command line: registers the commands, and turns exceptions into messages and exit codes.

All command modules are imported here, so slow packages (pydantic, rich, and above all torch) are imported inside the
functions that need them; a test checks it.
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
from repro.cli import (
    bench,
    cite,
    compare_folders,
    config_command,
    data,
    doctor,
    evaluate_run,
    export,
    figure,
    import_csv,
    models,
    plan,
    report,
    status,
    table,
    train,
    verify,
)
from repro.cli.sweep.command import sweep as sweep_command
from repro.environment import settle
from repro.errors import UserError
from repro.wording import printable

# Errors of the disk and its permissions: the user can fix them, they are not bugs.
_USERS_ERRORS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE, errno.ETIMEDOUT),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
)

# A light installation lacks them: docs/install.md.
_ONLY_TO_TRAIN = ("torch", "torchvision")

app = typer.Typer(
    name="biasrepro",
    help="Reproduces Tables 1 and 2 of the supplement to 'Bias Loss for Mobile Neural Networks' (ICCV 2021): "
    "YAML experiments in, trained and recorded runs, paper-style tables out.",
    epilog="Start with: biasrepro train, then biasrepro sweep demo. Options: biasrepro COMMAND --help",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train.train)
app.command()(plan.plan)
app.command("sweep")(sweep_command)
app.command("evaluate")(evaluate_run.evaluate)
app.command()(status.status)
app.command()(table.table)
app.command()(figure.figure)
app.command()(report.report)
app.command()(export.export)
app.command("compare")(compare_folders.compare_folders)
app.command("import")(import_csv.import_csv)
app.add_typer(data.app, name="data")
app.command()(verify.verify)
app.command()(models.models)
app.command()(config_command.config)
app.command()(doctor.doctor)
app.command()(bench.bench)
app.command()(cite.cite)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"biasrepro {repro.__version__}")
        raise typer.Exit


@app.callback()
def _biasrepro(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """The console script: run the command line of this process and exit."""
    if sys.platform == "win32":  # files are locked and committed here as POSIX has it
        sys.exit(
            "error: biasrepro does not run on Windows itself.\n  In WSL it does: https://learn.microsoft.com/windows/wsl"
        )
    settle()
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # characters outside its encoding become question marks
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code.

    0 done, 1 failed, 2 wrong use, 75 in training by another process, 130 or 143 interrupted, 141 output pipe closed.
    """
    try:
        _check(arguments)
        returned = app(
            args=list(arguments) or ["--help"], prog_name="biasrepro", standalone_mode=False, obj=list(arguments)
        )
        sys.stdout.flush()
        return returned if isinstance(returned, int) else 0
    except UserError as error:
        _print_error(error.what, where=error.where, hint=error.hint)
        return error.exit_code
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "biasrepro")
        if message := error.format_message().replace("Value error, ", ""):  # empty if Typer showed the help instead
            _print_error(message, hint=f"`{command} --help` shows its options.")
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _print_error("interrupted")
        return 130
    except BrokenPipeError:
        return _closed_pipe()
    except ModuleNotFoundError as error:
        if error.name not in _ONLY_TO_TRAIN:
            raise
        _print_error(
            f"this needs {error.name}, which is not installed here",
            hint="What only reads records works without it. To train: pip install torch torchvision",
        )
        return 2
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # Typer turns it into an exit of its own
            return _closed_pipe()
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _USERS_ERRORS:
            hint = None
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "Free disk space for the results, the output file, or the target of standard output."
            elif isinstance(error, PermissionError) and error.filename:
                from repro.results.files import permission_hint

                hint = f"{permission_hint(Path(os.fsdecode(error.filename)))}, or choose another folder."
            _print_error(str(error.strerror), where=error.filename and str(error.filename), hint=hint)
            return 2
        from repro.experiment.plugins import place_in_plugin

        if (where := place_in_plugin(error)) is not None:
            _print_error(f"the plugin failed: {type(error).__name__}: {error}", where=where)
        else:
            _report_bug(error)
        return 1


def _check(arguments: Sequence[str]) -> None:
    """Raise UserError if the current folder is gone, for an empty argument, and for two results folders.

    As a path, an empty argument would mean the current folder.
    """
    try:
        Path.cwd()
    except FileNotFoundError:
        hint = "Change to an existing folder: cd"
        raise UserError("the current folder no longer exists", hint=hint) from None
    for before, argument in zip(("", *arguments), arguments, strict=False):
        if not argument or (argument.startswith("--") and argument.find("=") == len(argument) - 1):
            option = argument.rstrip("=") or before
            named = option if option.startswith("-") else "an argument"
            raise UserError(f"{named} is empty", hint="Is it a shell variable that is not set?")
    folders = [argument for argument in arguments if argument.partition("=")[0] == "--results"]
    if len(folders) > 1 and arguments[0] != "table":
        hint = "Give one. `biasrepro table` shows several side by side, and `biasrepro compare A B` compares two."
        raise UserError("--results is given twice", hint=hint)


def _open_closed_streams() -> None:
    """Connect closed standard streams to the null device: otherwise the next opened file would receive the output."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number: this one
            setattr(sys, name, os.fdopen(descriptor, mode))


def _closed_pipe() -> int:
    """The exit code of a SIGPIPE; standard output is redirected so that flushing it at exit raises nothing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return 141


def _print_error(what: str, *, where: str | None = None, hint: str | None = None) -> None:
    """Print a message on standard error: where, what, and a hint."""
    from repro.cli.console import console, say

    console(stderr=True).print("error:", style="bold red", end=" ")
    first, *more = what.split("\n")
    say(f"{where}: {first}" if where else first, stderr=True)
    for line in (*more, *([hint] if hint else ())):
        say(f"  {line.strip()}", stderr=True)


def _report_bug(error: Exception) -> None:
    """Report an unexpected exception: a bug. Its traceback goes to a file, and to standard error off a terminal."""
    text = "".join(traceback.format_exception(error))
    if not sys.stderr.isatty():
        sys.stderr.write(printable(text))
    descriptor, name = tempfile.mkstemp(prefix="biasrepro-", suffix="-traceback.txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(f"biasrepro {repro.__version__}: {' '.join(sys.argv)}\n{text}")
    _print_error(
        f"{type(error).__name__}: {error}",
        hint=f"Unexpected exception: a bug in biasrepro. Please report it with the traceback in {Path(name)}",
    )
