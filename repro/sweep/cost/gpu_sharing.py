"""The speed and memory of several runs of one kind that share a device: processes that train together for seconds.

Each process runs this module: it builds its network, takes the first steps, says that it is ready, and trains when it
is told to. The steps are the engine's own, on random images of the data set's shape.
"""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.experiment.plugins import PLUGINS
from repro.experiment.schema import Cell, Run
from repro.machine import GpuMemory
from repro.plugin_files import load_plugins
from repro.sweep.cost.measure import probe, timed_epoch, training_on_random_images
from repro.sweep.devices.packing import CONTEXT_BYTES, Shared
from repro.sweep.devices.slots import Slot

if TYPE_CHECKING:
    from repro.engine.training import Training

SECONDS = 4.0
FULL_STEPS = 16  # as many batches as are augmented at once on a GPU
_MODULE = "repro.sweep.cost.gpu_sharing"


def measure_together(cell: Cell, slot: Slot, jobs: int, seconds: float = SECONDS) -> Shared:
    """Train ``jobs`` runs of ``cell`` on ``slot`` at once. Raises UserError if one of them fails."""
    run = Run(cell=cell, seed=0).model_dump(mode="json")
    with ExitStack() as stack:
        processes = [stack.enter_context(probe(_MODULE, slot)) for _ in range(jobs)]
        for process in processes:
            request = {"run": run, "device": slot.device, "threads": slot.threads}
            process.send(request | {"plugins": [str(plugin.file) for plugin in PLUGINS.values()]})
        for process in processes:
            process.receive()  # it is ready
        for process in processes:
            process.send({"seconds": seconds})
        answers = [process.receive() for process in processes]
    images_per_second = sum(answer["images_per_second"] for answer in answers)
    return Shared(jobs, images_per_second, max(answer["memory_bytes"] for answer in answers))


def memory_by_torch(slot: Slot) -> GpuMemory:
    """The memory of the GPU of ``slot``, as torch counts it. Raises UserError if torch finds no GPU."""
    with probe(_MODULE, slot) as process:
        process.send({"run": None})
        return GpuMemory(**process.receive())


def main() -> None:
    """Answer the requests on standard input."""
    import torch

    request = json.loads(sys.stdin.readline())
    if request["run"] is None:
        free, total = torch.cuda.mem_get_info()
        _answer(uuid=str(torch.cuda.get_device_properties(0).uuid), total=total, free=free)
        return
    load_plugins(map(Path, request["plugins"]))
    run = Run.model_validate(request["run"])
    recipe, facts = run.cell.recipe, run.cell.dataset.known_facts
    part = run.cell.dataset.num_classes / facts.num_classes
    # Full batches, the short last one and an evaluation: together they take the memory of a real run.
    short = 0 if recipe.drop_last else round(facts.train_count * part) % recipe.batch_size
    training = training_on_random_images(
        run, FULL_STEPS * recipe.batch_size + short, request["device"], request["threads"]
    )
    timed_epoch(training, training.steps)
    training.learner.evaluate()
    _answer(ready=True)
    seconds = json.loads(sys.stdin.readline())["seconds"]
    rate = _images_per_second(training, seconds, FULL_STEPS)
    memory_bytes = 0
    if training.device.type == "cuda":
        images = training.feed.train_images.nbytes + training.feed.test_images.nbytes
        memory_bytes = torch.cuda.max_memory_reserved() - images + round(part * facts.decoded_bytes) + CONTEXT_BYTES
    _answer(images_per_second=rate, memory_bytes=memory_bytes)


def _answer(**values: Any) -> None:
    print(json.dumps(values), flush=True)


def _images_per_second(training: Training, seconds: float, steps: int) -> float:
    """The speed of the first ``steps`` batches, the full ones: a run has a short batch once an epoch."""
    images, elapsed = 0, 0.0
    while elapsed < seconds:
        elapsed += timed_epoch(training, steps)
        images += steps * training.recipe.batch_size
    return images / elapsed if elapsed else 0.0


if __name__ == "__main__":
    main()
