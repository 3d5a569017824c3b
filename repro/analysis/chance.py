"""Chance level: a completed run that does no better than guessing.

It counts, is marked wherever it is shown, and nothing is concluded from its cell.
"""

from __future__ import annotations

import math

from repro.experiment.schema import Cell, DatasetChoice
from repro.results import RunRecord


def chance_level_percent(dataset: DatasetChoice, record: RunRecord | None = None) -> float | None:
    """The top-1 in percent that guessing reaches by luck: p + 3 sqrt(p (1 - p) / n), n test images.

    p is the share of the largest class among the test images, 1 / classes where all have as many. The number of right
    guesses is binomial, and above three standard errors in about 1 of 500 runs. On CIFAR-100 this is 1.30 %, far below
    what any network reaches that learns at all. What the data set here does not say of its classes is taken from
    ``record``; None if neither says it.
    """
    found = _test_images(dataset, record)
    if found is None:
        return None
    p, test_images = found
    return 100 * (p + 3 * math.sqrt(p * (1 - p) / test_images))


def _test_images(dataset: DatasetChoice, record: RunRecord | None) -> tuple[float, float] | None:
    """The share of the largest class, and the number of test images."""
    facts = dataset.facts
    if facts is not None and (counts := facts.test_counts[: dataset.classes]):
        return max(counts) / sum(counts), sum(counts)
    counted = record.provenance.data_counts if record is not None else {}
    if counted.get("test_images"):  # before the facts of a plugin, which do not say how uneven its classes are
        return counted["largest_test_class"] / counted["test_images"], counted["test_images"]
    if facts is None:
        return None
    return 1 / dataset.num_classes, facts.test_count * dataset.num_classes / facts.num_classes


def is_at_chance(record: RunRecord, cell: Cell) -> bool:
    """Whether a completed run of ``cell`` ended at chance level: no better than guessing at its last epoch."""
    last, level = record.last_top1_percent, chance_level_percent(cell.dataset, record)
    return record.status == "completed" and last is not None and level is not None and last <= level
