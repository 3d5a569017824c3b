"""What to expect from seeds before they are run: cells of a family simulated, with or without interim analyses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import Verdict, cell_p, judge
from repro.analysis.stats.estimates import Floats, paired
from repro.analysis.stats.holm import holm
from repro.analysis.stats.power import GUESSED_RUN_STD
from repro.analysis.stats.sequential import follow

COURSE_DRAWS, VERDICT_DRAWS = 1_000, 4_000  # simulated tables
BLOCK_RUNS = 2**19  # simulated runs in memory at a time


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
    paper, seeds = _in_line(paper_deltas), np.array(looks.seeds, np.float64)
    firsts = np.cumsum([0, *map(len, paper_deltas)])[:-1]
    of_cells, of_rows, decided = np.zeros(len(paper)), np.zeros(len(firsts)), 0.0
    for noise in _blocks(paper_deltas, looks.seeds[-1], GUESSED_RUN_STD, COURSE_DRAWS):
        parts = [noise[..., :n] for n in looks.seeds]
        estimates = [paired(part.mean(-1) + scale * paper, part.std(-1, ddof=1), part.shape[-1]) for part in parts]
        found = follow(estimates, np.ones((*noise.shape[:-1], len(seeds)), np.bool_), paper, looks, family=family)
        stopped: Floats = seeds[found.look]
        of_cells += stopped.sum(axis=0)
        of_rows += np.maximum.reduceat(stopped, firsts, axis=1).sum(axis=0)
        decided += float((found.verdict != Verdict.UNDERPOWERED.value).sum())
    return Course(
        tuple(tuple(row.tolist()) for row in np.split(of_cells / COURSE_DRAWS, firsts[1:])),
        tuple((of_rows / COURSE_DRAWS).tolist()),
        decided / COURSE_DRAWS / len(paper),
    )


def verdict_chances(paper_deltas: Sequence[Sequence[float]], seeds: int, *, run_std: float) -> tuple[Floats, Floats]:
    """The chances of two verdicts on each cell after a fixed number of seeds, (cells,) each.

    Of "reproduced" if every true delta is the printed one, and of "not reproduced" if every one is zero. The cells of
    ``paper_deltas`` are the whole family.
    """
    paper = _in_line(paper_deltas)
    cases = ((paper, Verdict.REPRODUCED), (0 * paper, Verdict.NOT_REPRODUCED))
    counts = np.zeros((len(cases), len(paper)))
    for noise in _blocks(paper_deltas, seeds, run_std, VERDICT_DRAWS):
        mean, std = noise.mean(-1), noise.std(-1, ddof=1)
        for count, (truth, verdict) in zip(counts, cases, strict=True):
            estimate = paired(mean + truth, std, seeds)
            judged = judge(estimate, np.broadcast_to(paper, estimate.value.shape), holm(cell_p(estimate, paper)))
            count += (judged == verdict.value).sum(axis=0)
    reproduced, refuted = counts / VERDICT_DRAWS
    return reproduced, refuted


def _in_line(rows: Sequence[Sequence[float]]) -> Floats:
    return np.array([delta for row in rows for delta in row], np.float64)


def _blocks(rows: Sequence[Sequence[float]], seeds: int, run_std: float, draws: int) -> Iterator[Floats]:
    """Differences from cross-entropy if there is no effect, in points: (draws of this block, cells, seeds).

    Runs are normal with ``run_std`` points over seeds, the arms of a row independent but for the cross-entropy that
    they share. In the stream of random numbers all draws of a row's losses come first, then those of its cross-entropy,
    then the next row: a first pass notes where each begins, so that no number depends on the size of a block.
    """
    size = max(1, BLOCK_RUNS // (seeds * (sum(map(len, rows)) + len(rows))))
    sizes = [min(size, draws - start) for start in range(0, draws, size)]
    stream = np.random.default_rng(0)
    arms = []
    for width in (width for row in rows for width in (len(row), 1)):
        arms.append((width, copy.deepcopy(stream)))
        for count in sizes:
            stream.standard_normal((count, width, seeds))
    for count in sizes:
        runs = iter([run_std * own.standard_normal((count, width, seeds)) for width, own in arms])
        yield np.concatenate([losses - baseline for losses, baseline in zip(runs, runs, strict=True)], axis=1)
