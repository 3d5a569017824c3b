"""A data set as NumPy arrays, and the exact sums from which its mean and standard deviation follow."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts

_PIXELS_AT_ONCE = 1 << 22
Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DecodedImages:
    """All images of a data set: uint8 (N, 3, H, W) pixels and int64 (N,) labels, which index ``classes``."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    classes: tuple[str, ...]

    def check(self, facts: DatasetFacts) -> None:
        """Raises DataError if shapes, types or labels do not fit the data set."""
        size = facts.image_size
        expected: dict[str, tuple[tuple[int, ...], Any]] = {
            "train_images": ((facts.train_count, 3, size, size), np.uint8),
            "train_labels": ((facts.train_count,), np.int64),
            "test_images": ((facts.test_count, 3, size, size), np.uint8),
            "test_labels": ((facts.test_count,), np.int64),
        }
        for name, (shape, dtype) in expected.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != dtype:
                raise DataError(f"{facts.title}: {name} is {array.dtype} {array.shape}, not {dtype.__name__} {shape}")
        for labels in (self.train_labels, self.test_labels):
            if labels.min() < 0 or labels.max() >= facts.num_classes:
                raise DataError(f"{facts.title}: a label lies outside 0 to {facts.num_classes - 1}")
        if len(self.classes) != facts.num_classes:
            raise DataError(f"{facts.title}: {len(self.classes)} class names, not {facts.num_classes}")


@dataclass(frozen=True)
class PixelSums:
    """Per class and channel, the sum of the training pixels and of their squares: int64 (num_classes, 3) each.

    ``pixels`` counts the training pixels of a class: int64 (num_classes,). From these exact integers the mean of any
    subset of classes follows without reading an image again.
    """

    pixels: npt.NDArray[np.int64]
    sums: npt.NDArray[np.int64]
    square_sums: npt.NDArray[np.int64]

    @classmethod
    def of(cls, images: Images, labels: Labels, num_classes: int) -> PixelSums:
        """Sums over uint8 (N, 3, H, W) images with their int64 (N,) labels."""
        pixels = np.bincount(labels, minlength=num_classes) * (images.shape[2] * images.shape[3])
        sums = np.zeros((num_classes, 3), np.int64)
        square_sums = np.zeros((num_classes, 3), np.int64)
        at_once = max(1, _PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
        for first in range(0, len(images), at_once):  # few at a time: the images may be larger than the memory
            values = images[first : first + at_once].astype(np.uint16).reshape(-1, 3, images.shape[2] * images.shape[3])
            np.add.at(sums, labels[first : first + at_once], values.sum(axis=2, dtype=np.int64))
            np.add.at(square_sums, labels[first : first + at_once], (values * values).sum(axis=2, dtype=np.int64))
        return cls(pixels.astype(np.int64), sums, square_sums)

    def fingerprint(self, num_classes: int) -> str:
        """SHA-256 (hex) of the sums of the first classes; other training pixels give another one."""
        digest = hashlib.sha256()
        for values in (self.pixels, self.sums, self.square_sums):
            digest.update(np.ascontiguousarray(values[:num_classes], dtype="<i8").tobytes())
        return digest.hexdigest()

    def mean_and_std(self, num_classes: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation (divided by n) of each channel over the first classes, for pixels in [0, 1]."""
        count = int(self.pixels[:num_classes].sum())
        means, stds = [], []
        for channel in range(3):
            total = int(self.sums[:num_classes, channel].sum())
            squares = int(self.square_sums[:num_classes, channel].sum())
            means.append(total / (255 * count))
            stds.append(math.sqrt(count * squares - total**2) / (255 * count))
        return tuple(means), tuple(stds)
