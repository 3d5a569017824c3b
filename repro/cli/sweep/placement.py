"""Where the runs of a local sweep are trained: ``--device``, ``--gpus``, ``--jobs`` and ``--jobs-per-gpu``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.cli.sweep.request import SweepRequest
    from repro.experiment.schema import Run
    from repro.sweep.devices.slots import Slot

MOST = 64


def choose_local_slots(request: SweepRequest, runs: Sequence[Run]) -> tuple[Slot, ...]:
    """The slots on this machine's devices, for ``runs``. Raises UserError for a device that is not available."""
    from repro.cli.console import say
    from repro.machine import find_gpus, usable_cores
    from repro.sweep.devices.slots import VISIBLE, choose_slots

    wanted = listed("--gpus", request.gpus)
    if wanted is not None and not all(part.isascii() and part.isdecimal() for part in wanted):
        raise UserError(f"--gpus {request.gpus} is not a list of numbers", hint="Such as --gpus 0,1.")
    cores = usable_cores()

    def slots(jobs_per_gpu: int) -> tuple[Slot, ...]:
        return choose_slots(
            device=request.device,
            gpus=find_gpus() if request.device != "cpu" else (),
            inherited=os.environ.get(VISIBLE),
            wanted=None if wanted is None else [int(part) for part in wanted],
            jobs_per_gpu=jobs_per_gpu,
            jobs=request.jobs,
            cores=cores,
            threads=request.threads,
        )

    number = parse_jobs_per_gpu(request.jobs_per_gpu)
    chosen = slots(choose_jobs_per_gpu(runs, slots(1), cores) if number is None else number)
    if chosen[0].device == "cpu" and number != 1:  # not an error: a script may serve machines with and without GPUs
        say(f"--jobs-per-gpu {request.jobs_per_gpu} has no effect: no GPU is visible, runs use the CPU", stderr=True)
    return chosen


def listed(option: str, text: str | None) -> list[str] | None:
    """The parts of ``a,b``; None where the option was not given. Raises UserError where it names nothing."""
    if text is None:
        return None
    if not (parts := [part.strip() for part in text.split(",") if part.strip()]):
        raise UserError(f"{option} {text!r} names nothing", hint=f"Such as {option} a,b; without it, all are taken.")
    return parts


def parse_jobs_per_gpu(text: str) -> int | None:
    """The number, or None for ``auto``. Raises UserError for anything else."""
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST):
        raise UserError(f"--jobs-per-gpu {text} is neither auto nor a number from 1 to {MOST}")
    return int(text)


def choose_jobs_per_gpu(runs: Sequence[Run], slots: Sequence[Slot], cores: int) -> int:
    """Measure each kind of ``runs`` on the first of ``slots`` (one per GPU); print and return the fastest number."""
    from repro.cli.console import counted, say, size
    from repro.experiment.catalog import dataset_facts
    from repro.machine import mps_is_running
    from repro.sweep.cost.estimate import cost_key
    from repro.sweep.cost.gpu_sharing import measure_together, memory_by_torch
    from repro.sweep.devices.packing import explore, pack

    slot = slots[0]
    if slot.device != "cuda" or not runs:
        return 1
    by_kind: dict[str, list[Run]] = {}
    for run in runs:
        by_kind.setdefault(cost_key(run.cell), []).append(run)
    free = memory_by_torch(slot).free
    limit = max(1, min(MOST, cores // len(slots), -(-len(runs) // len(slots))))
    say(f"measuring how {counted(len(by_kind), 'kind')} of run share {slot.label} (up to a minute each)", stderr=True)
    kinds = []
    for alike in by_kind.values():
        cell = alike[0].cell
        facts = dataset_facts(cell.dataset.name)
        share_of_classes = cell.dataset.num_classes / facts.num_classes
        kind, measured = explore(
            partial(measure_together, cell, slot),
            runs=len(alike),
            images=len(alike) * cell.recipe.epochs * facts.train_count * share_of_classes,
            free_bytes=free,
            limit=limit,
        )
        kinds.append(kind)
        rates = ", ".join(f"{shared.jobs}: {shared.images_per_second:,.0f}" for shared in measured)
        say(f"  {cell.row.title}: {size(kind.memory_bytes)} each; images/s by runs at a time {rates}", stderr=True)
    packing = pack(kinds, free_bytes=free, limit=limit)
    mps = "with CUDA MPS" if mps_is_running() else "without CUDA MPS (it would let kernels of several runs overlap)"
    say(
        f"{counted(packing.jobs, 'run')} at a time on each GPU: {packing.speedup:.2f} times as fast as one, "
        f"{size(packing.memory_bytes)} of {size(free)}, {mps}",
        stderr=True,
    )
    return packing.jobs
