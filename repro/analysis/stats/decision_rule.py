"""From an estimate and the paper's delta to a verdict."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.analysis.stats.estimates import (
    CONFIDENCE,
    Estimate,
    Floats,
    interval,
    p_equivalent,
    p_two_sided,
    prediction_interval,
)

ALPHA = 0.05
# Where the paper prints no difference at all, or says that nothing is gained: how many points count as none. Half of
# the one-point effect that the paper claims elsewhere, as the verdict asks for half of the printed delta elsewhere.
MARGIN = 0.5


class Verdict(StrEnum):
    """What our runs say of the paper's delta. ``CHANCE``: nothing, as a run did no better than guessing."""

    REPRODUCED = "reproduced"
    PARTLY = "partly"
    NOT_REPRODUCED = "not reproduced"
    UNDERPOWERED = "underpowered"
    CHANCE = "chance level"


def cell_p(estimate: Estimate, paper_delta: ArrayLike) -> Floats:
    """The p-value of a cell, before Holm. ``paper_delta`` is NaN if nothing is printed.

    Two-sided, as the interval beside it is, so that before the adjustment p < 0.05 and a 95% interval that leaves out 0
    are the same. Where the paper's delta is exactly 0 there is no sign to find: p of equivalence within ``MARGIN``.
    """
    p: Floats = np.array(p_two_sided(estimate))
    none = np.broadcast_to(np.asarray(paper_delta, np.float64) == 0, p.shape)
    if none.any():
        parts = (estimate.value, estimate.standard_error, estimate.df)
        p[none] = p_equivalent(Estimate(*(np.broadcast_to(part, p.shape)[none] for part in parts)), MARGIN)
    return p


def judge(
    estimate: Estimate,
    paper_delta: ArrayLike,
    p_adjusted: ArrayLike,
    *,
    alpha: float = ALPHA,
    confidence: ArrayLike = CONFIDENCE,
) -> NDArray[np.str_]:
    """The verdict on each paired estimate, as the texts of ``Verdict``; arrays of one shape.

    With D the paper's delta, U the upper end of the estimate's interval and both mirrored if D is negative:
    reproduced      p_adjusted < alpha, right sign, |mean| >= |D|/2, and D in the prediction interval
    partly          p_adjusted < alpha and right sign, otherwise
    not reproduced  neither of these, and U < D/2
    underpowered    all else
    Where D is 0, p_adjusted is that of equivalence within ``MARGIN``:
    reproduced      p_adjusted < alpha, and 0 in the prediction interval
    partly          p_adjusted < alpha, otherwise
    not reproduced  neither of these, and the whole interval beyond the margin
    underpowered    all else
    """
    paper = np.asarray(paper_delta, np.float64)
    low, high = interval(estimate, confidence)
    near, far = prediction_interval(estimate)
    compatible = (near <= paper) & (paper <= far)
    mean = np.copysign(1, paper) * estimate.value
    upper = np.where(paper < 0, -low, high)
    small = np.asarray(p_adjusted, np.float64) < alpha
    no_effect = paper == 0
    found = small & (no_effect | (mean > 0))
    large_enough = no_effect | (mean >= np.abs(paper) / 2)
    excluded = np.where(no_effect, (low > MARGIN) | (high < -MARGIN), upper < np.abs(paper) / 2)
    return np.select(
        [found & large_enough & compatible, found, excluded],
        [Verdict.REPRODUCED.value, Verdict.PARTLY.value, Verdict.NOT_REPRODUCED.value],
        default=Verdict.UNDERPOWERED.value,
    )
