"""How many seeds an answer takes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from repro.analysis.stats.decision_rule import SMALLEST_EFFECT
from repro.analysis.stats.estimates import MIN_SEEDS, MOST_SEEDS, Floats, t_quantile

POWER = 0.8

# One run's spread over seeds is 0.2 to 0.3 points on CIFAR-100; a difference of two independent runs has sqrt(2) times
# that. The guess counts as much as five seeds would (4 degrees of freedom).
GUESSED_RUN_STD = 0.25
GUESS_DF = 4


def planning_std(stds: list[tuple[float, float]], guessed_run_std: float = GUESSED_RUN_STD) -> float:
    """The spread of paired differences to plan with, from what was observed: (std, degrees of freedom) of cells.

    The mean of the variances weighted by degrees of freedom, the guess counted in: the scale of the scaled inverse
    chi-square posterior of a variance, Gelman et al. (2013), Bayesian Data Analysis, section 2.6. With three seeds it
    leans on the guess, with twenty on what was seen, and a lucky spread of nearly 0 promises nothing.
    """
    degrees = GUESS_DF + sum(df for _, df in stds)
    squares = GUESS_DF * 2 * guessed_run_std**2 + sum(df * std**2 for std, df in stds)
    return math.sqrt(squares / degrees)


def effect_power(effect: ArrayLike, std: ArrayLike, n: ArrayLike, level: ArrayLike, arms: int = 2) -> Floats:
    """The chance that the one-sided test at ``level`` finds a true ``effect`` > 0 in a row of so many ``arms``.

    The upper tail of the noncentral t with (arms - 1)(n - 1) degrees of freedom and noncentrality sqrt(n) effect / std:
    Cohen (1988), Statistical Power Analysis, section 2. ``std`` is of a paired difference.
    """
    from scipy.special import nctdtr

    n = np.asarray(n, np.float64)
    df = (arms - 1) * (n - 1)
    shift = np.asarray(effect, np.float64) / np.asarray(std, np.float64) * np.sqrt(n)
    threshold = t_quantile(2 * np.asarray(level, np.float64), df)
    missed = nctdtr(df, shift, threshold)
    # SciPy 1.17 gives NaN for some chances below 1e-200 (seen at shifts of 36 and more).
    return 1 - np.where(np.isnan(missed) & (shift > threshold), 0.0, missed)


def equivalence_power(margin: ArrayLike, std: ArrayLike, n: ArrayLike, level: ArrayLike, arms: int = 2) -> Floats:
    """The chance that two one-sided tests at ``level`` show a true difference of 0 to lie within ``margin``.

    From below, by Bonferroni's inequality: 1 minus the chances that either test fails. Close to the exact integral of
    Phillips (1990), J. Pharmacokinetics and Biopharmaceutics 18, wherever it is large enough to plan for.
    """
    return np.maximum(2 * effect_power(margin, std, n, level, arms) - 1, 0)


def seeds_to_show(
    paper_delta: float, std: float, *, level: float, none: bool, arms: int = 2, power: float = POWER
) -> int | None:
    """Seeds for ``power`` to find the paper's effect at ``level``, if it is there; if it prints ``none``, to show that.

    None if more than ``MOST_SEEDS`` are needed.
    """
    if none:
        return _fewest(lambda n: equivalence_power(SMALLEST_EFFECT, std, n, level, arms) >= power)
    return _fewest(lambda n: effect_power(abs(paper_delta), std, n, level, arms) >= power)


def seeds_to_refute(paper_delta: float, std: float, *, level: float, arms: int = 2, power: float = POWER) -> int | None:
    """Seeds for ``power`` to show that a difference is smaller than what matters, if there is none, at ``level``.

    None as above, and where the paper prints no more than that: then it would refute nothing, and the paper's single
    difference is too uncertain to be refuted by any number of our seeds.
    """
    if abs(paper_delta) <= SMALLEST_EFFECT:
        return None
    return _fewest(lambda n: equivalence_power(SMALLEST_EFFECT, std, n, level, arms) >= power)


def seeds_to_be_sure(paper_delta: float, std: float, *, level: float, small_level: float, arms: int = 2) -> int | None:
    """Seeds after which no mean whatever leaves the cell undecided, if the observed ``std`` stays as it is.

    An effect either way is found beyond the half-width h(level), and shown to be small below 0.5 points less
    h(small_level): once both half-widths fit into that, one of them must hold. Planning for precision: Maxwell, Kelley
    and Rausch (2008), Annual Review of Psychology 59. None where the paper prints 0.5 or less, and if more than
    ``MOST_SEEDS`` are needed.
    """
    if abs(paper_delta) <= SMALLEST_EFFECT:
        return None

    def half_widths(n: int) -> float:
        df = (arms - 1) * (n - 1)
        return float(t_quantile(2 * level, df) + t_quantile(2 * small_level, df)) * std / math.sqrt(n)

    return _fewest(lambda n: half_widths(n) < SMALLEST_EFFECT)


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
