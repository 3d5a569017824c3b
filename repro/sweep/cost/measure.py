"""A few timed training steps of some cells, each in a few seconds: the short measurement behind an estimate.

``measure`` runs this module as a process of its own, so that whoever asks never imports torch. The steps are the
engine's own, on random images of the data set's shape: no data is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.experiment.catalog import dataset_facts
from repro.experiment.schema import Cell, Run
from repro.sweep.cost.estimate import Cost
from repro.sweep.devices.slots import Slot

if TYPE_CHECKING:
    from repro.engine.training import Training

SECONDS_PER_CELL = 3.0
PROBE_BATCH = 4
_TEST_IMAGE_COST = 1 / 3  # of a training image: a forward pass, and no backward pass of about twice that


def measure(cells: Sequence[Cell], slot: Slot, seconds: float = SECONDS_PER_CELL) -> Iterator[Cost]:
    """Yield the cost of each cell on ``slot``, in order, as each is known; ``unknown`` where one cannot be measured.

    Raises UserError where the process for it cannot do its work at all.
    """
    request = {"runs": [Run(cell=cell, seed=0).model_dump(mode="json") for cell in cells], "seconds": seconds}
    request |= {"device": slot.device, "threads": slot.threads}
    with (
        tempfile.TemporaryFile("w+") as complaints,
        subprocess.Popen(
            [sys.executable, "-m", "repro.sweep.cost.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env={**os.environ, **slot.environment},
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # it died already; its output ends, and its last words are read
                process.stdin.write(json.dumps(request))
                process.stdin.close()
            for _ in cells:
                if not (line := process.stdout.readline()):
                    complaints.seek(0)
                    words = complaints.read().strip().splitlines()
                    raise UserError(f"nothing could be measured: {words[-1] if words else 'the process ended'}")
                yield Cost(**json.loads(line))
        finally:
            process.kill()


def main() -> None:
    """Read a request from standard input; write one line of JSON a cell."""
    request = json.load(sys.stdin)
    for data in request["runs"]:
        run = Run.model_validate(data)
        try:
            cost = measure_run(run, device=request["device"], threads=request["threads"], seconds=request["seconds"])
        except (RuntimeError, MemoryError) as error:  # too little memory, most likely
            print(f"{run.cell.id}: {error}", file=sys.stderr)
            cost = Cost(None, None, "unknown")
        print(json.dumps(asdict(cost)), flush=True)


def measure_run(run: Run, *, device: str, threads: int, seconds: float) -> Cost:
    """Seconds an epoch of ``run`` from some ``seconds`` of steps, and its parameters.

    A step of a tiny batch comes first, and tells how large a batch there is time for; what that takes is scaled up.
    """
    recipe = run.cell.recipe
    probe = _training(run, PROBE_BATCH, device, threads)
    parameters = sum(parameter.numel() for parameter in probe.state.model.parameters())
    per_image = _seconds_per_step(probe, 0.0) / PROBE_BATCH
    batch_size = min(recipe.batch_size, int(seconds / 3 / per_image))
    if batch_size >= 2 * PROBE_BATCH:
        per_image = _seconds_per_step(_training(run, batch_size, device, threads), seconds / 2) / batch_size
    facts = dataset_facts(run.cell.dataset.name)
    share = run.cell.dataset.num_classes / facts.num_classes
    images = share * (facts.train_count + _TEST_IMAGE_COST * facts.test_count)
    return Cost(images * per_image, parameters, "measured")


def _training(run: Run, batch_size: int, device: str, threads: int) -> Training:
    """The engine's training of ``run``, over two batches of that size."""
    recipe = run.cell.recipe.model_copy(update={"batch_size": batch_size})
    small = run.model_copy(update={"cell": run.cell.model_copy(update={"recipe": recipe})})
    return training_on_random_images(small, 2 * batch_size, device, threads)


def training_on_random_images(run: Run, count: int, device: str, threads: int) -> Training:
    """The engine's training of ``run``, over ``count`` random images; the first batch of them is its test set."""
    import torch

    from repro.data import Dataset
    from repro.engine.device import choose_device, keep_freed_memory, set_up_device
    from repro.engine.training import Training
    from repro.progress import ignore

    choice, tested = run.cell.dataset, run.cell.recipe.batch_size
    images = torch.randint(0, 256, (count, 3, choice.image_size, choice.image_size), dtype=torch.uint8)
    labels = torch.randint(0, choice.num_classes, (count,))
    dataset = Dataset(
        name=choice.name,
        image_size=choice.image_size,
        classes=tuple(str(index) for index in range(choice.num_classes)),
        train_images=images,
        train_labels=labels,
        test_images=images[:tested],
        test_labels=labels[:tested],
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        source="random",
    )
    settings = set_up_device(choose_device(device), run.cell.execution, threads, run.cell.row.model)
    keep_freed_memory()
    return Training(run, dataset, settings, ignore, lambda: False)


def _seconds_per_step(training: Training, seconds: float) -> float:
    """The median time of a step, after one to warm up; at least one is timed, whatever it takes."""
    import statistics

    import torch

    def step(number: int) -> float:
        began = time.monotonic()
        training.learner.train_on_batch(number % training.steps)
        if training.device.type == "cuda":
            torch.cuda.synchronize(training.device)
        return time.monotonic() - began

    training.feed.begin_epoch(1)
    began = time.monotonic()
    step(0)
    times = [step(1)]
    while time.monotonic() - began < seconds:
        times.append(step(len(times) + 1))
    return statistics.median(times)


if __name__ == "__main__":
    main()
