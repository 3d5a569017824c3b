"""What a claim is tested from, and what its test finds."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from repro.analysis.stats.estimates import Estimate, contrast, interval
from repro.experiment.schema import Row
from repro.wording import signed

CORRELATION = "feature_correlation"


@dataclass(frozen=True)
class Finding:
    """One estimated difference in points (of a slope: points for a tenfold size), with its 95% interval."""

    what: str
    estimate: float
    low: float
    high: float
    unit: str = " points"

    @classmethod
    def of(cls, what: str, estimate: Estimate) -> Finding:
        """The value of ``estimate`` and its interval."""
        low, high = interval(estimate)
        return cls(what, float(estimate.value), float(low), float(high))

    @classmethod
    def of_correlation(cls, what: str, fisher_z: Estimate) -> Finding:
        """The correlation whose Fisher's z is estimated."""
        found = cls.of(what, fisher_z)
        return cls(what, math.tanh(found.estimate), math.tanh(found.low), math.tanh(found.high), "")

    def __str__(self) -> str:
        return f"{self.what}: {signed(self.estimate)}{self.unit} ({signed(self.low)} to {signed(self.high)})"


class Tested(NamedTuple):
    """What would contradict a claim, or weaken ``part`` of it, in words, and its p."""

    words: str
    p: float
    part: int = 0


@dataclass(frozen=True)
class Evidence:
    """What a test found.

    ``p`` are those of the claim's parts, in the order of ``Question.parts``; ``against`` is what contradicts the claim.
    ``summary`` is what was found in a sentence. ``reservations`` weaken a claim that is shown, if they are shown too.
    ``missing`` names the networks with too few paired seeds; with any, there is no p. ``begun`` is False while none of
    its networks has a paired seed.
    """

    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    p: tuple[float, ...] = ()
    against: tuple[Tested, ...] = ()
    summary: str = ""
    reservations: tuple[Tested, ...] = ()
    begun: bool = True


@dataclass(frozen=True)
class Differences:
    """One column minus another for rows of a table; the estimate is None with too few paired seeds.

    ``paired`` has the ids of the rows with at least one paired seed.
    """

    rows: tuple[tuple[Row, Estimate | None], ...] = ()
    paired: frozenset[str] = frozenset()

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

    @property
    def begun(self) -> bool:
        """Whether any row has a paired seed."""
        return any(row.id in self.paired for row, _ in self.rows)

    def of_size(self, at_least: float, at_most: float) -> Differences:
        """The rows of so many printed parameters, in millions."""
        rows = tuple(entry for entry in self.rows if at_least <= millions(entry[0]) <= at_most)
        return Differences(rows, self.paired)

    def mean(self) -> Estimate:
        """The mean over the rows, each counting the same."""
        return contrast([1 / len(self.estimates)] * len(self.estimates), self.estimates)

    def findings(self) -> tuple[Finding, ...]:
        """Each row that has an estimate."""
        return tuple(Finding.of(row.title, estimate) for row, estimate in self.rows if estimate)


# The ids of a table, a column and the one that is subtracted; or, instead of that, CORRELATION: Fisher's z of the
# correlation between the mean and the variance of the features, at the last epoch of the runs of that column.
Compare = Callable[[str, str, str], Differences]


def millions(row: Row) -> float:
    """The printed parameters in millions, NaN if none are printed."""
    return (row.published.parameters_millions if row.published else None) or math.nan
