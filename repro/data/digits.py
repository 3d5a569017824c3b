"""UCI's handwritten digits: 1,797 scans in ``digits.csv.gz`` beside this file (``digits.txt`` has source and licence).

Each scan is 8x8 with values 0 to 16. It is scaled to 0 to 255, enlarged to 32x32 by bilinear interpolation with pixel
centres aligned, in exact integer arithmetic, and repeated in three channels. The split is fixed: in the order of the
file, every fifth image of each class is a test image.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from repro.data.decoded import DecodedImages, Images, Labels
from repro.experiment.catalog import DatasetFacts

_ENLARGEMENT = 4
_GREATEST_VALUE = 16
_FILE = Path(__file__).with_name("digits.csv.gz")


def decode_digits(facts: DatasetFacts) -> DecodedImages:
    """All digits, split and enlarged."""
    scans, labels = read_digits()
    is_test = np.zeros(len(labels), bool)
    for label in range(facts.num_classes):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    images = enlarge(scans)
    return DecodedImages(
        train_images=images[~is_test],
        train_labels=labels[~is_test],
        test_images=images[is_test],
        test_labels=labels[is_test],
        classes=tuple(str(digit) for digit in range(facts.num_classes)),
    )


def read_digits() -> tuple[np.ndarray[tuple[int, int, int], np.dtype[np.int64]], Labels]:
    """The scans, int64 (N, 8, 8) of 0 to 16, and their labels (N,)."""
    with gzip.open(_FILE, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.int64)
    return table[:, :-1].reshape(-1, 8, 8), table[:, -1]


def enlarge(scans: np.ndarray[tuple[int, int, int], np.dtype[np.int64]]) -> Images:
    """Int64 (N, 8, 8) of 0 to 16 to uint8 (N, 3, 32, 32) of 0 to 255, bilinear, rounded half up."""
    weights = _bilinear_weights(scans.shape[1])
    weighted = weights @ scans @ weights.T  # in units of 1 / (2 * enlargement)**2
    divisor = (2 * _ENLARGEMENT) ** 2 * _GREATEST_VALUE
    pixels = (2 * 255 * weighted + divisor) // (2 * divisor)
    return np.repeat(pixels.astype(np.uint8)[:, None], 3, axis=1)


def _bilinear_weights(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Int64 (4 size, size): row i holds the weights, in eighths, of the old pixels for the new pixel i.

    The new pixel's centre (i + 1/2) / 4 - 1/2 lies (2 i - 3) / 8 old pixels from the first old centre.
    """
    weights = np.zeros((_ENLARGEMENT * size, size), np.int64)
    for i in range(_ENLARGEMENT * size):
        left, eighths = divmod(2 * i + 1 - _ENLARGEMENT, 2 * _ENLARGEMENT)
        weights[i, max(left, 0)] += 2 * _ENLARGEMENT - eighths
        weights[i, min(left + 1, size - 1)] += eighths
    return weights
