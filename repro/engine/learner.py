"""A run's network, data and optimizer on a device: trains on one batch, evaluates."""

from __future__ import annotations

from datetime import UTC, datetime

import torch
from torch import Tensor

from repro.data import Dataset
from repro.engine.batches import Feed
from repro.engine.cuda_graph import BatchFunction, CudaCapture, GraphedBatch
from repro.engine.device import DeviceSettings
from repro.engine.evaluate import Evaluation, Evaluator
from repro.engine.norms import batches_counted_at_once, norms_that_count, prepare_norms
from repro.engine.optimizer import make_optimizer, set_learning_rate
from repro.engine.randomness import derived_seed, seed_device
from repro.engine.schedule import learning_rate
from repro.engine.state import TrainingState
from repro.engine.step import Totals, train_step
from repro.errors import ConfigError
from repro.experiment.catalog import network
from repro.experiment.schema import Run
from repro.losses import build_loss
from repro.models import build_model


class Learner:
    """The network, the data and the state of ``run`` on a device.

    Steps run eagerly, with a compiled network, or as a CUDA graph, as ``settings`` say. ``capture_seconds`` are those
    of ``CudaCapture``, empty without a graph.
    """

    def __init__(self, run: Run, dataset: Dataset, settings: DeviceSettings) -> None:
        self.run = run
        self.settings = settings
        self.feed = Feed(dataset, run.cell.recipe, run.seed, settings.device, settings.torch_memory_format)
        self.state = fresh_state(run, settings.device, settings.torch_memory_format)
        capture = CudaCapture(settings.device) if settings.cuda_graph else None
        self.capture_seconds = capture.seconds if capture else {}
        eager = self.batch_function()
        self._train: BatchFunction = GraphedBatch(eager, self.state.tensors, capture) if capture else eager
        batch_size = run.cell.recipe.batch_size
        self._evaluate = Evaluator(self.state.model, self.feed.prepare, settings, capture, batch_size)

    def train_on_batch(self, step: int) -> int:
        """Train on batch ``step`` (from 0) of the epoch; returns its number of images. The host does not wait."""
        state, recipe = self.state, self.run.cell.recipe
        images, targets = self.feed.batch(step)
        set_learning_rate(state.optimizer, learning_rate(recipe, state.epoch, step, self.feed.steps))
        seed_device(self.settings.device, derived_seed(self.run.seed, "dropout", state.epoch, step))
        try:
            self._train(images, targets)
        except ValueError as error:
            if len(targets) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"{self.run.cell.row.model} takes no batch of one image: its last feature map is one pixel",
                where=self.run.id,
                hint="The last batch of an epoch has one. Set recipe.drop_last to true, or another recipe.batch_size.",
            ) from error
        return len(targets)

    def evaluate(self) -> Evaluation:
        """Evaluate on all test images."""
        return self._evaluate(images=self.feed.test_images, labels=self.feed.test_labels)

    def batch_function(self) -> BatchFunction:
        """The function that trains eagerly on uint8 images (N, 3, H, W) and targets (N,)."""
        # Not self, which has this function: a reference cycle keeps GPU memory until Python's collector runs.
        state, feed, settings, full = self.state, self.feed, self.settings, self.run.cell.recipe.batch_size
        model = state.model
        compiled = torch.compile(model, dynamic=False) if settings.compile else model
        # On a GPU, and in a compiled network, kernels lay out gradients themselves.
        if settings.device.type == "cpu" and not settings.compile:
            prepare_norms(model)
        counted_at_once = norms_that_count(model) if settings.device.type == "cuda" else []

        def train(images: Tensor, targets: Tensor) -> None:
            # The short last batch of an epoch is not worth a second compilation.
            is_full = len(targets) == full
            forward = compiled if is_full else model
            images = feed.prepare(images)
            autocast, totals = settings.autocast(), state.totals
            with settings.tuned_convolutions(is_full), batches_counted_at_once(counted_at_once):
                train_step(
                    forward, state.loss, state.optimizer, autocast, images=images, targets=targets, totals=totals
                )

        return train


def fresh_state(run: Run, device: torch.device, memory_format: torch.memory_format) -> TrainingState:
    """The state of ``run`` before its first step."""
    cell = run.cell
    seed_device(torch.device("cpu"), derived_seed(run.seed, "initialization"))
    options = cell.row.options.model_dump()
    # A table may set it for all rows: it applies to the networks that have it.
    if cell.execution.recompute and "recompute" in network(cell.row.model).options:
        options["recompute"] = True
    model = build_model(cell.row.model, cell.dataset.num_classes, cell.dataset.side_pixels, **options)
    model = model.to(device).to(memory_format=memory_format).train()
    loss = build_loss(cell.column.loss, **cell.weighting.model_dump(), label_smoothing=cell.recipe.label_smoothing)
    loss = loss.to(device).train()
    optimizer = make_optimizer(model, cell.recipe, device)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    return TrainingState(model, loss, optimizer, Totals.zero(device), started_at=started)
