"""The digits that come with the package: their bits, enlargement and split."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from repro.data.digits import decode_digits, enlarge, read_digits
from repro.errors import DataError
from repro.experiment.catalog import DATASETS

# Of scikit-learn's copy of the digits, decoded by this package.
SHA256 = {
    "train_images": "13a55bf117b1fabc4ae6a87544786ad797a8ce4f70b38644a433f7f89a9e3dcd",
    "train_labels": "9313721fa010b4068efd8523f8b0ad55e16fe55564ccc54da13abb96858f7b54",
    "test_images": "0f0accebfe9450ede5150bb62ea2e22ecf4ac40d8cbe8f5dc1c01ddfe9eccb5d",
    "test_labels": "ee6ec0ae7823271abdaa9092fefe38ec720e2d13d041a0541dbd4099bda0fc56",
}


@pytest.mark.parametrize("part", SHA256)
def test_every_bit_is_that_of_scikit_learns_copy(part: str) -> None:
    array = getattr(decode_digits(DATASETS["digits"]), part)
    assert hashlib.sha256(array.tobytes()).hexdigest() == SHA256[part]


def test_all_scans_are_split_by_class_and_none_is_in_both_parts() -> None:
    facts = DATASETS["digits"]
    images = decode_digits(facts)
    images.check(facts)
    assert facts.train_count + facts.test_count == len(read_digits()[1]) == 1797
    train, test = np.bincount(images.train_labels), np.bincount(images.test_labels)
    assert ((test / (train + test) > 0.19) & (test / (train + test) < 0.21)).all()
    together = np.concatenate([images.train_images, images.test_images]).reshape(1797, -1)
    original = enlarge(read_digits()[0]).reshape(1797, -1)
    assert np.array_equal(np.unique(together, axis=0), np.unique(original, axis=0))
    assert images.classes == tuple("0123456789")
    again = decode_digits(facts)
    assert np.array_equal(images.test_images, again.test_images)


def test_enlarging_is_bilinear_with_aligned_centres() -> None:
    scans = read_digits()[0][:20]
    enlarged = enlarge(scans)
    assert enlarged.shape == (20, 3, 32, 32)
    assert enlarged.dtype == np.uint8
    for n, i, j in ((0, 0, 0), (3, 31, 31), (5, 13, 6), (7, 14, 17), (9, 2, 29)):
        # the textbook formula, in float64
        y, x = ((k + 0.5) / 4 - 0.5 for k in (i, j))
        top, left = int(np.floor(y)), int(np.floor(x))
        value = 0.0
        for row, row_weight in ((top, top + 1 - y), (top + 1, y - top)):
            for column, column_weight in ((left, left + 1 - x), (left + 1, x - left)):
                value += row_weight * column_weight * scans[n, np.clip(row, 0, 7), np.clip(column, 0, 7)]
        assert abs(int(enlarged[n, 0, i, j]) - value * 255 / 16) <= 0.5
    assert (enlarged[:, 0] == enlarged[:, 1]).all()
    assert (enlarged[:, 0] == enlarged[:, 2]).all()
    assert enlarge(np.full((1, 8, 8), 16)).min() == 255


@pytest.mark.parametrize("label", [-1, 10])
@pytest.mark.parametrize("labels", ["train_labels", "test_labels"])
def test_a_label_outside_the_classes_is_refused(labels: str, label: int) -> None:
    facts = DATASETS["digits"]
    images = decode_digits(facts)
    changed = getattr(images, labels).copy()
    changed[-1] = label
    with pytest.raises(DataError, match="a label lies outside 0 to 9"):
        replace(images, **{labels: changed}).check(facts)
