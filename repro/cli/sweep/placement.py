"""Where the runs of a local sweep are trained: ``--device``, ``--gpus``, ``--jobs`` and ``--jobs-per-gpu``."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial

from repro import machine
from repro.cli.console import say, size
from repro.cli.options import listed
from repro.cli.sweep.request import MOST_JOBS_PER_GPU, SweepRequest, parse_jobs_per_gpu
from repro.errors import UserError
from repro.experiment.schema import Run
from repro.sweep.cost import gpu_sharing
from repro.sweep.cost.estimate import cost_key
from repro.sweep.devices.packing import explore, pack
from repro.sweep.devices.slots import VISIBLE, Slot, choose_slots
from repro.wording import counted


def choose_local_slots(request: SweepRequest, runs: Sequence[Run]) -> tuple[Slot, ...]:
    """The slots on this machine's devices, for ``runs``. Raises UserError for a device that is not available."""
    wanted = listed("--gpus", request.gpus)
    if wanted is not None and not all(re.fullmatch("[0-9]{1,4}", part) for part in wanted):
        raise UserError(f"--gpus {request.gpus} is not a list of numbers", hint="Such as --gpus 0,1.")
    cores = machine.usable_cores()
    slots = partial(
        choose_slots,
        device=request.device,
        gpus=machine.find_gpus() if request.device != "cpu" else (),
        inherited=os.environ.get(VISIBLE),
        wanted=None if wanted is None else [int(part) for part in wanted],
        jobs=request.jobs,
        cores=cores,
        threads=request.threads,
    )
    number = parse_jobs_per_gpu(request.jobs_per_gpu)
    if number is None:
        number = choose_jobs_per_gpu(runs, slots(jobs_per_gpu=1), cores)
    chosen = slots(jobs_per_gpu=number)
    # Not an error: a script may serve machines with and without GPUs.
    if chosen[0].device == "cpu" and request.jobs_per_gpu != "1":
        say(f"--jobs-per-gpu {request.jobs_per_gpu} has no effect: no GPU is visible, runs use the CPU", stderr=True)
    return chosen


def choose_jobs_per_gpu(runs: Sequence[Run], slots: Sequence[Slot], cores: int) -> int:
    """Measure each kind of ``runs`` on the first of ``slots`` (one per GPU); print and return the fastest number."""
    slot = slots[0]
    if slot.device != "cuda" or not runs:
        return 1
    by_kind: dict[str, list[Run]] = {}
    for run in runs:
        by_kind.setdefault(cost_key(run.cell), []).append(run)
    free = gpu_sharing.memory_by_torch(slot).free
    limit = max(1, min(MOST_JOBS_PER_GPU, cores // len(slots), -(-len(runs) // len(slots))))
    say(f"measuring how {counted(len(by_kind), 'kind')} of run share {slot.label} (up to a minute each)", stderr=True)
    kinds = []
    for alike in by_kind.values():
        cell = alike[0].cell
        facts = cell.dataset.known_facts
        share_of_classes = cell.dataset.num_classes / facts.num_classes
        kind, measured = explore(
            partial(gpu_sharing.measure_together, cell, slot),
            runs=len(alike),
            images=len(alike) * cell.recipe.epochs * facts.train_count * share_of_classes,
            free_bytes=free,
            limit=limit,
        )
        kinds.append(kind)
        rates = ", ".join(f"{shared.jobs}: {shared.images_per_second:,.0f}" for shared in measured)
        say(f"  {cell.row.title}: {size(kind.memory_bytes)} each; images/s by runs at a time {rates}", stderr=True)
    packing = pack(kinds, free_bytes=free, limit=limit)
    mps = "without CUDA MPS (it would let kernels of several runs overlap)"
    say(
        f"{counted(packing.jobs, 'run')} at a time on each GPU: {packing.speedup:.2f} times as fast as one, "
        f"{size(packing.memory_bytes)} of {size(free)}, {'with CUDA MPS' if machine.mps_is_running() else mps}",
        stderr=True,
    )
    return packing.jobs
