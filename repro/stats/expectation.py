"""What declared looks are expected to cost: a table's cells simulated from the first seed to the last look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repro.stats.estimates import Floats, paired
from repro.stats.power import GUESSED_RUN_STD
from repro.stats.sequential import follow
from repro.stats.spending import Looks
from repro.stats.verdict import Verdict

DRAWS = 1_000


@dataclass(frozen=True)
class Course:
    """Mean seeds of each cell, row by row, and of each row's cross-entropy; the mean share of cells with an answer."""

    cell_seeds: tuple[tuple[float, ...], ...]
    baseline_seeds: tuple[float, ...]
    decided: float

    @property
    def runs(self) -> float:
        """The expected number of runs of all arms."""
        return sum(map(sum, self.cell_seeds)) + sum(self.baseline_seeds)


def expected_course(
    paper_deltas: Sequence[Sequence[float]],
    looks: Looks,
    *,
    family: int,
    scale: float,
    run_std: float = GUESSED_RUN_STD,
    draws: int = DRAWS,
) -> Course:
    """The course of a table whose true deltas are ``scale`` times the printed ones (row by row), over many ``draws``.

    Runs are normal with ``run_std`` points over seeds, the arms of a row independent but for the cross-entropy that
    they share. The random numbers are the same at every call.
    """
    rng = np.random.default_rng(0)
    paper = np.array([delta for row in paper_deltas for delta in row])
    arms = [
        rng.normal(0, run_std, (draws, len(row), looks.seeds[-1])) - rng.normal(0, run_std, (draws, 1, looks.seeds[-1]))
        for row in paper_deltas
    ]
    differences = np.concatenate(arms, axis=1) + scale * paper[:, None]
    shape = differences.shape[:-1]
    found = follow(
        [
            paired(differences[..., :n].mean(-1), differences[..., :n].std(-1, ddof=1), np.full(shape, n))
            for n in looks.seeds
        ],
        np.ones((*shape, len(looks.seeds)), np.bool_),
        paper,
        looks,
        family=family,
    )
    stopped: Floats = np.array(looks.seeds, np.float64)[found.look]
    of_rows = np.split(stopped, np.cumsum([len(row) for row in paper_deltas])[:-1], axis=1)
    return Course(
        tuple(tuple(map(float, row.mean(axis=0))) for row in of_rows),
        tuple(float(row.max(axis=1).mean()) for row in of_rows),
        float((found.verdict != Verdict.UNDERPOWERED.value).mean()),
    )
