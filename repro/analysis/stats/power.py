"""How many seeds an answer takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from repro.analysis.stats.decision_rule import MARGIN
from repro.analysis.stats.estimates import CONFIDENCE, MIN_SEEDS, MOST_SEEDS, Floats, t_quantile

POWER = 0.8

# One run's spread over seeds is 0.2 to 0.3 points on CIFAR-100; a difference of two independent runs has sqrt(2) times
# that. The guess counts as much as five seeds would (4 degrees of freedom).
GUESSED_RUN_STD = 0.25
GUESS_DF = 4


def planning_std(stds: list[tuple[float, int]], guessed_run_std: float = GUESSED_RUN_STD) -> float:
    """The spread of paired differences to plan with, from what was observed: (sample std, seeds) of a cell, or several.

    The mean of the variances weighted by degrees of freedom, the guess counted in: the scale of the scaled inverse
    chi-square posterior of a variance, Gelman et al. (2013), Bayesian Data Analysis, section 2.6. With three seeds it
    leans on the guess, with twenty on what was seen, and a lucky spread of nearly 0 promises nothing.
    """
    degrees = GUESS_DF + sum(n - 1 for _, n in stds)
    squares = GUESS_DF * 2 * guessed_run_std**2 + sum((n - 1) * std**2 for std, n in stds)
    return math.sqrt(squares / degrees)


def paired_power(effect: ArrayLike, std: ArrayLike, n: ArrayLike, level: ArrayLike) -> Floats:
    """The chance that a two-sided paired t test at ``level`` finds a true ``effect`` > 0, with its right sign.

    The upper tail of the noncentral t with n - 1 degrees of freedom and noncentrality sqrt(n) effect / std: Cohen
    (1988), Statistical Power Analysis, section 2.
    """
    from scipy.special import nctdtr

    n = np.asarray(n, np.float64)
    shift = np.asarray(effect, np.float64) / np.asarray(std, np.float64) * np.sqrt(n)
    threshold = t_quantile(level, n - 1)
    missed = nctdtr(n - 1, shift, threshold)
    # SciPy 1.17 gives NaN for some chances below 1e-200 (seen at shifts of 36 and more).
    return 1 - np.where(np.isnan(missed) & (shift > threshold), 0.0, missed)


def equivalence_power(margin: ArrayLike, std: ArrayLike, n: ArrayLike, level: ArrayLike) -> Floats:
    """The chance that two one-sided tests at ``level`` show a true difference of 0 to lie within ``margin``.

    From below, by Bonferroni's inequality: 1 minus the chances that either test fails. Close to the exact integral of
    Phillips (1990), J. Pharmacokinetics and Biopharmaceutics 18, wherever it is large enough to plan for.
    """
    return np.maximum(2 * paired_power(margin, std, n, 2 * np.asarray(level, np.float64)) - 1, 0)


def seeds_to_confirm(paper_delta: float, std: float, *, level: float, power: float = POWER) -> int | None:
    """Seeds for ``power`` to find the paper's effect at ``level``, if it is there; for a printed 0, to find none.

    None if more than ``MOST_SEEDS`` are needed.
    """
    if paper_delta == 0:
        return _fewest(lambda n: equivalence_power(MARGIN, std, n, level) >= power)
    return _fewest(lambda n: paired_power(abs(paper_delta), std, n, level) >= power)


def seeds_to_refute(paper_delta: float, std: float, *, power: float = POWER) -> int | None:
    """Seeds for ``power`` to exclude half of the paper's effect by the 95% interval, if there is no effect at all.

    For a printed 0: to put the interval beyond the margin, if the effect is twice the margin. None as above.
    """
    distance = abs(paper_delta) / 2 if paper_delta else MARGIN
    return _fewest(lambda n: paired_power(distance, std, n, 1 - CONFIDENCE) >= power)


def seeds_to_decide(paper_delta: float, std: float, *, level: float) -> int | None:
    """Seeds for 80% power to end with a verdict whether the paper's effect is there or there is none."""
    confirm, refute = seeds_to_confirm(paper_delta, std, level=level), seeds_to_refute(paper_delta, std)
    return None if confirm is None or refute is None else max(confirm, refute)


def seeds_to_be_sure(paper_delta: float, std: float, *, level: float) -> int | None:
    """Seeds after which no mean whatever leaves the cell underpowered, if the observed ``std`` stays as it is.

    A mean is found if it exceeds its half-width h(level), and D/2 excluded if it lies h(0.05) below: once both
    fit into D/2, one of them must hold. Planning for precision: Maxwell, Kelley and Rausch (2008), Annual Review of
    Psychology 59. None for a printed 0, since a true effect at the margin is never decided, and if more than
    ``MOST_SEEDS`` are needed.
    """
    if paper_delta == 0:
        return None
    room = abs(paper_delta) / 2 / std
    return _fewest(lambda n: t_quantile(level, n - 1) + t_quantile(1 - CONFIDENCE, n - 1) < room * math.sqrt(n))


def _fewest(enough: Callable[[int], object]) -> int | None:
    """The smallest n from ``MIN_SEEDS`` on that is ``enough``, as every larger n is: doubled, then by bisection."""
    low, high = MIN_SEEDS - 1, MIN_SEEDS
    while not enough(high):
        if high == MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
