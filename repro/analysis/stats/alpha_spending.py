"""Alpha spending: early stopping at preregistered interim analyses ("looks") without more false positives.

A cell is analysed when it has as many paired seeds as the first look asks for, then the second, and so on. Testing
after every seed from the third to the tenth at p < 0.05 finds an absent effect in one cell of six; here all looks of a
cell together do so in at most one of twenty.

Each look has its share of alpha, and the sum of the shares bounds the error whatever the dependence between looks. The
usual boundaries use the joint normal distribution instead. For the O'Brien-Fleming type that gains little (the last of
looks at 3, 5 and 10 seeds has 0.0490 instead of 0.0469 of 0.05), and with Student's t at a few seeds it does not hold:
simulated, the error is 0.051 then and 0.057 for a look after each seed from 3 to 10; for the Pocock type, 0.055 and
0.059. ``tests/analysis/stats/test_alpha_spending.py`` has these figures and the published boundaries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from repro.analysis.stats.estimates import MIN_SEEDS, MOST_SEEDS, Floats
from repro.errors import UserError

MOST_LOOKS = 100
Spending = Literal["obrien_fleming", "pocock"]

# Total levels between which the sequential p is interpolated. Above 0.6 what a look may spend no longer rises with the
# total (for the O'Brien-Fleming type, where the quantile of level/4 passes -1); such a p is as good as 1.
_LEVELS = np.geomspace(1e-12, 0.6, 2000)

_VALID = f"Give at most {MOST_LOOKS} increasing numbers from {MIN_SEEDS} to {MOST_SEEDS:,}, such as 5,10,20."


@dataclass(frozen=True)
class Looks:
    """The interim analyses: increasing numbers of paired seeds, and how alpha is spent over them.

    ``obrien_fleming`` spends almost nothing early and leaves the last look nearly the level of a test without looks;
    ``pocock`` spends evenly: earlier answers for large effects, more seeds for small ones.
    Raises UserError if the numbers do not increase, if one is out of bounds, and if there are too many.
    """

    seeds: tuple[int, ...]
    spending: Spending = "obrien_fleming"

    def __post_init__(self) -> None:
        in_order = 0 < len(self.seeds) <= MOST_LOOKS and list(self.seeds) == sorted(set(self.seeds))
        if not in_order or self.seeds[0] < MIN_SEEDS or self.seeds[-1] > MOST_SEEDS:
            shown = ", ".join(map(str, self.seeds[:MOST_LOOKS]))
            raise UserError(f"invalid seed counts for interim analyses: {shown or 'none'}", hint=_VALID)

    @classmethod
    def parse(cls, text: str, spending: Spending = "obrien_fleming") -> Looks:
        """Looks as typed: ``5,10,20``. Raises UserError."""
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isascii() and part.isdecimal() and len(part) <= 9 for part in parts):
            raise UserError(f"'{text}' is not a list of seed counts", hint=_VALID)
        return cls(tuple(map(int, parts)), spending)

    def after(self, n: int) -> int | None:
        """The seeds of the next look when there are ``n`` paired ones, None after the last."""
        return next((look for look in self.seeds if look > n), None)


def spent(fraction: ArrayLike, level: ArrayLike, spending: Spending = "obrien_fleming") -> Floats:
    """How much of the two-sided ``level`` may have been spent when ``fraction`` of the seeds are in.

    The functions of Lan and DeMets (1983), Biometrika 70, 659-663, on each side with half of the level, as the manual
    of R's gsDesign prints them (``sfLDOF``, ``sfLDPocock``; the article itself was not at hand):
    2 - 2 Phi(z / sqrt(fraction)) with z the upper level/4 point (O'Brien-Fleming type), and for both sides together
    level log(1 + (e - 1) fraction) (Pocock type).
    """
    from scipy.special import ndtr, ndtri

    fraction, level = np.asarray(fraction, np.float64), np.asarray(level, np.float64)
    if spending == "pocock":
        return level * np.log1p((np.e - 1) * fraction)
    cost: Floats = 4 * ndtr(ndtri(level / 4) / np.sqrt(fraction))
    return cost


def look_levels(looks: Looks, level: ArrayLike) -> Floats:
    """The two-sided p below which each look rejects, so that all together reject at most at ``level``: (..., looks)."""
    fractions = np.array(looks.seeds, np.float64) / looks.seeds[-1]
    return np.diff(spent(fractions, np.asarray(level)[..., None], looks.spending), prepend=0.0)


def sequential_p(p: ArrayLike, looks: Looks) -> Floats:
    """The p-value after several looks: the smallest total level at which any look so far rejects.

    ``p`` (..., k): the p-value at each of the first k looks. Valid whenever one stops, so that Holm over the cells'
    sequential p-values holds the family's error (``sequential.py`` has the sources and the reason). It never grows from
    one look to the next.
    """
    p = np.asarray(p, np.float64)
    levels = look_levels(looks, _LEVELS)
    totals = [
        np.exp(np.interp(_log(p[..., look]), _log(levels[:, look]), np.log(_LEVELS), right=0.0))
        for look in range(p.shape[-1])
    ]
    smallest: Floats = np.min(totals, axis=0)
    return smallest


def _log(p: Floats) -> Floats:
    return np.log(np.maximum(p, np.finfo(np.float64).tiny))
