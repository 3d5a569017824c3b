"""``biasrepro sweep --dry-run``: the runs that would be trained, their estimated time and disk space."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from repro.cli.console import say, say_lines, show_table, size
from repro.cli.references import command_line
from repro.cli.sweep.request import SweepRequest
from repro.data.prepare import cache_path, has_images
from repro.errors import UserError
from repro.experiment.catalog import fetch_command
from repro.experiment.schema import Cell
from repro.machine import device_name
from repro.results.disk_space import free_bytes
from repro.results.store import records_without_epochs
from repro.sweep.cost.estimate import (
    Cost,
    Estimate,
    cost_key,
    costs_in_records,
    estimate,
    hours_in_records,
    unknown_cells,
)
from repro.sweep.cost.measure import SECONDS_PER_CELL, measure
from repro.sweep.devices.slots import Slot
from repro.sweep.selection import Plan
from repro.wording import counted, device_hours, duration

TOO_LONG_SECONDS = 30 * 86_400.0  # nobody waits so long


def show_dry_run(request: SweepRequest, plan: Plan, slots: Sequence[Slot]) -> None:
    """Print the runs of ``plan`` by cell, then time and disk on ``slots``; trains nothing, writes nothing."""
    table, results = request.table, request.results
    records = records_without_epochs(results) if plan.todo else ()
    costs = costs_in_records(records, slots[0], device_name(slots[0].device))
    unknown = unknown_cells(plan.todo, costs)
    if unknown and not request.no_measure:
        costs |= measured(unknown, slots[0])
    seeds: dict[str, list[int]] = {}
    for run in plan.todo:
        seeds.setdefault(run.cell.id, []).append(run.seed)
    finished = Counter(run.cell.id for run in plan.finished)
    others = {run.cell.id for run in (*plan.elsewhere, *plan.left_out)}
    lines = [
        _line(cell, seeds.get(cell.id, []), finished[cell.id], costs)
        for cell in table.cells
        if cell.id in seeds or cell.id in finished or cell.id in others
    ]
    show_table(
        ["cell", "seeds to train", "finished", "epochs", "time per run", "estimated from"], lines, right=(2, 3, 4)
    )
    say("")
    total = estimate(plan.todo, costs, len(slots), keep_weights=request.keep_weights)
    _show_totals(plan, slots, total)
    if plan.todo:  # else neither disk nor data are needed
        _show_disk(total, results)
        _show_data(request)
    say("Nothing was started.")


def show_submission(request: SweepRequest, plan: Plan, submission: str, *, uses_gpus: bool) -> None:
    """Print what a backend would submit, and its cost as far as records tell; submits nothing, writes nothing."""
    say(f"runs   {len(plan.todo)} to train, {len(plan.finished)} finished")

    # Time and disk: the cluster's devices cannot be measured from here.
    results, root = request.results.absolute(), request.root.absolute()
    kind, device = ("GPU", "cuda") if uses_gpus and request.device != "cpu" else ("CPU", "cpu")
    hours_of = hours_in_records(records_without_epochs(results), device)
    known = [hours for run in plan.todo if (hours := hours_of(run.cell)) is not None]
    unknown = len(plan.todo) - len(known)
    if known:
        without = f", without {counted(unknown, 'run')} of unknown time" if unknown else ""
        say(f"time   about {device_hours(sum(known))} {kind}-hours, from records of such runs on a {kind}{without}")
    elif unknown:
        on_a_node = command_line("sweep", request.table.reference, "--dry-run", results=results, root=root)
        say(f"time   unknown: no record of such runs on a {kind}; on a node, {on_a_node} measures it")
    total = estimate(plan.todo, {}, max(1, len(plan.todo)), keep_weights=request.keep_weights)
    _show_disk(total, results)

    # Data
    facts = request.table.dataset.known_facts
    if facts.archives:
        shared = cache_path(facts, root)
        if request.node_data is None:
            say(f"data   each node opens {shared}, read-only")
        else:
            say(f"data   each node copies {shared} once to {request.node_data}, and opens the copy")

    say_lines(submission)
    _show_data(request)
    say("Nothing was started.")


def _show_data(request: SweepRequest) -> None:
    """Print what to fetch before these runs, if the data are not here."""
    facts = request.table.dataset.known_facts
    if not has_images(facts, request.root):
        download = facts.download.size_bytes if facts.download else None
        volume = f"{size(download)} to download, " if download else ""
        fetch = fetch_command(facts, request.root)
        say(f"data   {facts.title} is not here: {fetch} ({volume}{size(facts.decoded_bytes)} decoded)", "yellow")
    if request.table.dataset.unchecked:
        say(f"data   {facts.title} is not decoded yet; recorded runs are taken to be of these images", "yellow")


def _show_disk(total: Estimate, results: Path) -> None:
    free = free_bytes(results)
    say(f"disk   up to {size(total.disk_bytes)} under {results}, {size(free)} free")
    if free < total.disk_bytes:
        say("       too little: free some space, or give a --results folder on another disk", "yellow")


def measured(cells: Sequence[Cell], slot: Slot, seconds: float = SECONDS_PER_CELL) -> dict[str, Cost]:
    """Costs by key, each cell measured for about ``seconds``; if that fails, prints why and skips the rest."""
    say(
        f"measuring {counted(len(cells), 'network')} on {slot.label}, a few seconds each (--no-measure skips this)",
        "dim",
        stderr=True,
    )
    costs: dict[str, Cost] = {}
    try:
        for cell, cost in zip(cells, measure(cells, slot, seconds), strict=True):
            costs[cost_key(cell)] = cost
            if cost.problem:
                say(f"{cell.id} cannot be measured: {cost.problem}", "yellow", stderr=True)
            if sys.stderr.isatty():
                say(f"  {len(costs)} of {len(cells)}: {cell.row.title}", "dim", stderr=True)
    except UserError as error:
        say_lines(str(error), "yellow", stderr=True)
    return costs


def _line(cell: Cell, seeds: Sequence[int], finished: int, costs: dict[str, Cost]) -> list[str]:
    cost = costs.get(cost_key(cell))
    epochs = cell.recipe.epochs
    time = cost.run_seconds(epochs) if cost else None
    known_from = cost.source if cost and seeds and time is not None else "–"
    return [cell.id, seeds_text(seeds), str(finished), str(epochs), duration(time), known_from]


def seeds_text(seeds: Sequence[int]) -> str:
    """Seeds, three and more in a row as a range: ``0-4, 7``; a dash for none."""
    parts: list[str] = []
    for seed in sorted(seeds):
        first, _, last = parts[-1].partition("-") if parts else ("", "", "")
        if parts and seed == int(last or first) + 1:
            parts[-1] = f"{first}-{seed}"
        else:
            parts.append(str(seed))
    return ", ".join(parts) or "–"


def _show_totals(plan: Plan, slots: Sequence[Slot], total: Estimate) -> None:
    """Print how many runs there are, and how long they take together."""
    slot = slots[0]
    at_once = f"{counted(len(slots), 'run')} at a time on {slot.device}, {counted(slot.threads, 'thread')} each"
    say(f"runs   {len(plan.todo)} to train, {len(plan.finished)} finished; {at_once}")
    for count, what in (
        (plan.borrowed, "finished ones are recorded under another table"),
        (plan.imported, "finished ones are imported, not trained here: delete their run.json files to train them"),
        (len(plan.elsewhere), "in training elsewhere"),
        (len(plan.left_out), "left out by --only"),
    ):
        if count:
            say(f"       {count} {what}")
    if plan.todo and total.unknown == len(plan.todo):
        say("time   unknown: no record of such runs on this device, and nothing measured")
    elif plan.todo:
        partly = f", without {counted(total.unknown, 'run')} of unknown time" if total.unknown else ""
        hours = total.run_seconds / 3600
        on_gpu = slot.device == "cuda"
        spent = f"{device_hours(hours if on_gpu else hours * slot.threads)} {'GPU' if on_gpu else 'core'}-hours"
        say(f"time   about {spent}, {duration(total.wall_seconds)} here{partly}")
        if (start := total.start_seconds / (len(plan.todo) - total.unknown)) >= 1:
            say(f"       {duration(start)} of each run before its first epoch: imports, data, network")
        say("       estimated from runs alone on a device; runs that share one slow each other down")
        if total.wall_seconds > TOO_LONG_SECONDS:
            say(f"       {too_long(slot.device)}", "yellow")


def too_long(device: str) -> str:
    """What to do where a sweep on this kind of ``device`` takes more than ``TOO_LONG_SECONDS``."""
    where = "more GPUs" if device == "cuda" else "a GPU"
    return (
        f"too long for this machine (over {duration(TOO_LONG_SECONDS)}): use {where} or a cluster (--executor), train "
        "a part (--rows, --columns, --seeds), or shorten runs (--set recipe.epochs=N, no longer the paper's protocol)"
    )
