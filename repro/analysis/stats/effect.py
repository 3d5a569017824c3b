"""How often one loss beats the other in a single run, and how much a shared seed ties their runs together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import StatisticsError, correlation, fmean

import numpy as np

from repro.analysis.stats.estimates import LEAST_STD, MIN_SEEDS


def superiority(ours: Sequence[float], baseline: Sequence[float]) -> float | None:
    """P(A > B): the chance that a run under ``ours`` beats an independent one under ``baseline``, ties halved.

    The common language effect size, Phi((mean A - mean B) / sqrt(var A + var B)) for normal accuracies: McGraw and Wong
    (1992), Psychological Bulletin 111. None below three seeds an arm; 0, 1/2 or 1 if neither arm has any spread.
    """
    if min(len(ours), len(baseline)) < MIN_SEEDS:
        return None
    difference = fmean(ours) - fmean(baseline)
    spread = math.sqrt(np.var(ours, ddof=1) + np.var(baseline, ddof=1))
    if spread < LEAST_STD:
        return 0.5 * (1 + (difference > LEAST_STD) - (difference < -LEAST_STD))
    return 0.5 * math.erfc(-difference / spread / math.sqrt(2))


def arm_correlation(ours: Sequence[float], baseline: Sequence[float]) -> float | None:
    """Pearson's correlation over paired seeds: above 0, pairing narrows the interval. None if it is undefined."""
    if len(ours) < MIN_SEEDS:
        return None
    try:
        return correlation(ours, baseline)
    except StatisticsError:  # an arm without any spread
        return None
