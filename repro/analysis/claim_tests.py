"""The tests behind the claims: from differences of rows to what they show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from statistics import fmean

from repro.analysis.claim_evidence import CORRELATION, Compare, Differences, Evidence, Finding, Tested, millions
from repro.analysis.stats.decision_rule import ALPHA, SMALLEST_EFFECT
from repro.analysis.stats.estimates import Estimate, contrast, p_greater, p_heterogeneous
from repro.experiment.schema import BASELINE

# Where the supplement sees the sign change: gains up to the first, losses from the second on, in millions.
COMPACT_UP_TO = 11.0
LARGE_FROM = 19.0
STRONG, NEGLIGIBLE = 0.5, 0.1  # correlations: Cohen's (1988) large and small
CLAIMED_GAIN = 1.0  # points: "by approximately 1%"


def compact_gain(compare: Compare) -> Evidence:
    """The mean delta of the bias loss over the compact rows of Table 1 above 0, and one point in its interval."""
    return mean_effect(compare("table1", "bias", BASELINE).of_size(0, COMPACT_UP_TO), 1, claimed=CLAIMED_GAIN)


def large_loss(compare: Compare) -> Evidence:
    """The mean delta of the bias loss over the large rows of Table 1, below 0."""
    return mean_effect(compare("table1", "bias", BASELINE).of_size(LARGE_FROM, math.inf), -1)


def crossing(compare: Compare) -> Evidence:
    """Every row of Table 1 up to 11M gains and every row from 19M on loses.

    The crossing of a fitted line is no test of this: through the paper's own deltas, which jump, it lies below 11M.
    """
    rows = compare("table1", "bias", BASELINE)
    if not rows.complete:
        return _unfinished(rows)
    sides = [1 if millions(row) <= COMPACT_UP_TO else -1 for row, _ in rows.rows]
    against = [
        Tested(f"the effect on {row.title} is smaller than what matters, or the opposite", _p_short_of(estimate, side))
        for (row, estimate), side in zip(rows.rows, sides, strict=True)
        if estimate
    ]
    return Evidence(rows.findings(), (), (_every(rows, sides),), tuple(against), _right_of(rows, sides))


def slope(compare: Compare) -> Evidence:
    """The slope of the delta over x = log10 of the printed parameters, below 0.

    Least squares: the sum of (x - mean x) delta over the sum of (x - mean x)^2, so a contrast of the rows.
    """
    rows = compare("table1", "bias", BASELINE)
    if not rows.complete:
        return _unfinished(rows)
    x = [math.log10(millions(row)) for row, _ in rows.rows]
    centred = [value - fmean(x) for value in x]
    squares = sum(value * value for value in centred)
    estimate = contrast([value / squares for value in centred], rows.estimates)
    found = Finding.of("Change of the gain for ten times the parameters", estimate)
    against = Tested("the change is smaller than what matters, or the opposite", _p_short_of(estimate, -1))
    return Evidence((found, *rows.findings()), (), (_p_on_side(estimate, -1),), (against,), str(found))


def inverse_below_ce(compare: Compare) -> Evidence:
    """Every row of Table 2 under the inverse bias loss below cross-entropy; in part, their mean."""
    rows = compare("table2", "inverse_bias", BASELINE)
    if not rows.complete:
        return _unfinished(rows)
    sides, mean = [-1] * len(rows.rows), rows.mean()
    found = _mean_finding(rows)
    against = [Tested("the loss is smaller than what matters, or a gain", _p_short_of(mean, -1))]
    for row, estimate in rows.rows:
        if estimate:
            against.append(Tested(f"{row.title} gains", _p_on_side(estimate, 1)))
    return Evidence(
        findings=(found, *rows.findings()),
        p=(_every(rows, sides), _p_on_side(mean, -1)),
        against=tuple(against),
        summary=f"{_right_of(rows, sides)}. {found}",
    )


def mean_between(compare: Compare) -> Evidence:
    """Over the rows of Table 2 the mean bias loss above cross-entropy, and the bias loss above it."""
    gain, rest = compare("table2", "mean_bias", BASELINE), compare("table2", "bias", "mean_bias")
    if not (gain.complete and rest.complete):
        return _unfinished(gain, rest)
    means = gain.mean(), rest.mean()
    found = tuple(map(Finding.of, ("Mean bias loss minus cross-entropy", "Bias loss minus mean bias loss"), means))
    return Evidence(
        findings=found,
        p=(_p_on_side(means[0], 1), _p_on_side(means[1], 1)),
        against=(
            Tested("the mean loses instead of gaining", _p_on_side(means[0], -1)),
            Tested("the mean gains as much, to what matters, or more", _p_short_of(means[1], 1)),
        ),
        summary=". ".join(map(str, found)),
        reservations=(
            _differing(gain, 1, "the gains of the mean"),
            _differing(rest, 1, "the further gains", part=1),
        ),
    )


def table_2_order(compare: Compare) -> Evidence:
    """In every row of Table 2 inverse < cross-entropy <= mean < bias; in part, the bias loss best in every row.

    "At most" is shown by not being worse by what matters: the mean bias loss above cross-entropy less 0.5 points.
    """
    below, at_least = compare("table2", "inverse_bias", BASELINE), compare("table2", "mean_bias", BASELINE)
    over = {name: compare("table2", "bias", name) for name in (BASELINE, "mean_bias", "inverse_bias")}
    if not all(rows.complete for rows in (below, at_least, *over.values())):
        return _unfinished(below, at_least, *over.values())
    up = [1] * len(below.rows)
    best = max(_every(rows, up) for rows in over.values())
    not_worse = max(float(p_greater(estimate, -SMALLEST_EFFECT)) for estimate in at_least.estimates)
    down = _every(below, [-1] * len(up))
    order = max(down, not_worse, _every(over["mean_bias"], up), _every(over[BASELINE], up))
    gain = over[BASELINE].mean()
    against = [Tested("the gain of the bias loss is smaller than what matters", _p_short_of(gain, 1))]
    for row, estimate in chain.from_iterable(rows.rows for rows in over.values()):
        if estimate:
            against.append(Tested(f"another loss is better on {row.title}", _p_on_side(estimate, -1)))
    found = Finding.of("Bias loss minus cross-entropy, mean of the networks", gain)
    findings = (found, *over["mean_bias"].findings())
    return Evidence(findings, (), (order, best), tuple(against), str(found))


def product_adds_nothing(compare: Compare) -> Evidence:
    """Over the rows of Table 2 the product gains less than what matters over the variance; the opposite, a gain."""
    rows = compare("product", "mean_variance_bias", "bias")
    if not rows.complete:
        return _unfinished(rows)
    mean, found = rows.mean(), _mean_finding(rows)
    return Evidence(
        findings=(found, *rows.findings()),
        p=(_p_short_of(mean, 1),),
        against=(Tested("there is a gain", _p_on_side(mean, 1)),),
        summary=str(found),
        reservations=(
            Tested(f"there is a gain, of less than {SMALLEST_EFFECT} points", _p_on_side(mean, 1)),
            Tested("the networks differ", p_heterogeneous(rows.estimates)),
        ),
    )


def mean_and_variance(compare: Compare) -> Evidence:
    """The mean and the variance of the features correlate in every network of Table 2 (under the bias loss)."""
    rows = compare("table2", "bias", CORRELATION)
    findings = tuple(Finding.of_correlation(row.title, estimate) for row, estimate in rows.rows if estimate)
    if not rows.complete:
        return Evidence(findings, rows.missing, begun=rows.begun)
    mean = rows.mean()
    against = [Tested("on average, they hardly correlate", _p_below(mean, NEGLIGIBLE))]
    weak = min(1.0, len(findings) * min(_p_below(estimate, STRONG) for estimate in rows.estimates))
    return Evidence(
        findings=findings,
        p=(_every(rows, [1] * len(findings)),),
        against=(*against, *(Tested(f"not in {row.title}", _p_below(one, 0.0)) for row, one in rows.rows if one)),
        summary=str(Finding.of_correlation(f"Mean of the {len(findings)} networks", mean)),
        reservations=(Tested(f"below {STRONG} in at least one network", weak),),
    )


def _p_below(fisher_z: Estimate, correlation: float) -> float:
    """One-sided p of a correlation below this."""
    mirrored = Estimate(-fisher_z.value, fisher_z.standard_error, fisher_z.df)
    return float(p_greater(mirrored, -math.atanh(correlation)))


def _unfinished(*of: Differences) -> Evidence:
    """What there is while networks lack runs."""
    findings = tuple(chain.from_iterable(rows.findings() for rows in of))
    missing = dict.fromkeys(chain.from_iterable(rows.missing for rows in of))
    return Evidence(findings, tuple(missing), begun=any(rows.begun for rows in of))


def mean_effect(rows: Differences, side: int, claimed: float | None = None) -> Evidence:
    """The mean over ``rows`` on the claimed side of 0; with a reservation if ``claimed`` is not in its interval."""
    if not rows.complete:
        return _unfinished(rows)
    mean, found = rows.mean(), _mean_finding(rows)
    reservations = [_differing(rows, side, "the networks")]
    if claimed is not None and not found.low <= claimed <= found.high:
        reservations.append(Tested(f"not by about {claimed:g} point, which the interval does not hold", 0.0))
    what = "gain" if side > 0 else "loss"
    against = Tested(f"the {what} is smaller than what matters, or the opposite", _p_short_of(mean, side))
    return Evidence(
        (found, *rows.findings()), (), (_p_on_side(mean, side),), (against,), str(found), tuple(reservations)
    )


def mean_equivalence(rows: Differences) -> Evidence:
    """The mean over ``rows`` within what matters of 0, by two one-sided tests; against it, an effect either way."""
    if not rows.complete:
        return _unfinished(rows)
    mean, found = rows.mean(), _mean_finding(rows)
    against = (Tested("there is a gain", _p_on_side(mean, 1)), Tested("there is a loss", _p_on_side(mean, -1)))
    p = max(_p_short_of(mean, 1), _p_short_of(mean, -1))
    differing = Tested("on average, but the networks differ", p_heterogeneous(rows.estimates))
    return Evidence((found, *rows.findings()), (), (p,), against, str(found), (differing,))


def _differing(rows: Differences, side: int, what: str, part: int = 0) -> Tested:
    """That the rows differ, so that a mean does not stand for them; 1 if every one is on its side nevertheless."""
    every = _every(rows, [side] * len(rows.rows)) < ALPHA
    words = f"on average, but {what} differ, and not every network is on that side"
    return Tested(words, 1.0 if every else p_heterogeneous(rows.estimates), part)


def _mean_finding(rows: Differences) -> Finding:
    return Finding.of(f"Mean of the {len(rows.rows)} networks", rows.mean())


def _every(rows: Differences, sides: Sequence[int]) -> float:
    """p of each row on its side of 0: the largest of theirs."""
    return max(_p_on_side(estimate, side) for estimate, side in zip(rows.estimates, sides, strict=True))


def _right_of(rows: Differences, sides: Sequence[int]) -> str:
    """How many rows have their whole interval on their side."""
    ends = [(finding.low, finding.high) for finding in rows.findings()]
    right = sum(min(side * low, side * high) > 0 for (low, high), side in zip(ends, sides, strict=True))
    return f"{right} of {len(ends)} networks have their whole interval on the claimed side"


def _p_on_side(estimate: Estimate, side: int) -> float:
    """One-sided p of a difference on that side of 0."""
    return float(p_greater(Estimate(side * estimate.value, estimate.standard_error, estimate.df)))


def _p_short_of(estimate: Estimate, side: int) -> float:
    """One-sided p of a difference on that side that is smaller than what matters, or on the other side."""
    mirrored = Estimate(-side * estimate.value, estimate.standard_error, estimate.df)
    return float(p_greater(mirrored, -SMALLEST_EFFECT))
