"""The bundled digits: enlargement and split."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from repro.data import digits
from repro.data.digits import decode_digits, enlarge
from repro.experiment.catalog import DATASETS


def test_all_scans_are_split_by_class_and_none_is_in_both_parts() -> None:
    facts = DATASETS["digits"]
    images = decode_digits(facts)
    images.check(facts)
    assert facts.train_count + facts.test_count == len(load_digits().target) == 1797
    train, test = np.bincount(images.train_labels), np.bincount(images.test_labels)
    assert ((test / (train + test) > 0.19) & (test / (train + test) < 0.21)).all()
    together = np.concatenate([images.train_images, images.test_images]).reshape(1797, -1)
    original = enlarge(load_digits().images.astype(np.int64)).reshape(1797, -1)
    assert np.array_equal(np.unique(together, axis=0), np.unique(original, axis=0))
    assert images.classes == tuple("0123456789")
    again = decode_digits(facts)
    assert np.array_equal(images.test_images, again.test_images)


def test_the_digits_are_scikit_learns_wherever_it_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    bunch = load_digits()
    for bundled in (digits._BUNDLED, Path("elsewhere")):
        monkeypatch.setattr(digits, "_BUNDLED", bundled)
        scans, labels = digits.read_digits()
        assert np.array_equal(scans, bunch.images)
        assert np.array_equal(labels, bunch.target)
        assert scans.dtype == labels.dtype == np.int64


def test_reading_them_does_not_import_scikit_learn() -> None:
    program = "import sys, repro.data.digits as d; d.read_digits(); sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_enlarging_is_bilinear_with_aligned_centres() -> None:
    scans = load_digits().images[:20].astype(np.int64)
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
