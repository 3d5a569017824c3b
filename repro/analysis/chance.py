"""Chance level: a completed run that does no better than guessing.

It counts, is marked wherever it is shown, and nothing is concluded from its cell.
"""

from __future__ import annotations

import math

from repro.experiment.schema import Cell, DatasetChoice
from repro.results import RunRecord


def chance_level_percent(dataset: DatasetChoice) -> float | None:
    """The top-1 in percent that guessing reaches by luck: p + 3 sqrt(p (1 - p) / n), p = 1 / classes, n test images.

    The number of right guesses is binomial, and above three standard errors in about 1 of 700 runs. On CIFAR-100 this
    is 1.30 %, far below what any network reaches that learns at all. None if the data set is not known here.
    """
    if (facts := dataset.facts) is None:
        return None
    p = 1 / dataset.num_classes
    test_images = facts.test_count * dataset.num_classes / facts.num_classes
    return 100 * (p + 3 * math.sqrt(p * (1 - p) / test_images))


def is_at_chance(record: RunRecord, cell: Cell) -> bool:
    """Whether a completed run of ``cell`` ended at chance level: no better than guessing at its last epoch."""
    last, level = record.last_top1_percent, chance_level_percent(cell.dataset)
    return record.status == "completed" and last is not None and level is not None and last <= level
