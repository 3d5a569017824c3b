"""An estimated difference with its standard error, and what Student's t makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

MOST_SEEDS = 10_000  # of any plan
MIN_SEEDS = 3  # for a spread, an interval or a p-value: below, only the mean is given
CONFIDENCE = 0.95
LEAST_STD = 1e-9  # points; a spread below this is the rounding of differences that are all equal


@dataclass(frozen=True)
class Estimate:
    """A difference in points, its standard error and its degrees of freedom: float64 arrays, broadcast together.

    The standard error is NaN if there are too few seeds for one, or if all differences are equal: accuracies come
    in steps of one test image, so a spread of zero says that the steps are coarse, not that the difference is certain.
    """

    value: Floats
    standard_error: Floats
    df: Floats

    @classmethod
    def stack(cls, parts: Sequence[Estimate]) -> Estimate:
        """Several estimates in one, along a new last axis."""
        fields = zip(*((part.value, part.standard_error, part.df) for part in parts), strict=True)
        return cls(*(np.stack(np.broadcast_arrays(*of_all), axis=-1) for of_all in fields))

    @classmethod
    def joined(cls, parts: Sequence[Estimate]) -> Estimate:
        """Those of several in one, along their last axis."""
        fields = zip(*((part.value, part.standard_error, part.df) for part in parts), strict=True)
        return cls(*(np.concatenate(of_all, axis=-1) for of_all in fields))

    def where(self, chosen: NDArray[np.bool_], other: Estimate) -> Estimate:
        """This where ``chosen``, ``other`` elsewhere."""
        parts = zip(
            (self.value, self.standard_error, self.df), (other.value, other.standard_error, other.df), strict=True
        )
        return Estimate(*(np.where(chosen, ours, theirs) for ours, theirs in parts))


def paired(mean: ArrayLike, std: ArrayLike, n: ArrayLike) -> Estimate:
    """The mean of ``n`` differences paired by seed, from their mean and sample standard deviation.

    Student (1908), Biometrika 6: standard error s / sqrt(n), n - 1 degrees of freedom.
    """
    mean, std, n = (np.asarray(part, np.float64) for part in (mean, std, n))
    known = (n >= MIN_SEEDS) & (std > LEAST_STD)
    error = np.divide(std, np.sqrt(n), out=np.full(known.shape, np.nan), where=known)
    return Estimate(mean, error, n - 1)


def contrast(weights: Sequence[float], parts: Sequence[Estimate]) -> Estimate:
    """The sum of ``weights`` times independent estimates (the rows of a table), each scalar.

    Standard error by the sum of squares; degrees of freedom by Satterthwaite (1946), Biometrics Bulletin 2, eq. 17:
    (sum v_i)^2 / sum(v_i^2 / df_i) with v_i = (w_i se_i)^2. Unequal spreads and numbers of seeds are therefore fine.
    """
    weight = np.asarray(weights, np.float64)
    value = np.array([part.value for part in parts], np.float64)
    df = np.array([part.df for part in parts], np.float64)
    variance = (weight * np.array([part.standard_error for part in parts], np.float64)) ** 2
    total = variance.sum()
    return Estimate(weight @ value, np.sqrt(total), np.asarray(total**2 / (variance**2 / df).sum()))


def p_heterogeneous(parts: Sequence[Estimate]) -> float:
    """p of "these independent estimates, each scalar, have one true value"; 1 for fewer than two.

    Cochran's Q over its degrees of freedom, with the correction of Welch (1951), Biometrika 38, for standard errors
    that are estimated from few seeds.
    """
    from scipy.special import fdtrc

    count = len(parts)
    if count < 2:
        return 1.0
    value = np.array([part.value for part in parts], np.float64)
    weight = np.array([part.standard_error for part in parts], np.float64) ** -2
    share = weight / weight.sum()
    uncertain = float(((1 - share) ** 2 / np.array([part.df for part in parts], np.float64)).sum())
    q = float((weight * (value - share @ value) ** 2).sum())
    ratio = q / (count - 1) / (1 + 2 * (count - 2) / (count**2 - 1) * uncertain)
    return float(fdtrc(count - 1, (count**2 - 1) / (3 * uncertain), ratio))


def interval(estimate: Estimate, confidence: ArrayLike = CONFIDENCE) -> tuple[Floats, Floats]:
    """The two-sided t interval of the true difference, low and high; NaN if there is no standard error."""
    half = t_quantile(1 - np.asarray(confidence, np.float64), estimate.df) * estimate.standard_error
    return estimate.value - half, estimate.value + half


def prediction_interval(estimate: Estimate) -> tuple[Floats, Floats]:
    """Where the next single difference will lie with 95%, given n paired ones: mean +- t s sqrt(1 + 1/n).

    The paper's delta is one such difference. Hahn and Meeker (1991), Statistical Intervals, section 4.7.
    """
    # s sqrt(1 + 1/n) is the standard error times sqrt(n + 1), and df is n - 1
    half = t_quantile(1 - CONFIDENCE, estimate.df) * estimate.standard_error * np.sqrt(estimate.df + 2)
    return estimate.value - half, estimate.value + half


def t_quantile(two_sided_level: ArrayLike, df: ArrayLike) -> Floats:
    """What |t| exceeds with probability ``two_sided_level``; NaN below one degree of freedom."""
    from scipy.special import stdtrit

    df = np.asarray(df, np.float64)
    quantile = -stdtrit(np.maximum(df, 1), np.asarray(two_sided_level, np.float64) / 2)
    return np.where(df >= 1, quantile, np.nan)


def p_two_sided(estimate: Estimate) -> Floats:
    """p of "no difference", against a difference of either sign; 1 if there is no standard error."""
    return np.minimum(2 * _upper_tail(np.abs(estimate.value), estimate), 1)


def p_greater(estimate: Estimate, than: ArrayLike = 0.0) -> Floats:
    """p of "the difference is at most ``than``"; 1 if there is no standard error."""
    return _upper_tail(estimate.value - np.asarray(than, np.float64), estimate)


def p_equivalent(estimate: Estimate, margin: ArrayLike) -> Floats:
    """p of "the difference is ``margin`` points or more, either way"; 1 if there is no standard error.

    Two one-sided tests, each at the full level: Schuirmann (1987), J. Pharmacokinetics and Biopharmaceutics 15.
    """
    return _upper_tail(np.asarray(margin, np.float64) - np.abs(estimate.value), estimate)


def _upper_tail(distance: ArrayLike, estimate: Estimate) -> Floats:
    """P(T > distance / standard error), 1 without a standard error."""
    from scipy.special import stdtr

    tail = stdtr(np.maximum(estimate.df, 1), -np.asarray(distance) / estimate.standard_error)
    return np.where(np.isnan(tail), 1.0, tail)
