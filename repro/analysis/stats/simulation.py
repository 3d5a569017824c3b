"""What to expect from seeds before they are run: cells of a family simulated, with or without interim analyses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import Verdict, cell_p, judge
from repro.analysis.stats.estimates import Estimate, Floats, paired
from repro.analysis.stats.holm import holm
from repro.analysis.stats.power import GUESSED_RUN_STD
from repro.analysis.stats.sequential import follow

COURSE_DRAWS, VERDICT_DRAWS = 1_000, 4_000  # simulated tables


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


def expected_course(paper_deltas: Sequence[Sequence[float]], looks: Looks, *, family: int, scale: float) -> Course:
    """The course of a table whose true deltas are ``scale`` times the printed ones (row by row).

    ``family``: how many cells Holm adjusts for. The random numbers are the same at every call.
    """
    paper = _in_line(paper_deltas)
    differences = _simulated(paper_deltas, looks.seeds[-1], scale, GUESSED_RUN_STD, COURSE_DRAWS)
    found = follow(
        [_summary(differences[..., :n]) for n in looks.seeds],
        np.ones((*differences.shape[:-1], len(looks.seeds)), np.bool_),
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


def verdict_shares(
    paper_deltas: Sequence[Sequence[float]], seeds: int, *, scale: float, run_std: float
) -> dict[Verdict, Floats]:
    """How often each cell ends with each verdict after a fixed number of seeds: (cells,).

    The cells of ``paper_deltas`` are the whole family; their true deltas are ``scale`` times these.
    """
    paper = _in_line(paper_deltas)
    estimate = _summary(_simulated(paper_deltas, seeds, scale, run_std, VERDICT_DRAWS))
    verdicts = judge(estimate, np.broadcast_to(paper, estimate.value.shape), holm(cell_p(estimate, paper)))
    return {verdict: np.mean(verdicts == verdict.value, axis=0) for verdict in Verdict}


def _in_line(rows: Sequence[Sequence[float]]) -> Floats:
    return np.array([delta for row in rows for delta in row], np.float64)


def _simulated(paper_deltas: Sequence[Sequence[float]], seeds: int, scale: float, run_std: float, draws: int) -> Floats:
    """Differences from cross-entropy (draws, cells, seeds), in points.

    Runs are normal with ``run_std`` points over seeds, the arms of a row independent but for the cross-entropy that
    they share.
    """
    rng = np.random.default_rng(0)
    rows = []
    for row in paper_deltas:
        losses = rng.normal(0, run_std, (draws, len(row), seeds))
        rows.append(losses - rng.normal(0, run_std, (draws, 1, seeds)))
    simulated: Floats = np.concatenate(rows, axis=1) + scale * _in_line(paper_deltas)[:, None]
    return simulated


def _summary(differences: Floats) -> Estimate:
    """The estimate of each cell from its differences (..., seeds)."""
    n = differences.shape[-1]
    return paired(differences.mean(-1), differences.std(-1, ddof=1), np.full(differences.shape[:-1], n))
