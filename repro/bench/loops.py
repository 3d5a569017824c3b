"""The arms at work: each a loop that trains epochs of the same images, from the same weights."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

import torch
from torch import nn

from repro.bench.configurations import Setting, keeps_memory
from repro.bench.plain import PlainLoop
from repro.data import Dataset
from repro.engine.device import DeviceSettings, choose_device, keep_freed_memory, set_up_device
from repro.engine.learner import Learner
from repro.engine.randomness import derived_seed, seed_device
from repro.experiment.schema import Run
from repro.losses import per_sample


def random_images(run: Run, count: int) -> Dataset:
    """``count`` random training images of the shape of the run's data set: what they show costs nothing."""
    choice = run.cell.dataset
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, choice.image_size, choice.image_size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, choice.num_classes, (count,), generator=generator)
    return Dataset(
        name=choice.name,
        image_size=choice.image_size,
        classes=tuple(str(index) for index in range(choice.num_classes)),
        train_images=images,
        train_labels=labels,
        test_images=images[:1],
        test_labels=labels[:1],
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        source="random",
    )


class Loop:
    """An arm set up on its device: ``epoch`` trains once over the images, ``feed`` only makes their batches.

    ``weights`` is the SHA-256 of the initial weights. ``feed`` is None where batches are made elsewhere.
    """

    def __init__(self, setting: Setting) -> None:
        self.device = choose_device(setting.device)
        run, threads = setting.run, setting.threads
        self.settings = set_up_device(self.device, run.cell.execution, threads, run.cell.row.model)
        self.feed: Callable[[], object] | None = None
        dataset = random_images(run, setting.images)
        if setting.arm == "plain":
            seed_device(torch.device("cpu"), derived_seed(run.seed, "initialization"))
            loop = PlainLoop(run.cell, dataset, self.device, setting.workers)
            self._train: Callable[[], object] = loop.epoch
            model = loop.model
        elif setting.arm == "resident":
            seed_device(torch.device("cpu"), derived_seed(run.seed, "initialization"))
            resident = _Resident(run, dataset, self.device)
            self._train = resident.epoch
            model = resident.loop.model
        else:
            if self.device.type == "cpu" and keeps_memory(setting.arm):
                keep_freed_memory()
            engine = _Engine(run, dataset, self.settings)
            self._train, self.feed = engine.epoch, engine.feed_alone
            model = engine.learner.state.model
        self.weights = _hash(model)

    def epoch(self) -> float:
        """Train one epoch; returns its seconds, the device's work included."""
        return self._timed(self._train)

    def feed_seconds(self) -> float | None:
        """Seconds to make the batches of an epoch and do nothing with them; None where that is not apart."""
        return None if self.feed is None else self._timed(self.feed)

    def _timed(self, work: Callable[[], object]) -> float:
        self._wait()
        began = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class _Resident:
    """The plain loop's arithmetic on images that are on the device already and are not augmented."""

    def __init__(self, run: Run, dataset: Dataset, device: torch.device) -> None:
        self.loop = PlainLoop(run.cell, dataset, device, workers=0)
        self.images, self.labels = dataset.train_images.to(device), dataset.train_labels.to(device)
        self.mean = torch.tensor(dataset.mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(dataset.std, device=device).view(-1, 1, 1)
        self.batch_size = run.cell.recipe.batch_size

    def epoch(self) -> None:
        loop = self.loop
        loop.model.train()
        order = torch.randperm(len(self.labels)).to(self.labels.device)
        for chosen in order.split(self.batch_size):
            images = self.images[chosen].float().div_(255).sub_(self.mean).div_(self.std)
            loop.optimizer.zero_grad()
            logits, features = loop.model(images)
            losses, _weights = per_sample(loop.loss, logits=logits, features=features, targets=self.labels[chosen])
            torch.autograd.backward(losses.mean())
            loop.optimizer.step()


class _Engine:
    """The engine's own steps, epoch after epoch."""

    def __init__(self, run: Run, dataset: Dataset, settings: DeviceSettings) -> None:
        self.learner = Learner(run, dataset, settings)

    def epoch(self) -> None:
        learner = self.learner
        learner.feed.begin_epoch(learner.state.epoch)
        for step in range(learner.feed.steps):
            learner.train_on_batch(step)
        learner.state.epoch += 1

    def feed_alone(self) -> None:
        feed = self.learner.feed
        feed.begin_epoch(self.learner.state.epoch)
        for step in range(feed.steps):
            images, _targets = feed.batch(step)
            feed.prepare(images)


def _hash(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
