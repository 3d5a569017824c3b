"""The tests behind the claims: from paired differences of rows to what they show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from repro.analysis.stats.decision_rule import MARGIN
from repro.analysis.stats.estimates import Estimate, contrast, interval, p_greater
from repro.analysis.stats.holm import holm
from repro.experiment.schema import BASELINE, Row

# Where the supplement sees the sign change: gains up to the first, losses from the second on, in millions.
COMPACT_UP_TO = 11.0
LARGE_FROM = 19.0


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


@dataclass(frozen=True)
class Evidence:
    """What a test found: ``p`` speaks for the claim, ``p_opposite`` for its opposite.

    ``summary`` is what was found in a sentence. ``reservation`` weakens a claim that is significant, ``partial`` says
    what holds of one that is not; empty if there is nothing to say. ``missing`` names the networks without three
    paired seeds.
    """

    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    p: float = 1.0
    p_opposite: float = 1.0
    summary: str = ""
    reservation: str = ""
    partial: str = ""


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
    """The mean delta of the bias loss over the compact rows of Table 1, above 0."""
    return _mean_gain(compare("table1", "bias", BASELINE).of_size(0, COMPACT_UP_TO), 1)


def large_loss(compare: Compare) -> Evidence:
    """The mean delta of the bias loss over the large rows of Table 1, below 0."""
    return _mean_gain(compare("table1", "bias", BASELINE).of_size(LARGE_FROM, math.inf), -1)


def crossing(compare: Compare) -> Evidence:
    """Every row of Table 1 up to 11M gains and every row from 19M on loses.

    The crossing of a fitted line is no test of this: through the paper's own deltas, which jump, it lies below 11M.
    """
    rows = compare("table1", "bias", BASELINE)
    return _every(rows, [1 if _millions(row) <= COMPACT_UP_TO else -1 for row, _ in rows.rows])


def slope(compare: Compare) -> Evidence:
    """The slope of the delta over x = log10 of the printed parameters, below 0.

    Least squares: the sum of (x - mean x) delta over the sum of (x - mean x)^2, so a contrast of the rows.
    """
    rows = compare("table1", "bias", BASELINE)
    if not rows.complete:
        return Evidence(rows.findings(), rows.missing)
    x = [math.log10(_millions(row)) for row, _ in rows.rows]
    centred = [value - fmean(x) for value in x]
    squares = sum(value * value for value in centred)
    estimate = contrast([value / squares for value in centred], rows.estimates)
    found = Finding.of("Change of the gain for ten times the parameters", estimate)
    return Evidence(
        (found, *rows.findings()), p=_p_on_side(estimate, -1), p_opposite=_p_on_side(estimate, 1), summary=str(found)
    )


def inverse_below_ce(compare: Compare) -> Evidence:
    """Every row of Table 2 under the inverse bias loss below cross-entropy."""
    rows = compare("table2", "inverse_bias", BASELINE)
    evidence = _every(rows, [-1] * len(rows.rows))
    if not rows.complete:
        return evidence
    mean = Finding.of(f"Mean of the {len(rows.rows)} networks", rows.mean())
    partial = "on average over the networks, though not shown for every one" if mean.high < 0 else ""
    return replace(
        evidence, findings=(mean, *evidence.findings), summary=f"{evidence.summary}. {mean}", partial=partial
    )


def mean_between(compare: Compare) -> Evidence:
    """Over the rows of Table 2 the mean bias loss above cross-entropy, and the bias loss above it."""
    gain, rest = compare("table2", "mean_bias", BASELINE), compare("table2", "bias", "mean_bias")
    if not (gain.complete and rest.complete):
        return Evidence((*gain.findings(), *rest.findings()), tuple(dict.fromkeys((*gain.missing, *rest.missing))))
    means = gain.mean(), rest.mean()
    found = tuple(map(Finding.of, ("Mean bias loss minus cross-entropy", "Bias loss minus mean bias loss"), means))
    shown = [finding.what for finding in found if finding.low > 0]
    return Evidence(
        found,
        p=max(_p_on_side(mean, 1) for mean in means),
        p_opposite=float(holm([_p_on_side(mean, -1) for mean in means]).min()),
        summary=". ".join(map(str, found)),
        partial=f"of the two gains, one is shown ({shown[0].lower()})" if len(shown) == 1 else "",
    )


def product_adds_nothing(compare: Compare) -> Evidence:
    """Over the rows of Table 2 the product gains less than ``MARGIN`` over the variance alone; the opposite, a gain."""
    rows = compare("product", "mean_variance_bias", "bias")
    if not rows.complete:
        return Evidence(rows.findings(), rows.missing)
    mean = rows.mean()
    found = Finding.of(f"Mean of the {len(rows.rows)} networks", mean)
    mirrored = Estimate(-mean.value, mean.standard_error, mean.df)
    return Evidence(
        (found, *rows.findings()),
        p=float(p_greater(mirrored, -MARGIN)),
        p_opposite=_p_on_side(mean, 1),
        summary=str(found),
        reservation=f"there is a gain, of less than {MARGIN} points" if found.low > 0 else "",
    )


def _mean_gain(rows: Differences, direction: int) -> Evidence:
    """The mean over ``rows`` on the claimed side of 0; with a reservation if it is under half of the paper's."""
    if not rows.complete:
        return Evidence(rows.findings(), rows.missing)
    mean, claimed = rows.mean(), fmean(_printed_delta(row) for row, _ in rows.rows)
    found = Finding.of(f"Mean of the {len(rows.rows)} networks", mean)
    small = abs(found.estimate) < abs(claimed) / 2
    return Evidence(
        (found, *rows.findings()),
        p=_p_on_side(mean, direction),
        p_opposite=_p_on_side(mean, -direction),
        summary=str(found),
        reservation=f"less than half of the paper's mean, {signed(claimed)}" if small else "",
    )


def _every(rows: Differences, directions: Sequence[int]) -> Evidence:
    """Each row on its claimed side of 0; the opposite: any row, by Holm over them, on the other."""
    if not rows.complete:
        return Evidence(rows.findings(), rows.missing)
    sides = list(zip(rows.estimates, directions, strict=True))
    findings = rows.findings()
    right = sum(
        min(direction * finding.low, direction * finding.high) > 0
        for finding, direction in zip(findings, directions, strict=True)
    )
    return Evidence(
        findings,
        p=max(_p_on_side(estimate, direction) for estimate, direction in sides),
        p_opposite=float(holm([_p_on_side(estimate, -direction) for estimate, direction in sides]).min()),
        summary=f"{right} of {len(findings)} networks have their whole interval on the claimed side",
    )


def _p_on_side(estimate: Estimate, direction: int) -> float:
    """Two-sided p of a difference on that side of 0; 1 if it lies on the other."""
    claimed = Estimate(direction * estimate.value, estimate.standard_error, estimate.df)
    return min(1.0, 2 * float(p_greater(claimed)))


def _millions(row: Row) -> float:
    return (row.published.parameters_millions if row.published else None) or math.nan


def _printed_delta(row: Row) -> float:
    printed = row.published.top1_percent if row.published else {}
    return printed["bias"] - printed[BASELINE]


def signed(points: float) -> str:
    """Points with their sign, and a minus sign that is one."""
    return f"{points:+z.2f}".replace("-", "−")
