"""Group-sequential tests of a family: the interim analysis that decides each cell, and its verdict. Arrays throughout.

The looks of a family are taken together: each is taken once every undecided cell has its seeds. A decided cell stops,
and further seeds change nothing. So an answer depends only on the seeds up to the look that gave it.

At each look Holm's adjustment is applied to the cells' sequential p-values. That keeps the chance of any false answer
in the family at alpha, over all looks together:

1. Of one cell without an effect, the chance that the p of any look falls below what that look may spend of a level is
   at most the level: the sum over the looks (Bonferroni), whatever their dependence and whenever one stops. So the
   sequential p, the smallest level at which a look so far rejects, is a p-value at whatever look one stops.
2. Holm's adjustment of valid p-values keeps the error of the family, whatever the dependence between cells.
3. What a look may spend rises with the level, so no sequential p grows from one look to the next, nor does any adjusted
   one: all that is rejected at some look is rejected at the last, and 2 holds for all looks together.

Cells of the family that are not followed (those of another table) count as never rejected: p = 1.

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
from repro.analysis.stats.decision_rule import ALPHA, Verdict, cell_p, judge
from repro.analysis.stats.estimates import CONFIDENCE, Estimate, Floats
from repro.analysis.stats.holm import holm


@dataclass(frozen=True)
class Followed:
    """Where each cell stands, arrays (..., cells).

    ``look`` is the index of the look that it came to, -1 before the first; ``p`` its sequential p-value, ``p_adjusted``
    that after Holm; ``confidence`` what its interval holds at this look, so that the intervals of all looks hold
    together; ``verdict`` one of the texts of ``Verdict``.
    """

    look: NDArray[np.int64]
    p: Floats
    p_adjusted: Floats
    confidence: Floats
    verdict: NDArray[np.str_]


def follow(
    estimates: Sequence[Estimate],
    reached: ArrayLike,
    paper_delta: ArrayLike,
    looks: Looks,
    *,
    family: int,
    alpha: float = ALPHA,
) -> Followed:
    """Take every look that can be taken, in turn.

    ``estimates``: that of each look, fields (..., cells), from the seeds before it and no others. ``reached`` (...,
    cells, looks): whether those seeds are in. ``paper_delta`` (cells,). ``family``: how many cells Holm adjusts for.

    The intervals are repeated ones: at each look with the level that it may spend of 0.05, so that all of them together
    hold with 95%, and so the one at whichever look one stops (the sum over the looks again). The notion is Jennison and
    Turnbull's (1989), J. Royal Statistical Society B 51, 305-361, cited from the manual of R's lrstat (``getRCI``).
    """
    there = np.asarray(reached, np.bool_)
    shape, paper = there.shape[:-1], np.asarray(paper_delta, np.float64)
    look, p = np.full(shape, -1), np.ones(there.shape)
    nothing = np.full(shape, np.nan)
    standing, confidence = Estimate(nothing, nothing, nothing), np.full(shape, CONFIDENCE)
    total = adjusted = np.ones(shape)
    verdict: NDArray[np.str_] = np.full(shape, Verdict.UNDERPOWERED.value, dtype=f"U{max(map(len, Verdict))}")
    for index, spendable in enumerate(look_levels(looks, 1 - CONFIDENCE)):
        still_open = verdict == Verdict.UNDERPOWERED.value
        # While one open cell lacks a seed, no look is taken; it lacks that seed at every later look, too.
        taken = still_open & np.all(there[..., index] | ~still_open, axis=-1, keepdims=True)
        if not taken.any():
            break
        look = np.where(taken, index, look)
        standing = _where(taken, estimates[index], standing)
        confidence = np.where(taken, 1 - spendable, confidence)
        p[..., index] = np.where(taken, cell_p(estimates[index], paper), 1.0)
        total = sequential_p(p[..., : index + 1], looks)
        others = np.ones((*shape[:-1], family - shape[-1]))  # the family's cells that are not here: p = 1
        adjusted = holm(np.concatenate([total, others], axis=-1))[..., : shape[-1]]
        verdict = judge(standing, np.broadcast_to(paper, shape), adjusted, alpha=alpha, confidence=confidence)
    return Followed(look, total, adjusted, confidence, verdict)


def _where(chosen: NDArray[np.bool_], new: Estimate, old: Estimate) -> Estimate:
    return Estimate(
        np.where(chosen, new.value, old.value),
        np.where(chosen, new.standard_error, old.standard_error),
        np.where(chosen, new.df, old.df),
    )
