"""The arms: loops that train on the same images from the same weights."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from repro.bench.bound import wait_for
from repro.bench.configurations import STANDARD_LOOP, Setting, keeps_memory
from repro.bench.plain import PlainLoop
from repro.data.augment import normalize
from repro.data.dataset import Dataset, random_dataset
from repro.engine.device import choose_device, keep_freed_memory, set_up_device
from repro.engine.learner import Learner
from repro.engine.randomness import derived_seed, seed_device


class Loop:
    """An arm on its device; ``weights`` is the SHA-256 of its initial weights."""

    def __init__(self, setting: Setting) -> None:
        run = setting.run
        self.device = choose_device(setting.device)
        self.settings = set_up_device(self.device, run.cell.execution, setting.threads, run.cell.row.model)
        if setting.arm in STANDARD_LOOP:
            torch.backends.cudnn.benchmark = False  # torch's default
        dataset = random_dataset(run.cell.dataset, setting.images)
        self._make_batches: Callable[[], object] | None = None
        self._train: Callable[[], object]
        if setting.arm in STANDARD_LOOP:
            seed_device(torch.device("cpu"), derived_seed(run.seed, "initialization"))
            loop = PlainLoop(run.cell, dataset, self.device, setting.workers if setting.arm == "plain" else 0)
            self._train = loop.epoch if setting.arm == "plain" else _resident_epoch(loop, dataset)
            model = loop.model
        else:
            if self.device.type == "cpu" and keeps_memory(setting.arm):
                keep_freed_memory()
            learners = []
            for stream in _streams(setting.streams, self.device):
                with torch.cuda.stream(stream):
                    learners.append((Learner(run, dataset, self.settings), stream))
            self._train = partial(_engine_epoch, learners)
            self._make_batches = partial(_engine_batches, learners[0][0])
            model = learners[0][0].state.model
        wait_for(self.device)  # for what streams have not done yet
        self.weights = _hash(model)

    def epoch(self) -> float:
        """Train one epoch; returns its seconds, the device's work included."""
        return self._timed(self._train)

    def feed_seconds(self) -> float | None:
        """Seconds to make the batches of an epoch and nothing else; None for a loop that makes them elsewhere."""
        return None if self._make_batches is None else self._timed(self._make_batches)

    def _timed(self, work: Callable[[], object]) -> float:
        wait_for(self.device)
        began = time.perf_counter()
        work()
        wait_for(self.device)
        return time.perf_counter() - began


def _resident_epoch(loop: PlainLoop, dataset: Dataset) -> Callable[[], None]:
    """An epoch of the plain loop on images that are on the device, not augmented, without reading the loss."""
    images, labels = dataset.train_images.to(loop.device), dataset.train_labels.to(loop.device)
    mean, std = (torch.tensor(values, device=loop.device) for values in (dataset.mean, dataset.std))

    def epoch() -> None:
        loop.model.train()
        order = torch.randperm(len(labels)).to(loop.device)
        for chosen in order.split(loop.batch_size):
            loop.step(normalize(images[chosen], mean, std), labels[chosen])

    return epoch


def _streams(count: int, device: torch.device) -> list[torch.cuda.Stream | None]:
    """A CUDA stream for each of several runs; None, the usual one, for a single run and on a CPU."""
    return [torch.cuda.Stream(device) if count > 1 and device.type == "cuda" else None for _ in range(count)]


def _engine_epoch(learners: Sequence[tuple[Learner, torch.cuda.Stream | None]]) -> None:
    """An epoch of each run on its stream, step by step in turn.

    For timing alone: several runs in one process share the generator that dropout draws from.
    """
    for learner, stream in learners:
        with torch.cuda.stream(stream):
            learner.feed.begin_epoch(learner.state.epoch)
    for step in range(learners[0][0].feed.steps):
        for learner, stream in learners:
            with torch.cuda.stream(stream):
                learner.train_on_batch(step)
    for learner, _stream in learners:
        learner.state.epoch += 1


def _engine_batches(learner: Learner) -> None:
    feed = learner.feed
    feed.begin_epoch(learner.state.epoch)
    for step in range(feed.steps):
        feed.prepare(feed.batch(step)[0])


def _hash(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
