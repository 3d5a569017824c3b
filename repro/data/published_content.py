"""What is known of the published pixels and labels: it verifies a copy of a data set, whatever it was decoded from.

Nothing here depends on the order of the images.

- CIFAR-100: every class has its number of images, and mean and standard deviation of each channel, of the training and
  of the test images, are the published ones to 11 digits, so that the sum of all pixels of a channel is exact. Many
  public repositories give these figures to 16 digits; a test shows that they are those of whole numbers. A label that
  was exchanged between two images would not be noticed; in the archives the MD5 excludes that.
- Tiny ImageNet: one SHA-256 over every pixel and label. It was computed from a copy whose archive has no published
  checksum; the mean and standard deviation of its training pixels are those in the literature, to the four digits given
  there.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from repro.data.decoded import DecodedImages, Images, Labels, PixelSums

_TOLERANCE = 1e-11  # a sum of pixels that differs by 1 changes a mean by 8e-11 or more


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of each channel over all images of a split, for pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ContentHash:
    """``content_sha256`` of a split."""

    sha256: str


# The training images, then the test images.
PUBLISHED: dict[str, tuple[Moments | ContentHash, Moments | ContentHash]] = {
    "cifar100": (
        Moments(
            mean=(0.5070751592371323, 0.48654887331495095, 0.4409178433670343),
            std=(0.2673342858792401, 0.2564384629170883, 0.27615047132568404),
        ),
        Moments(
            mean=(0.5088964127604166, 0.48739301317401956, 0.44194221124387256),
            std=(0.2682515741720801, 0.2573637364478126, 0.2770957707973042),
        ),
    ),
    "tiny_imagenet": (
        ContentHash("06a04fc237106e5b1a63e74d40332922b15b55927490c775497b46163ebf34c9"),
        ContentHash("6feedb8ef656d32e7eb443446be2d442354ceb460972a70419837826cd4b1eca"),
    ),
}


def content_sha256(images: Images, labels: Labels) -> str:
    """SHA-256 (hex) over uint8 (N, 3, H, W) images with their int64 (N,) labels, whatever their order."""
    each = [
        hashlib.sha256(int(label).to_bytes(8, "little") + image.tobytes()).digest()
        for image, label in zip(images, labels, strict=True)
    ]
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


def difference_from_published(dataset: str, images: DecodedImages) -> str | None:
    """How decoded images differ from the published ones, in words; None if they do not.

    Raises KeyError for a data set of which nothing is known.
    """
    train, test = PUBLISHED[dataset]
    return _difference("training", train, images.train_images, images.train_labels) or _difference(
        "test", test, images.test_images, images.test_labels
    )


def _difference(split: str, known: Moments | ContentHash, images: Images, labels: Labels) -> str | None:
    per_class = np.bincount(labels)
    if len(set(per_class.tolist())) > 1:
        label = int(np.flatnonzero(per_class != np.median(per_class))[0])
        return f"class {label} has {per_class[label]} {split} images, not as many as the others"
    if isinstance(known, ContentHash):
        return None if content_sha256(images, labels) == known.sha256 else f"a pixel or a label of the {split} images"
    classes = len(per_class)
    found = Moments(*PixelSums.of(images, labels, classes).mean_and_std(classes))
    for name, values, expected in (("mean", found.mean, known.mean), ("standard deviation", found.std, known.std)):
        if not np.allclose(values, expected, rtol=0, atol=_TOLERANCE):
            return f"the {name} of the {split} pixels is {_digits(values)}, not {_digits(expected)}"
    return None


def _digits(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)
