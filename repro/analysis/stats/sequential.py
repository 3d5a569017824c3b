"""Group-sequential tests of a family: the interim analysis that decides each cell, and its verdict. Arrays throughout.

The looks of a family are taken together: each is taken once every undecided cell has its seeds, but for cells that get
no more of them, such as those at chance level. A decided cell stops, and further seeds change nothing. So an answer
depends only on the seeds up to the look that gave it.

At each look Holm's adjustment is applied to the cells' sequential p-values, test by test (an effect, its opposite, and
so on). That keeps the chance of any false answer to one test in the family at alpha, over all looks together:

1. Of one cell without an effect, the chance that the p of any look falls below what that look may spend of a level is
   at most the level: the sum over the looks (Bonferroni), whatever their dependence and whenever one stops. So the
   sequential p, the smallest level at which a look so far rejects, is a p-value at whatever look one stops.
2. Holm's adjustment of valid p-values keeps the error of the family, whatever the dependence between cells.
3. What a look may spend rises with the level, so no sequential p grows from one look to the next, nor does any adjusted
   one: all that is rejected at some look is rejected at the last, and 2 holds for all looks together.

Cells of the family that are not followed (those of another table) count as never rejected: p = 1.

A cell is measured at a look from its own and its baseline's seeds below it. Other arms of the row add to the estimate
of the spread with the seeds below the first look only: those every arm has, whatever was decided since.

The argument is self-contained, and the tests simulate it; the ideas are not new. Sequential p-values are Liu and
Anderson's (2008), J. American Statistical Association 103, 1621-1630; putting them into a procedure for many
hypotheses, of which Holm's is one, is Maurer and Bretz's (2013), Statistics in Biopharmaceutical Research 5, 311-320.
Both are cited from the manual of R's gsDesign (``sequentialPValue``), not from themselves. Group sequential forms of
Holm's procedure are compared by Tamhane et al. (2021), Statistics in Medicine 40, 5333-5350, of which the abstract
was read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.analysis.stats.alpha_spending import Looks, look_levels, sequential_p
from repro.analysis.stats.decision_rule import ALPHA, THREE_ANSWERS, Printed, Rule, Verdict
from repro.analysis.stats.estimates import CONFIDENCE, Estimate, Floats
from repro.analysis.stats.holm import holm
from repro.analysis.stats.row import Measured


@dataclass(frozen=True)
class Followed:
    """Where each cell stands, arrays (..., cells).

    ``look`` is the index of the look that it came to, -1 before the first; ``p`` the sequential p-values of its tests,
    ``p_adjusted`` those after Holm, both (tests, ..., cells) and NaN where a test is not asked; ``confidence`` what its
    interval holds at this look, so that the intervals of all looks hold together; ``verdict`` a text of ``Verdict``.
    """

    look: NDArray[np.int64]
    p: Floats
    p_adjusted: Floats
    confidence: Floats
    verdict: NDArray[np.str_]


def follow(
    measured: Sequence[Measured],
    reached: ArrayLike,
    printed: Printed,
    looks: Looks,
    *,
    ended: ArrayLike = False,
    others: Printed | None = None,
    rule: Rule = THREE_ANSWERS,
    alpha: float = ALPHA,
) -> Followed:
    """Take every look that can be taken, in turn.

    ``measured``: that of each look, fields (..., cells), from the seeds before it and no others. ``reached`` (...,
    cells, looks): whether those seeds are in. ``ended`` (..., cells): whether it gets no more, so that no look waits
    for it. ``printed`` (cells,), and of the family's ``others``, which are p = 1.

    The intervals are repeated ones: at each look with the level that it may spend of 0.05, so that all of them together
    hold with 95%, and so the one at whichever look one stops (the sum over the looks again). The notion is Jennison and
    Turnbull's (1989), J. Royal Statistical Society B 51, 305-361, cited from the manual of R's lrstat (``getRCI``).
    """
    there = np.asarray(reached, np.bool_)
    shape = there.shape[:-1]
    look, confidence = np.full(shape, -1), np.full(shape, CONFIDENCE)
    nothing = np.full(shape, np.nan)
    unknown = Estimate(nothing, nothing, nothing)
    standing = Measured(unknown, unknown, unknown)
    before = rule.p(standing, printed)  # 1 wherever a test is asked
    elsewhere = before[..., :0]
    if others is not None:
        nowhere = Estimate(*(np.full((*shape[:-1], len(others.delta)), np.nan) for _ in range(3)))
        elsewhere = rule.p(Measured(nowhere, nowhere, nowhere), others)
    p = np.stack([before] * there.shape[-1], axis=-1)
    total = adjusted = before
    verdict: NDArray[np.str_] = np.full(shape, Verdict.UNDECIDED.value, dtype=f"U{max(map(len, Verdict))}")
    for index, spendable in enumerate(look_levels(looks, 1 - CONFIDENCE)):
        still_open = verdict == Verdict.UNDECIDED.value
        # While an open cell lacks a seed that it will get, no look is taken; it lacks that seed at later looks, too.
        ready = np.all(there[..., index] | ~still_open | ended, axis=-1, keepdims=True)
        taken = still_open & there[..., index] & ready
        if not taken.any():
            break
        look = np.where(taken, index, look)
        standing = measured[index].where(taken, standing)
        confidence = np.where(taken, 1 - spendable, confidence)
        p[..., index] = np.where(taken, rule.p(measured[index], printed), before)
        total = np.where(np.isnan(before), np.nan, sequential_p(p[..., : index + 1], looks))
        adjusted = holm(np.concatenate([total, elsewhere], axis=-1))[..., : shape[-1]]
        judged = rule.judge(standing, printed, adjusted, alpha, confidence)
        # A decided cell keeps its verdict whatever the others become, and so does one that has ended.
        verdict = np.where(taken, judged, verdict)
    return Followed(look, total, adjusted, confidence, verdict)
