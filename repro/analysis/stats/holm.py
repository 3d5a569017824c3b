"""p-values adjusted for all cells of a family."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from repro.analysis.stats.estimates import Floats


def holm(p: ArrayLike) -> Floats:
    """Adjusted p-values of a family along the last axis, shape as ``p``.

    Holm (1979), Scandinavian Journal of Statistics 6: the smallest times m, the next times m - 1, and so on, none below
    the one before it, none above 1. Rejecting where the result is under alpha keeps the chance of any false rejection
    at alpha or less, whatever the dependence between cells (the columns of a row share the runs of their baseline).
    A cell that is NaN is not of the family, and stays NaN.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p, axis=-1, kind="stable")  # NaN last
    left = np.isfinite(p).sum(axis=-1, keepdims=True) - np.arange(p.shape[-1])
    stepped = np.take_along_axis(p, order, axis=-1) * left
    adjusted = np.empty_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(stepped, axis=-1), 1.0), axis=-1)
    return adjusted
