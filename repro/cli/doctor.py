"""``biasrepro doctor``: what this machine has, what is missing, what can be run here and how long it would take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.options import RESULTS_DEFAULT, ROOT_DEFAULT, Results, Root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repro.sweep.devices.diagnostics import Finding
    from repro.sweep.devices.slots import Slot

# Whose time is told: the demo, then the paper's tables.
TOLD = ("demo", "table2", "table1")
SECONDS_PER_CELL = 1.0

_STYLE = {"ok": "green", "missing": "yellow", "broken": "bold red"}


def doctor(
    results: Results = RESULTS_DEFAULT,
    root: Root = ROOT_DEFAULT,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Tell times from earlier records only; measure nothing.")
    ] = False,
) -> None:
    """Look this machine over: versions, GPUs, disk, data sets, and how long the tables would take here.

    Ends with exit code 0 unless something essential is broken.
    """
    from repro.cli.console import say
    from repro.sweep.devices import diagnostics as checkup

    findings: list[Finding] = []
    for found in (
        checkup.software,
        checkup.devices,
        lambda: checkup.storage(results, root),
        lambda: checkup.data_sets(root),
    ):
        findings += (new := found())
        for finding in new:
            _show(finding)
    if broken := [finding for finding in findings if finding.level == "broken"]:
        say(f"{len(broken)} essential thing(s) broken; nothing can be trained until that is mended.", "bold red")
        raise typer.Exit(1)
    _show_times(results, may_measure=not no_measure)
    say("next     biasrepro train    then: biasrepro sweep demo")


def _show(finding: Finding) -> None:
    from repro.cli.console import say

    say(f"{finding.level:<8} {finding.topic:<14} {finding.text}", _STYLE[finding.level])
    if finding.hint and finding.level != "ok":
        say(f"{'':<23} {finding.hint}")


def _show_times(results: Path, *, may_measure: bool) -> None:
    """How long each table would take here, all cells with the seeds it asks for."""
    from repro.cli.console import duration, say
    from repro.experiment.config import find_table, runs_of
    from repro.machine import device_name
    from repro.results.store import records_without_epochs
    from repro.sweep.cost.estimate import costs_in_records, estimate, unknown_cells

    slots = _slots()
    slot = slots[0]
    runs = {name: runs_of(table.cells, range(table.seeds)) for name in TOLD for table in [find_table(name)]}
    costs = costs_in_records(records_without_epochs(results), slot, device_name(slot.device))
    unknown = unknown_cells([run for of_table in runs.values() for run in of_table], costs)
    if may_measure and unknown:
        from repro.cli.sweep.dry_run import measured

        costs |= measured(unknown, slot, SECONDS_PER_CELL)
    for name, of_table in runs.items():
        whole = estimate(of_table, costs, len(slots))
        if whole.unknown:
            text = f"unknown for {whole.unknown} of {len(of_table)} runs; biasrepro sweep {name} --dry-run measures"
        else:
            text = f"about {duration(whole.wall_seconds)} for {len(of_table)} runs, {len(slots)} at a time"
        say(f"{'time':<8} {name:<14} {text} on {slot.device}")


def _slots() -> Sequence[Slot]:
    """The slots that a sweep without options would have."""
    import os

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
