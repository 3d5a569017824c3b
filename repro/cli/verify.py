"""``biasrepro verify``: every record's seal and every checkpoint's checksum, and what else lies in the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.options import RESULTS_DEFAULT
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.results.inspection import Inspection

_OPEN_IT = "nothing of it was checked: mend its permissions (chmod u+rwX), and verify again"
_MEND = {
    "run.json": "move it away, and the run is trained again",
    "looks.json": "restore it from version control: no other declaration can take its place",
    "checkpoint": "the next attempt puts it aside and goes on from the one before",
}


def verify(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", envvar="BIASREPRO_RESULTS", help="Folder of recorded runs.")
    ] = RESULTS_DEFAULT,
) -> None:
    """Check every record and checkpoint to the last byte, and list what is damaged, put aside, left over or a stranger.

    Changes nothing. Exit code 1 where anything is damaged or may not be read.
    """
    from repro.cli.console import counted, say, size
    from repro.results.inspection import inspect

    if not results.is_dir():
        raise UserError(
            "this is no folder" if results.exists() else "there is no such results folder",
            where=str(results),
            hint="Name the folder: biasrepro verify DIR. `biasrepro sweep demo` makes a first one.",
        )
    found = inspect(results)
    for finding in found.findings:
        shown = f"  {size(finding.size_bytes)}" if finding.size_bytes else ""
        unchecked = finding.kind in ("damaged", "unreadable")
        say(f"{finding.kind:<10} {finding.path}: {finding.why}{shown}", "red" if unchecked else "yellow")
        if unchecked:
            known = _OPEN_IT if finding.kind == "unreadable" else _MEND.get(finding.path.name, _MEND["checkpoint"])
            say(f"{'':<10} {known}")
    whole = f"{counted(found.records, 'record')} and {counted(found.checkpoints, 'checkpoint')} are whole"
    damaged, unreadable = found.having("damaged"), found.having("unreadable")
    unknown = f", {len(unreadable)} not to be read" if unreadable else ""
    say(f"{whole}; {len(damaged) or 'none'} damaged{unknown}", "bold red" if damaged or unreadable else "bold green")
    for line in _notes(found):
        say(line)
    if damaged or unreadable:
        raise typer.Exit(1)


def _notes(found: Inspection) -> list[str]:
    """What the disk is used for, and what may be deleted."""
    from repro.cli.console import counted, size

    lines = []
    if found.in_training:
        lines.append(f"{counted(found.in_training, 'run')} in training; their checkpoints were not looked at.")
    if found.checkpoint_bytes:
        lines.append(
            f"Checkpoints of unfinished runs take {size(found.checkpoint_bytes)}; `biasrepro sweep` uses them."
        )
    idle = [*found.having("put aside"), *found.having("left over")]
    if idle:
        total = size(sum(finding.size_bytes for finding in idle))
        lines.append(f"What is put aside or left over takes {total} and may be deleted.")
    return lines
