"""``biasrepro doctor``: checks this machine, and estimates how long the tables would take on it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.folders import RESULTS_DEFAULT, ROOT_DEFAULT, ResultsToWrite, Root
from repro.wording import duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repro.sweep.devices.diagnostics import Finding
    from repro.sweep.devices.slots import Slot

# The tables whose time is estimated.
TABLES = ("demo", "table2", "table1")
SECONDS_PER_CELL = 1.0

_STYLE = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def doctor(
    results: ResultsToWrite = RESULTS_DEFAULT,
    root: Root = ROOT_DEFAULT,
    no_measure: Annotated[bool, typer.Option("--no-measure", help="Estimate times from earlier records only.")] = False,
) -> None:
    """Check this machine: versions, GPUs, disk, data sets, and how long the tables would take here.

    The exit code is 0 unless something essential is broken.
    """
    from repro.cli.console import say
    from repro.sweep.devices import diagnostics
    from repro.wording import counted

    storage, data_sets = partial(diagnostics.storage, results, root), partial(diagnostics.data_sets, root)
    broken = 0
    for check in (diagnostics.software, diagnostics.devices, storage, data_sets):
        for finding in check():
            _show(finding)
            broken += finding.level == "broken"
    if broken:
        parts = counted(broken, "essential part is", "essential parts are")
        say(f"{parts} broken; nothing can be trained until this is fixed.", "bold red")
        raise typer.Exit(1)
    _show_times(results, may_measure=not no_measure)
    say("next     biasrepro train    then: biasrepro sweep demo")


def _show(finding: Finding) -> None:
    from repro.cli.console import say

    say(f"{finding.level:<8} {finding.topic:<14} {finding.text}", _STYLE[finding.level])
    if finding.hint and finding.level != "ok":
        say(f"{'':<23} {finding.hint}")


def _show_times(results: Path, *, may_measure: bool) -> None:
    """Print how long each table would take here, with all its cells and seeds."""
    from repro.cli.console import say
    from repro.cli.sweep.dry_run import TOO_LONG_SECONDS, measured, too_long
    from repro.experiment.config import find_table, runs_of
    from repro.machine import device_name
    from repro.results.store import records_without_epochs
    from repro.sweep.cost.estimate import costs_in_records, estimate, unknown_cells

    slots = _slots()
    slot = slots[0]
    runs = {}
    for name in TABLES:
        table = find_table(name)
        runs[name] = runs_of(table.cells, range(table.seeds))
    costs = costs_in_records(records_without_epochs(results), slot, device_name(slot.device))
    unknown = unknown_cells([run for of_table in runs.values() for run in of_table], costs)
    if may_measure and unknown:
        costs |= measured(unknown, slot, SECONDS_PER_CELL)
    longest = 0.0
    for name, of_table in runs.items():
        whole = estimate(of_table, costs, len(slots))
        if whole.unknown:
            text = f"unknown for {whole.unknown} of {len(of_table)} runs; biasrepro sweep {name} --dry-run measures"
        else:
            longest = max(longest, whole.wall_seconds)
            text = f"about {duration(whole.wall_seconds)} for {len(of_table)} runs, {len(slots)} at a time"
        say(f"{'time':<8} {name:<14} {text} on {slot.device}")
    if longest > TOO_LONG_SECONDS:
        say(f"{'':<23} {too_long(slot.device)}")


def _slots() -> Sequence[Slot]:
    """The slots of a sweep without options."""
    from repro.machine import find_gpus, usable_cores
    from repro.sweep.devices.slots import VISIBLE, choose_slots

    return choose_slots(
        device="auto",
        gpus=find_gpus(),
        inherited=os.environ.get(VISIBLE),
        wanted=None,
        jobs_per_gpu=1,
        jobs=None,
        cores=usable_cores(),
        threads=None,
    )
