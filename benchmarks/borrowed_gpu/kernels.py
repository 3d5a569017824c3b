"""Where the time of a training step goes on a GPU: its kernels, how long the GPU is busy, what takes longest.

    python benchmarks/borrowed_gpu/kernels.py TABLE/ROW/COLUMN [DEVICE]

The steps are the engine's own, a CUDA graph if the configuration says so, on random images. On a CPU: its operations.
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import torch
from torch.profiler import ProfilerActivity, profile

from repro.bench.bound import wait_for
from repro.data.dataset import random_dataset
from repro.engine.device import choose_device, set_up_device
from repro.engine.learner import Learner
from repro.errors import UserError
from repro.experiment.config import find_cell
from repro.experiment.schema import Cell, Run

SHOWN = 25


def learner_of(cell: Cell, device: torch.device, batches: int) -> Learner:
    """A run of ``cell``, on so many batches of random images."""
    settings = set_up_device(device, cell.execution, None, cell.row.model)
    dataset = random_dataset(cell.dataset, batches * cell.recipe.batch_size)
    return Learner(Run(cell=cell, seed=0), dataset, settings)


def main() -> None:
    """Profile an epoch of some steps after a first one, which captures the graph."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("cell", metavar="TABLE/ROW/COLUMN")
    options.add_argument("device", nargs="?", default="cuda")
    given = options.parse_args()
    try:
        device, cell = choose_device(given.device), find_cell(given.cell)
    except UserError as error:
        options.error(str(error))
    on_gpu = device.type == "cuda"
    steps = 16 if on_gpu else 1  # on a GPU so many batches are augmented at once
    learner = learner_of(cell, device, steps)
    learner.feed.begin_epoch(1)
    for step in range(steps):
        learner.train_on_batch(step)
    wait_for(device)
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        learner.feed.begin_epoch(2)
        for step in range(steps):
            learner.train_on_batch(step)
        wait_for(device)
    kernels = sorted(
        (event.time_range.start, event.time_range.end, event.name)
        for event in seen.events()
        if event.device_type.name == device.type.upper()
    )
    busy, last = 0.0, 0.0
    durations = defaultdict(list)
    for start, end, name in kernels:
        busy += max(0.0, end - max(start, last))
        last = max(last, end)
        durations[name].append(end - start)
    whole = last - kernels[0][0]
    print(f"{len(kernels) / steps:.0f} kernels a step, {whole / steps:.0f} us a step, busy {busy / whole:.0%} of it")
    for name, times in sorted(durations.items(), key=lambda item: -sum(item[1]))[:SHOWN]:
        print(f"{sum(times) / steps:9.1f} us {len(times) / steps:6.1f} x  {name[:110]}")


if __name__ == "__main__":
    main()
