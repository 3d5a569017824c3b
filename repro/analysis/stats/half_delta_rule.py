"""The rule of preregistrations without a ``rule``: they were written before there was another, and keep it.

Each cell is tested alone, with the spread of its own paired differences; what counts as large enough is half of the
paper's delta.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.analysis.stats.decision_rule import Printed, Rule, Verdict
from repro.analysis.stats.estimates import Floats, interval, p_equivalent, p_two_sided, prediction_interval
from repro.analysis.stats.row import Measured

MARGIN = 0.5  # points that count as none where the paper prints exactly 0


def half_delta_p(measured: Measured, printed: Printed) -> Floats:
    """The p-value of each cell before Holm, two-sided; where the paper prints 0, of equivalence: (1, ..., cells)."""
    estimate, none = measured.paired, printed.delta == 0
    return np.where(none, p_equivalent(estimate, MARGIN), p_two_sided(estimate))[None]


def judge_by_half_delta(
    measured: Measured, printed: Printed, p_adjusted: Floats, alpha: float, confidence: ArrayLike
) -> NDArray[np.str_]:
    """The verdict on each paired estimate, as the texts of ``Verdict``; arrays of one shape.

    With D the paper's delta, U the upper end of the estimate's interval and both mirrored if D is negative:
    reproduced      p_adjusted < alpha, right sign, |mean| >= |D|/2, and D in the prediction interval
    partly          p_adjusted < alpha and right sign, otherwise
    not reproduced  neither of these, and U < D/2
    undecided       all else
    Where D is 0, p_adjusted is that of equivalence within ``MARGIN``:
    reproduced      p_adjusted < alpha, and 0 in the prediction interval
    partly          p_adjusted < alpha, otherwise
    not reproduced  neither of these, and the whole interval beyond the margin
    undecided       all else
    """
    estimate, paper = measured.paired, printed.delta
    low, high = interval(estimate, confidence)
    near, far = prediction_interval(estimate)
    compatible = (near <= paper) & (paper <= far)
    mean = np.copysign(1, paper) * estimate.value
    upper = np.where(paper < 0, -low, high)
    no_effect = paper == 0
    found = (p_adjusted[0] < alpha) & (no_effect | (mean > 0))
    large_enough = no_effect | (mean >= np.abs(paper) / 2)
    excluded = np.where(no_effect, (low > MARGIN) | (high < -MARGIN), upper < np.abs(paper) / 2)
    return np.select(
        [found & large_enough & compatible, found, excluded],
        [Verdict.REPRODUCED.value, Verdict.PARTLY.value, Verdict.NOT_REPRODUCED.value],
        default=Verdict.UNDECIDED.value,
    )


HALF_DELTA = Rule(half_delta_p, judge_by_half_delta, lambda measured: measured.paired)
