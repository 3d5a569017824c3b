"""Three answers to every cell, and the verdict that is made of them.

Effect: is there a difference in the printed direction (and, in a family of its own, in the other)? Compatible: would
the paper's difference be usual for two single runs of ours? Small: is the difference smaller than what matters?
docs/report.md gives the error rates and the power, which ``benchmarks/verdicts.py`` simulates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.analysis.stats.estimates import (
    CONFIDENCE,
    Estimate,
    Floats,
    interval,
    p_equivalent,
    p_greater,
    p_two_sided,
)
from repro.analysis.stats.row import Measured

ALPHA = 0.05
# The smallest effect of interest, in points: half of the one-point effect that the paper is about, and twice what one
# run scatters over seeds on CIFAR-100. It is the same for every cell, and fixed before any run of the paper's tables.
SMALLEST_EFFECT = 0.5


class Verdict(StrEnum):
    """What our runs say of the paper's delta. ``CHANCE``: nothing, as a run did no better than guessing."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    OPPOSITE = "opposite"
    UNDECIDED = "undecided"
    CHANCE = "chance level"


class Asked(IntEnum):
    """The tests of a cell, in the order of their p-values. Holm's adjustment is over one of them at a time."""

    EFFECT = 0
    OPPOSITE = 1
    SMALL = 2
    INCOMPATIBLE = 3
    DIFFERENCE = 4


@dataclass(frozen=True)
class Printed:
    """The paper's deltas in points, NaN where nothing is printed, and the unit that its accuracies are rounded to."""

    delta: Floats
    unit: Floats

    @classmethod
    def of(cls, delta: ArrayLike, unit: ArrayLike = 0.1) -> Printed:
        """Arrays of one shape."""
        return cls(*np.broadcast_arrays(np.asarray(delta, np.float64), np.asarray(unit, np.float64)))

    @property
    def is_none(self) -> NDArray[np.bool_]:
        """Where the difference is within its rounding: then the paper prints none, and has no direction."""
        none: NDArray[np.bool_] = np.abs(self.delta) <= self.unit + 1e-9
        return none

    @property
    def rounding_std(self) -> Floats:
        """The standard deviation of the rounding of a difference: two accuracies, each uniform within half a unit."""
        return self.unit * math.sqrt(2 / 12)


@dataclass(frozen=True)
class Rule:
    """How a cell is judged.

    ``p`` of (measured, printed): (tests, ..., cells), NaN where a test is not asked. ``judge`` of (measured, printed,
    those p adjusted, alpha, the confidence of the interval): the texts of ``Verdict``. ``estimate`` is what is shown.
    """

    p: Callable[[Measured, Printed], Floats]
    judge: Callable[[Measured, Printed, Floats, float, ArrayLike], NDArray[np.str_]]
    estimate: Callable[[Measured], Estimate]


def cell_p(measured: Measured, printed: Printed) -> Floats:
    """The p-values of cells before Holm, in the order of ``Asked``: (5, ..., cells), NaN where a test is not asked.

    EFFECT, OPPOSITE   one-sided, in the printed direction and against it; not asked if the paper prints none
    SMALL              of equivalence within ``SMALLEST_EFFECT``
    INCOMPATIBLE       of "the paper's difference is one of two single runs like ours", two-sided
    DIFFERENCE         two-sided, from this cell's differences alone; asked only where nothing is printed
    """
    sign = np.where(printed.delta < 0, -1.0, 1.0)
    pooled = measured.pooled
    along = Estimate(sign * pooled.value, pooled.standard_error, pooled.df)
    against = Estimate(-along.value, pooled.standard_error, pooled.df)
    unknown = np.isnan(printed.delta)
    no_direction = unknown | printed.is_none
    return np.stack(
        [
            np.where(no_direction, np.nan, p_greater(along)),
            np.where(no_direction, np.nan, p_greater(against)),
            np.where(unknown, np.nan, p_equivalent(pooled, SMALLEST_EFFECT)),
            np.where(unknown, np.nan, p_two_sided(_distance(measured, printed))),
            np.where(unknown, p_two_sided(measured.paired), np.nan),
        ]
    )


def main_test(printed: Printed) -> NDArray[np.int64]:
    """The test that the verdict rests on: of the effect, of equivalence if none is printed, of any difference else."""
    return np.where(
        np.isnan(printed.delta), Asked.DIFFERENCE, np.where(printed.is_none, Asked.SMALL, Asked.EFFECT)
    ).astype(np.int64)


def prediction_interval(measured: Measured, printed: Printed) -> tuple[Floats, Floats]:
    """Where the printed difference of two runs like ours will lie with 95%: Hahn and Meeker (1991), section 4.7."""
    return interval(_single(measured, printed))


def judge(
    measured: Measured, printed: Printed, p_adjusted: Floats, alpha: float = ALPHA, confidence: ArrayLike = CONFIDENCE
) -> NDArray[np.str_]:
    """The verdict on each cell, as the texts of ``Verdict``; ``p_adjusted`` by Holm, as ``cell_p`` orders them.

    reproduced      the effect is shown (if the paper prints none: that it is small), and the paper's delta compatible
    partly          the effect is shown (or small), the paper's delta not compatible
    opposite        an effect in the other direction is shown
    not reproduced  none of these, and it is shown to be small while the paper prints more, or to be incompatible
    undecided       all else
    Compatible means inside the 95% prediction interval. To reject the paper's number takes more: Holm's adjustment
    over the family, without which one reproduction in three would reject a true one.
    """
    effect, opposite, small, incompatible, _ = np.asarray(p_adjusted, np.float64)
    shown = np.where(printed.is_none, small, effect) < alpha
    low, high = prediction_interval(measured, printed)
    compatible = (low <= printed.delta) & (printed.delta <= high)
    prints_more = np.abs(printed.delta) > SMALLEST_EFFECT
    refuted = (incompatible < alpha) | ((small < alpha) & prints_more)
    return np.select(
        [shown & compatible, shown, opposite < alpha, refuted],
        [Verdict.REPRODUCED.value, Verdict.PARTLY.value, Verdict.OPPOSITE.value, Verdict.NOT_REPRODUCED.value],
        default=Verdict.UNDECIDED.value,
    )


def _single(measured: Measured, printed: Printed) -> Estimate:
    single = measured.single
    return Estimate(single.value, np.hypot(single.standard_error, printed.rounding_std), single.df)


def _distance(measured: Measured, printed: Printed) -> Estimate:
    single = _single(measured, printed)
    return Estimate(printed.delta - single.value, single.standard_error, single.df)


THREE_ANSWERS = Rule(cell_p, judge, lambda measured: measured.pooled)
