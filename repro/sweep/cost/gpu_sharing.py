"""What several runs of one kind reach together on one device: processes that train at the same time, for seconds.

Each is a process of this module: it builds its network, takes the first steps, says that it is ready, and trains from
the moment it is told to. The steps are the engine's own, on random images of the data set's shape.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import Any

from repro.errors import UserError
from repro.experiment.catalog import dataset_facts
from repro.experiment.schema import Cell, Run
from repro.machine import GpuMemory
from repro.sweep.devices.packing import CONTEXT_BYTES, Shared
from repro.sweep.devices.slots import Slot

SECONDS = 4.0


def measure_together(cell: Cell, slot: Slot, jobs: int, seconds: float = SECONDS) -> Shared:
    """Train ``jobs`` runs of ``cell`` on ``slot`` at once. Raises UserError where one of them cannot."""
    request = json.dumps(
        {
            "run": Run(cell=cell, seed=0).model_dump(mode="json"),
            "device": slot.device,
            "threads": slot.threads,
            "seconds": seconds,
        }
    )
    with ExitStack() as stack:
        processes = []
        for _ in range(jobs):
            processes.append(stack.enter_context(_process(slot)))
            stack.callback(processes[-1].kill)
        for process in processes:
            _say(process, request)
        for process in processes:
            _hear(process)  # ready
        for process in processes:
            _say(process, "go")
        answers = [_hear(process) for process in processes]
    rates = [answer["images_per_second"] for answer in answers]
    return Shared(jobs, sum(rates), max(answer["memory_bytes"] for answer in answers))


def free_memory(slot: Slot) -> int:
    """Bytes of the GPU of ``slot`` that nobody has taken."""
    return memory_by_torch(slot).free


def memory_by_torch(slot: Slot) -> GpuMemory:
    """The memory of the GPU of ``slot``, as torch counts it. Raises UserError where it finds none."""
    with _process(slot) as process:
        _say(process, json.dumps({"run": None, "device": slot.device}))
        return GpuMemory(**_hear(process))


def _process(slot: Slot) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "repro.sweep.cost.gpu_sharing"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **slot.environment},
        text=True,
    )


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died; its output ends, which is noticed when it is read


def _hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise UserError("a run that shares the device could not be measured", hint="--jobs-per-gpu 1 measures nothing.")
    heard: dict[str, Any] = json.loads(line)
    return heard


def main() -> None:
    """Answer a request on standard input."""
    request = json.loads(sys.stdin.readline())

    def answer(**values: Any) -> None:
        print(json.dumps(values), flush=True)

    if request["run"] is None:
        import torch

        free, total = torch.cuda.mem_get_info()
        answer(uuid=str(torch.cuda.get_device_properties(0).uuid), total=total, free=free)
        return
    run = Run.model_validate(request["run"])
    share = _Share(run, request["device"], request["threads"])
    answer(ready=True)
    sys.stdin.readline()
    rate = share.images_per_second(request["seconds"])
    answer(images_per_second=rate, memory_bytes=share.memory_bytes())


class _Share:
    """One of the runs: full batches, the short one and an evaluation, so that it takes what a run takes."""

    def __init__(self, run: Run, device: str, threads: int) -> None:
        from repro.sweep.cost.measure import training_on_random_images

        recipe, choice = run.cell.recipe, run.cell.dataset
        facts = dataset_facts(choice.name)
        part = choice.num_classes / facts.num_classes
        short = 0 if recipe.drop_last else round(facts.train_count * part) % recipe.batch_size
        self._training = training_on_random_images(run, 2 * recipe.batch_size + short, device, threads)
        self._resident_bytes = round(part * facts.decoded_bytes)
        self._training.feed.begin_epoch(1)
        for step in range(self._training.steps):
            self._training.learner.train_on_batch(step)
        self._training.learner.evaluate()

    def images_per_second(self, seconds: float) -> float:
        """Train for about so long."""
        learner = self._training.learner
        began = time.monotonic()
        images = 0
        while (elapsed := time.monotonic() - began) < seconds:
            for step in range(self._training.steps):
                images += learner.train_on_batch(step)
            self._wait()
        return images / elapsed if elapsed else 0.0

    def memory_bytes(self) -> int:
        """What a run takes of a GPU, at most: tensors, their data set, and the process's context; 0 on a CPU."""
        if self._training.device.type != "cuda":
            return 0
        import torch

        return torch.cuda.max_memory_reserved() + self._resident_bytes + CONTEXT_BYTES

    def _wait(self) -> None:
        if self._training.device.type == "cuda":
            import torch

            torch.cuda.synchronize()


if __name__ == "__main__":
    main()
