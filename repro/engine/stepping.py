"""A run's network on a device, and the steps that train it: eager, compiled, or replayed as CUDA graphs."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from repro.data import Dataset
from repro.engine.batches import Feed
from repro.engine.cuda_graph import CudaCapture, GraphedStep, Step
from repro.engine.evaluate import Evaluation, Evaluator
from repro.engine.norms import prepare_norms
from repro.engine.randomness import derived_seed, seed_device
from repro.engine.schedule import learning_rate
from repro.engine.state import TrainingState
from repro.engine.step import Totals, make_optimizer, set_learning_rate, train_step
from repro.experiment.catalog import NETWORKS
from repro.experiment.schema import Run
from repro.losses import build_loss
from repro.models import build_model

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class Stepper:
    """The data set and the state of ``run`` on ``device``, with ``in_force`` as ``environment.prepare`` returned it."""

    def __init__(self, run: Run, dataset: Dataset, device: torch.device, in_force: Mapping[str, Any]) -> None:
        self.run = run
        self.device = device
        self.in_force = in_force
        memory_format = MEMORY_FORMATS[in_force["memory_format"]]
        self.feed = Feed(dataset, run.cell.recipe, run.seed, device, memory_format)
        self.state = fresh_state(run, device, memory_format)
        capture = CudaCapture(device) if in_force["cuda_graph"] else None
        step = self._step()
        self._take: Step = GraphedStep(step, self.state.tensors, capture) if capture else step
        self._evaluate = Evaluator(self.state.model, self.feed.prepare, self.autocast, device, capture)

    def take(self, step: int) -> int:
        """Take ``step`` (from 0) of the feed's epoch and return its number of images; the host does not wait."""
        state, recipe = self.state, self.run.cell.recipe
        images, targets = self.feed.batch(step)
        set_learning_rate(state.optimizer, learning_rate(recipe, state.epoch, step, self.feed.steps))
        seed_device(self.device, derived_seed(self.run.seed, "dropout", state.epoch, step))
        self._take(images, targets)
        return len(targets)

    def evaluate(self) -> Evaluation:
        """Evaluate on all test images."""
        return self._evaluate(images=self.feed.test_images, labels=self.feed.test_labels)

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast where the run declares it, else nothing."""
        if self.in_force["precision"] != "bf16":
            return contextlib.nullcontext()
        # Without the cache of cast weights: a graph would read again what was cast when it was captured.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)

    def _step(self) -> Step:
        """The step on uint8 images (N, 3, H, W) and targets (N,)."""
        state, full = self.state, self.run.cell.recipe.batch_size
        model = state.model
        compiled = torch.compile(model, dynamic=False) if self.in_force["compile"] else model
        if self.device.type == "cpu" and not self.in_force["compile"]:  # a GPU's kernels lay gradients out themselves
            prepare_norms(model)

        def step(images: Tensor, targets: Tensor) -> None:
            # An epoch's last, short batch is not worth a second compilation.
            forward = compiled if len(targets) == full else model
            images = self.feed.prepare(images)
            autocast, totals = self.autocast(), state.totals
            train_step(forward, state.loss, state.optimizer, autocast, images=images, targets=targets, totals=totals)

        return step


def fresh_state(run: Run, device: torch.device, memory_format: torch.memory_format) -> TrainingState:
    """The state of ``run`` before its first step."""
    cell = run.cell
    seed_device(torch.device("cpu"), derived_seed(run.seed, "initialization"))
    options = cell.row.options.model_dump()
    # Said of a whole table, it is meant for the networks that have it.
    if cell.execution.recompute and "recompute" in NETWORKS[cell.row.model].options:
        options["recompute"] = True
    model = build_model(cell.row.model, cell.dataset.num_classes, cell.dataset.image_size, **options)
    model = model.to(device).to(memory_format=memory_format).train()
    loss = build_loss(cell.column.loss, **cell.weighting.model_dump()).to(device).train()
    optimizer = make_optimizer(model, cell.recipe, device)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return TrainingState(model, loss, optimizer, Totals.zero(device), started_at=started)
