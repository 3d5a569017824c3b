"""A loss minus its baseline, with the spread of the runs estimated from all arms of the row.

A row is one network under several losses (its arms), each trained with the same seeds. The model is additive: the
accuracy of an arm with a seed is the arm's mean, plus what the seed does to every arm (seed is a block), plus noise of
one standard deviation for all arms: the two-way layout without replication, Scheffé (1959), The Analysis of Variance,
section 4.2. With A arms and n seeds the noise has (A - 1)(n - 1) degrees of freedom, and with two arms this is the
paired t test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.analysis.stats.estimates import LEAST_STD, MIN_SEEDS, Estimate, Floats, paired


@dataclass(frozen=True)
class Measured:
    """A loss minus its baseline, three times, fields of one shape.

    ``pooled``: the mean difference, with the spread of all arms of the row; ``paired``: with that of its own
    differences alone. ``single``: where the difference of two further runs of different seeds will lie, as the paper's
    is one; its standard error has the spread over seeds of both runs, and that of our mean.
    """

    pooled: Estimate
    paired: Estimate
    single: Estimate

    @classmethod
    def stack(cls, cells: Sequence[Measured]) -> Measured:
        """Several cells in one, along a new last axis."""
        parts = zip(*((cell.pooled, cell.paired, cell.single) for cell in cells), strict=True)
        return cls(*map(Estimate.stack, parts))

    @classmethod
    def joined(cls, parts: Sequence[Measured]) -> Measured:
        """The cells of several in one, along their last axis."""
        kinds = zip(*((part.pooled, part.paired, part.single) for part in parts), strict=True)
        return cls(*map(Estimate.joined, kinds))

    def where(self, chosen: NDArray[np.bool_], other: Measured) -> Measured:
        """This where ``chosen``, ``other`` elsewhere."""
        return Measured(
            self.pooled.where(chosen, other.pooled),
            self.paired.where(chosen, other.paired),
            self.single.where(chosen, other.single),
        )


def measure(row: ArrayLike) -> Measured:
    """Arm 1 minus arm 0 of ``row``: accuracies in percent (..., arms, seeds), NaN where there is no run.

    Arms 0 and 1 have every seed, so that least squares makes the estimate the mean of their paired differences whatever
    the others lack; these add to the spread what they have. The same runs are missing in all leading dimensions.
    """
    row = np.asarray(row, np.float64)
    leading = tuple(range(row.ndim - 2))
    row = row[..., np.isfinite(row).any(axis=(*leading, -1)), :] if row.shape[-1] else row[..., :2, :]
    there = np.isfinite(row).all(axis=leading)
    n = row.shape[-1]
    value = np.zeros(row.shape[:-2]) * np.nan if n == 0 else (row[..., 1, :] - row[..., 0, :]).mean(-1)
    if n < MIN_SEEDS:
        unknown = Estimate(value, np.full(value.shape, np.nan), np.full(value.shape, float(max(n - 1, 0))))
        return Measured(unknown, unknown, unknown)
    differences = row[..., 1, :] - row[..., 0, :]
    noise, blocks, noise_df, block_df = _squares(row, there)
    std = np.sqrt(2 * noise / noise_df)
    error = np.where(std > LEAST_STD, std / np.sqrt(n), np.nan)
    within, within_df = noise + blocks, noise_df + block_df
    # Degrees of freedom of a sum of two mean squares: Satterthwaite (1946), Biometrics Bulletin 2, eq. 17.
    single_df = within**2 / np.maximum(noise**2 / noise_df + blocks**2 / block_df, 1e-300)
    return Measured(
        Estimate(value, error, np.full(value.shape, float(noise_df))),
        paired(value, differences.std(-1, ddof=1), np.full(value.shape, n)),
        Estimate(value, np.sqrt(2 * within / within_df + error**2), single_df),
    )


def _squares(row: Floats, there: NDArray[np.bool_]) -> tuple[Floats, Floats, int, int]:
    """Sums of squares of the noise and of the seeds (adjusted for the arms), and the degrees of freedom of both.

    Seeds are eliminated, then the arms solved for: the reduced normal equations of a block design, Searle (1987),
    Linear Models for Unbalanced Data, chapter 4.
    """
    runs_of_seed, runs_of_arm = there.sum(axis=0), there.sum(axis=1)
    filled = np.where(there, row, 0.0)
    in_seed = np.where(there, filled - filled.sum(-2, keepdims=True) / runs_of_seed, 0.0)
    shared = there / runs_of_seed
    design = np.diag(runs_of_arm.astype(np.float64)) - shared @ there.T
    totals = in_seed.sum(-1)
    explained = np.einsum("...a,ab,...b->...", totals, np.linalg.pinv(design, hermitian=True), totals)
    noise = np.maximum((in_seed**2).sum((-2, -1)) - explained, 0.0)
    in_arm = np.where(there, filled - filled.sum(-1, keepdims=True) / runs_of_arm[:, None], 0.0)
    blocks = np.maximum((in_arm**2).sum((-2, -1)) - noise, 0.0)
    runs, arms, seeds = int(there.sum()), len(there), there.shape[1]
    return noise, blocks, runs - seeds - (arms - 1), seeds - 1
