"""``biasrepro verify``: check every record and checkpoint of a results folder, and list unexpected files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.folders import RESULTS_DEFAULT, recorded_argument

if TYPE_CHECKING:
    from repro.results.inspection import Finding, Inspection

_HINTS = {
    "unreadable": "not checked: fix that (permissions: chmod; open files: ulimit -n) and verify again",
    "newer": "update biasrepro to use it",
    "missing": "copy it back if there is a copy; the record itself is whole",
    "misplaced": "keep it: rename it to checkpoint.pt in its run's folder, if there is none, to resume from it",
}
_DAMAGE_HINTS = {
    "run.json": "move it away; the next sweep trains the run again",
    "weights.safetensors": "copy it back if there is a copy, or move it and run.json away and train the run again",
    "looks.json": "restore it from version control: no other preregistration can replace it",
}
_CHECKPOINT_HINT = "the next attempt quarantines it and resumes from the previous checkpoint"


def verify(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS",
            envvar="BIASREPRO_RESULTS",
            help="Folder of recorded runs.",
            readable=False,
            callback=recorded_argument,
        ),
    ] = RESULTS_DEFAULT,
) -> None:
    """Check every byte of records, weights and checkpoints; list damaged, missing, leftover and unrecognised files.

    Nothing is changed. Exit code 1 if a file is damaged or cannot be read.
    """
    from repro.cli.console import say
    from repro.results.inspection import inspect
    from repro.wording import counted

    found = inspect(results)
    for finding in found.findings:
        _show(finding)
    damaged, unreadable = found.of_kind("damaged"), [*found.of_kind("unreadable"), *found.of_kind("newer")]
    records, checkpoints = counted(found.records, "record"), counted(found.checkpoints, "checkpoint")
    weights = f", {counted(found.weights, 'weights file')}" if found.weights else ""
    summary = f"{records}{weights} and {checkpoints} are whole; {len(damaged) or 'none'} damaged"
    if missing := found.of_kind("missing"):
        summary += f", {len(missing)} missing"
    if unreadable:
        summary += f", {len(unreadable)} unreadable"
    say(summary, "bold red" if damaged or unreadable else "bold green")
    if found.imported:
        say(f"{counted(found.imported, 'record')} imported: whole files, but what they say was not trained here.")
    _show_disk_use(found)
    if damaged or unreadable:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    from repro.cli.console import say, size

    is_problem = finding.kind in ("damaged", "unreadable", "newer")
    shown = f"  {size(finding.size_bytes)}" if finding.size_bytes else ""
    say(f"{finding.kind:<12} {finding.path}: {finding.why}{shown}", "red" if is_problem else "yellow")
    if finding.kind in _HINTS:
        say(f"{'':<12} {_HINTS[finding.kind]}")
    elif finding.kind == "damaged":
        say(f"{'':<12} {finding.hint or _DAMAGE_HINTS.get(finding.path.name, _CHECKPOINT_HINT)}")


def _show_disk_use(found: Inspection) -> None:
    """Say which files take space, and which may be deleted."""
    from repro.cli.console import say, size
    from repro.wording import counted

    if found.in_training:
        say(f"{counted(found.in_training, 'run')} in training; their checkpoints were not checked.")
    if found.checkpoint_bytes:
        say(f"Checkpoints of unfinished runs take {size(found.checkpoint_bytes)}; `biasrepro sweep` resumes from them.")
    if unneeded := [*found.of_kind("quarantined"), *found.of_kind("leftover")]:
        total = sum(finding.size_bytes for finding in unneeded)
        say(f"Quarantined and leftover files take {size(total)} and may be deleted.")
