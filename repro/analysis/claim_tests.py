"""The tests behind the claims: from differences of rows to what they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import NamedTuple

from repro.analysis.stats.decision_rule import ALPHA, SMALLEST_EFFECT
from repro.analysis.stats.estimates import Estimate, contrast, interval, p_greater, p_heterogeneous
from repro.experiment.schema import BASELINE, Row
from repro.wording import signed

# Where the supplement sees the sign change: gains up to the first, losses from the second on, in millions.
COMPACT_UP_TO = 11.0
LARGE_FROM = 19.0
CLAIMED_GAIN = 1.0  # points: "by approximately 1%"


@dataclass(frozen=True)
class Finding:
    """One estimated difference in points (of a slope: points for a tenfold size), with its 95% interval."""

    what: str
    estimate: float
    low: float
    high: float

    @classmethod
    def of(cls, what: str, estimate: Estimate) -> Finding:
        """The value of ``estimate`` and its interval."""
        low, high = interval(estimate)
        return cls(what, float(estimate.value), float(low), float(high))

    def __str__(self) -> str:
        return f"{self.what}: {signed(self.estimate)} points ({signed(self.low)} to {signed(self.high)})"


class Tested(NamedTuple):
    """What would contradict or weaken a claim, in words, and its p."""

    words: str
    p: float


@dataclass(frozen=True)
class Evidence:
    """What a test found.

    ``p`` are those of the claim's parts, in the order of ``Question.parts``; ``against`` is what contradicts the claim.
    ``summary`` is what was found in a sentence. ``reservations`` weaken a claim that is shown, if they are shown too.
    ``missing`` names the networks without three paired seeds; with any, there is no p.
    """

    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    p: tuple[float, ...] = ()
    against: tuple[Tested, ...] = ()
    summary: str = ""
    reservations: tuple[Tested, ...] = ()


@dataclass(frozen=True)
class Differences:
    """One column minus another for rows of a table; the estimate is None without three paired seeds."""

    rows: tuple[tuple[Row, Estimate | None], ...] = ()

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Those that there are."""
        return tuple(estimate for _, estimate in self.rows if estimate)

    @property
    def missing(self) -> tuple[str, ...]:
        """The titles of the rows without one."""
        return tuple(row.title for row, estimate in self.rows if estimate is None)

    @property
    def complete(self) -> bool:
        """Whether every row has one, and there are rows."""
        return bool(self.rows) and not self.missing

    def of_size(self, at_least: float, at_most: float) -> Differences:
        """The rows of so many printed parameters, in millions."""
        return Differences(tuple(entry for entry in self.rows if at_least <= _millions(entry[0]) <= at_most))

    def mean(self) -> Estimate:
        """The mean over the rows, each counting the same."""
        return contrast([1 / len(self.estimates)] * len(self.estimates), self.estimates)

    def findings(self) -> tuple[Finding, ...]:
        """Each row that has an estimate."""
        return tuple(Finding.of(row.title, estimate) for row, estimate in self.rows if estimate)


Compare = Callable[[str, str, str], Differences]  # the ids of a table, a column and the one that is subtracted


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
    sides = [1 if _millions(row) <= COMPACT_UP_TO else -1 for row, _ in rows.rows]
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
    x = [math.log10(_millions(row)) for row, _ in rows.rows]
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
        reservations=(_differing(gain, 1, "the gains of the mean"), _differing(rest, 1, "the further gains")),
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


def _unfinished(*of: Differences) -> Evidence:
    """What there is while networks lack runs."""
    findings = tuple(chain.from_iterable(rows.findings() for rows in of))
    missing = dict.fromkeys(chain.from_iterable(rows.missing for rows in of))
    return Evidence(findings, tuple(missing))


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


def _differing(rows: Differences, side: int, what: str) -> Tested:
    """That the rows differ, so that a mean does not stand for them; 1 if every one is on its side nevertheless."""
    every = _every(rows, [side] * len(rows.rows)) < ALPHA
    words = f"on average, but {what} differ, and not every network is on that side"
    return Tested(words, 1.0 if every else p_heterogeneous(rows.estimates))


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


def _millions(row: Row) -> float:
    return (row.published.parameters_millions if row.published else None) or math.nan
