"""A network, a loss and a data set that the package does not have; run as a program, a worker that has them too."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from repro import cli
from repro.data.decoded import DecodedImages
from repro.experiment.catalog import Archive, DatasetFacts, Loss, Network, register

NETWORK = Network("tiny_cnn", "additions:TinyNetwork")
LOSS = Loss("focal", "additions:FocalLoss", {"gamma": 2.0})
DATASET = DatasetFacts(
    name="stripes",
    title="Stripes",
    num_classes=3,
    image_size=12,
    train_count=48,
    test_count=24,
    archives=(Archive("stripes.npy"),),
    decoder="additions:decode_stripes",
)


class TinyNetwork(nn.Module):
    """One convolution and a classifier; takes images of any size."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 8, 3, padding=1)
        self.classifier = nn.Linear(8, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.convolution(images).relu()
        return self.classifier(features.mean(dim=(2, 3))), features


class FocalLoss(nn.Module):
    """A plain module: one loss a sample, and nothing of the package's own."""

    def __init__(self, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, *, logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        cross_entropy = nn.functional.cross_entropy(logits, targets, reduction="none")
        return (1 - torch.exp(-cross_entropy)) ** self.gamma * cross_entropy


class MeanLoss(FocalLoss):
    """Takes the mean over the batch, as most losses do by default: not what training wants."""

    def forward(self, *, logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        return super().forward(logits=logits, features=features, targets=targets).mean()


def decode_stripes(source: Path, facts: DatasetFacts, progress: Callable[[int, int], None]) -> DecodedImages:
    """Noise from the file, and in each image a bright row that tells its class."""
    noise = np.load(source)
    labels = np.arange(len(noise), dtype=np.int64) % facts.num_classes
    images = np.repeat(noise[:, None], 3, axis=1)
    images[np.arange(len(noise)), :, labels * 4] = 255
    progress(len(noise), len(noise))
    train = facts.train_count
    return DecodedImages(images[:train], labels[:train], images[train:], labels[train:], ("a", "b", "c"))


def write_archive(root: Path) -> None:
    """The published file of the data set."""
    root.mkdir()
    noise = np.random.default_rng(0).integers(0, 100, (72, 12, 12), dtype=np.uint8)
    np.save(root / "stripes.npy", noise)


if __name__ == "__main__":
    for entry in (NETWORK, LOSS, DATASET):
        register(entry)
    sys.exit(cli.run(sys.argv[1:]))
