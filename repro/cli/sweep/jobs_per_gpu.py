"""``--jobs-per-gpu``: a number, or ``auto``, which measures how many runs a GPU trains fastest at a time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Run
    from repro.sweep.devices.slots import Slot

MOST = 64


def parse_jobs_per_gpu(text: str) -> int | None:
    """The number, or None for ``auto``. Raises UserError for anything else."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST):
        raise UserError(f"--jobs-per-gpu {text} is neither auto nor a number from 1 to {MOST}")
    return int(text)


def choose_jobs_per_gpu(runs: Sequence[Run], slots: Sequence[Slot], cores: int) -> int:
    """Measure the kinds of ``runs`` on the first of ``slots`` (one for each GPU), and say what comes of it."""
    from repro.cli.console import counted, say, size
    from repro.experiment.catalog import dataset_facts
    from repro.machine import mps_is_running
    from repro.sweep.cost.estimate import cost_key
    from repro.sweep.cost.gpu_sharing import free_memory, measure_sharing
    from repro.sweep.devices.packing import explore, pack

    slot = slots[0]
    if slot.device != "cuda" or not runs:
        return 1
    by_kind: dict[str, list[Run]] = {}
    for run in runs:
        by_kind.setdefault(cost_key(run.cell), []).append(run)
    free = free_memory(slot)
    limit = max(1, min(MOST, cores // len(slots), -(-len(runs) // len(slots))))
    say(f"measuring how {counted(len(by_kind), 'kind')} of run share {slot.label} (up to a minute each)", stderr=True)
    kinds = []
    for alike in by_kind.values():
        cell = alike[0].cell
        choice = cell.dataset
        facts = dataset_facts(choice.name)
        images = len(alike) * cell.recipe.epochs * facts.train_count * choice.num_classes / facts.num_classes
        kind, measured = explore(
            partial(measure_sharing, cell, slot),
            runs=len(alike),
            images=images,
            free_bytes=free,
            limit=limit,
        )
        kinds.append(kind)
        rates = ", ".join(f"{shared.jobs}: {shared.images_per_second:,.0f}" for shared in measured)
        say(f"  {cell.row.title}: {size(kind.memory_bytes)} each; images/s by runs at a time {rates}", stderr=True)
    choice_made = pack(kinds, free_bytes=free, limit=limit)
    mps = "with CUDA MPS" if mps_is_running() else "without CUDA MPS (where it runs, kernels of several runs overlap)"
    say(
        f"{counted(choice_made.jobs, 'run')} at a time on each GPU: {choice_made.speedup:.2f} times as fast as one, "
        f"{size(choice_made.memory_bytes)} of {size(free)}, {mps}",
        stderr=True,
    )
    return choice_made.jobs
