"""A few timed training steps of some cells, a few seconds each: the measurement behind an estimate.

``measure`` runs this module as a process of its own, so that its caller never imports torch. The steps are the
engine's own, on random images of the data set's shape: no data is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from subprocess import PIPE
from typing import IO, TYPE_CHECKING, Any

from repro.engine.faults import explain
from repro.errors import UserError
from repro.experiment.plugins import PLUGINS
from repro.experiment.schema import Cell, Run
from repro.machine import python_command
from repro.plugin_files import load_plugins
from repro.sweep.cost.estimate import UNKNOWN, Cost
from repro.sweep.devices.slots import Slot

if TYPE_CHECKING:
    from repro.engine.training import Training

SECONDS_PER_CELL = 3.0
PROBE_BATCH = 4
_TEST_IMAGE_COST = 1 / 3  # of a training image: a forward pass, and no backward pass of about twice that


class Probe:
    """A process that measures on a slot. It reads and writes lines of JSON."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.input = process.stdin
        self._output = process.stdout
        self._errors = errors

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one line to its standard input."""
        with contextlib.suppress(BrokenPipeError):  # it died already: receive() says so
            self.input.write(json.dumps(message) + "\n")
            self.input.flush()

    def receive(self) -> dict[str, Any]:
        """Read its next line. Raises UserError with the last line of its standard error if it ended instead."""
        if line := self._output.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or ["the process ended"]
        raise UserError(f"the measurement failed: {lines[-1]}", hint="--no-measure and --jobs-per-gpu 1 skip it.")


@contextmanager
def probe(module: str, slot: Slot) -> Iterator[Probe]:
    """Start ``module`` on ``slot``; it is killed at the end."""
    command = python_command(module)
    environment = {**os.environ, **slot.environment}
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=errors, env=environment, text=True) as process,
    ):
        started = Probe(process, errors)
        try:
            yield started
        finally:
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # what it did not read
                started.input.close()


def measure(cells: Sequence[Cell], slot: Slot, seconds: float = SECONDS_PER_CELL) -> Iterator[Cost]:
    """Yield the cost of each cell on ``slot`` in order, ``unknown`` if a cell cannot be measured.

    Raises UserError if the process cannot measure at all.
    """
    runs = [Run(cell=cell, seed=0).model_dump(mode="json") for cell in cells]
    with probe("repro.sweep.cost.measure", slot) as process:
        request = {"runs": runs, "seconds": seconds, "device": slot.device, "threads": slot.threads}
        process.send(request | {"plugins": [str(plugin.file) for plugin in PLUGINS.values()]})
        for _ in cells:
            yield Cost(**process.receive())


def main() -> None:
    """Read a request from standard input; write one line of JSON per cell."""
    request = json.loads(sys.stdin.readline())
    load_plugins(map(Path, request["plugins"]))
    for data in request["runs"]:
        run = Run.model_validate(data)
        try:
            cost = measure_run(run, device=request["device"], threads=request["threads"], seconds=request["seconds"])
        except (RuntimeError, MemoryError, UserError) as error:  # most likely out of memory
            cost = replace(UNKNOWN, problem=str(explain(error, run.cell.id)[0]))
        print(json.dumps(asdict(cost)), flush=True)


def measure_run(run: Run, *, device: str, threads: int, seconds: float) -> Cost:
    """Measure the seconds per epoch of ``run`` in about ``seconds``, and count its parameters.

    On a CPU a step on a tiny batch comes first: it tells how large a batch there is time for. The result is scaled up.
    A GPU has time for full batches, and would choose its kernels for the tiny one as well, which takes longer.
    """
    from repro.engine.reporting import IMPORT_SECONDS

    began = time.monotonic()
    full = run.cell.recipe.batch_size
    batch_size = PROBE_BATCH if device == "cpu" else full
    first = _training(run, batch_size, device, threads)
    start_seconds = IMPORT_SECONDS + time.monotonic() - began
    parameters = sum(parameter.numel() for parameter in first.state.model.parameters())
    per_image = _seconds_per_step(first, 0.0 if device == "cpu" else seconds / 2) / batch_size
    affordable = min(full, int(seconds / 3 / per_image))
    if device == "cpu" and affordable >= 2 * PROBE_BATCH:
        per_image = _seconds_per_step(_training(run, affordable, device, threads), seconds / 2) / affordable
    facts = run.cell.dataset.known_facts
    share = run.cell.dataset.num_classes / facts.num_classes
    images = share * (facts.train_count + _TEST_IMAGE_COST * facts.test_count)
    return Cost(images * per_image, parameters, "measured", start_seconds=start_seconds)


def _training(run: Run, batch_size: int, device: str, threads: int) -> Training:
    """The engine's training of ``run`` with ``batch_size``, in epochs of as many batches as are augmented at once."""
    from repro.engine.batches import BATCHES_AUGMENTED_AT_ONCE

    recipe = run.cell.recipe.model_copy(update={"batch_size": batch_size})
    small = run.model_copy(update={"cell": run.cell.model_copy(update={"recipe": recipe})})
    return training_on_random_images(
        small, BATCHES_AUGMENTED_AT_ONCE[device.partition(":")[0]] * batch_size, device, threads
    )


def training_on_random_images(run: Run, count: int, device: str, threads: int) -> Training:
    """The engine's training of ``run`` on ``count`` random images; their first batch is its test set."""
    from repro.data.dataset import random_dataset
    from repro.engine.device import choose_device, keep_freed_memory, set_up_device
    from repro.engine.training import Training
    from repro.progress import ignore

    dataset = random_dataset(run.cell.dataset, count, tested=run.cell.recipe.batch_size)
    settings = set_up_device(choose_device(device), run.cell.execution, threads, run.cell.row.model)
    keep_freed_memory()
    return Training(run, dataset, settings, ignore, lambda: False)


def _seconds_per_step(training: Training, seconds: float) -> float:
    """The median over epochs that are timed for ``seconds``, at least one, after one to warm up."""
    timed_epoch(training, training.steps)
    began = time.monotonic()
    times: list[float] = []
    while not times or time.monotonic() - began < seconds:
        times.append(timed_epoch(training, training.steps) / training.steps)
    return statistics.median(times)


def timed_epoch(training: Training, steps: int) -> float:
    """Train on the first ``steps`` batches of an epoch; the seconds until the device has done it."""
    import torch

    began = time.monotonic()
    training.feed.begin_epoch(1)
    for step in range(steps):
        training.learner.train_on_batch(step)
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
