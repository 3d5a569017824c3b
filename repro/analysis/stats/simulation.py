"""What to expect from seeds before they are run: cells of a family simulated, with or without interim analyses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import ALPHA, THREE_ANSWERS, Printed, Rule, Verdict
from repro.analysis.stats.estimates import CONFIDENCE, Floats
from repro.analysis.stats.holm import holm
from repro.analysis.stats.power import GUESSED_RUN_STD
from repro.analysis.stats.row import Measured, measure
from repro.analysis.stats.sequential import follow

COURSE_DRAWS, VERDICT_DRAWS = 1_000, 4_000  # simulated tables
BLOCK_CELLS = 2**17  # simulated cells judged at a time, and
BLOCK_RUNS = 2**19  # simulated runs in memory at a time
Rows = Sequence[Sequence[float]]  # the paper's deltas, row by row


@dataclass(frozen=True)
class Course:
    """Mean seeds of each cell, row by row, and of each row's baseline; the mean share of cells with an answer."""

    cell_seeds: tuple[tuple[float, ...], ...]
    baseline_seeds: tuple[float, ...]
    decided: float

    @property
    def runs(self) -> float:
        """The expected number of runs of all arms."""
        return sum(map(sum, self.cell_seeds)) + sum(self.baseline_seeds)


def expected_course(
    paper_deltas: Rows,
    looks: Looks,
    *,
    others: Printed,
    scale: float,
    rule: Rule = THREE_ANSWERS,
    unit: ArrayLike = 0.1,
) -> Course:
    """The course of a table whose true deltas are ``scale`` times the printed ones (row by row).

    ``others`` are the family's other cells, and ``unit``, one or one of each cell, is what the paper rounds to. The
    random numbers are the same at every call.
    """
    printed, seeds = Printed.of(_in_line(paper_deltas), unit), np.array(looks.seeds, np.float64)
    firsts = np.cumsum([0, *map(len, paper_deltas)])[:-1]
    of_cells, of_rows, decided = np.zeros(len(printed.delta)), np.zeros(len(firsts)), 0.0
    for noise in blocks(paper_deltas, looks.seeds[-1], GUESSED_RUN_STD, COURSE_DRAWS):
        rows = with_effects(noise, paper_deltas, scale)
        measured = [measured_cells(rows, n, others_before=looks.seeds[0]) for n in looks.seeds]
        reached = np.ones((*measured[0].pooled.value.shape, len(seeds)), np.bool_)
        found = follow(measured, reached, printed, looks, others=others, rule=rule)
        stopped: Floats = seeds[found.look]
        of_cells += stopped.sum(axis=0)
        of_rows += np.maximum.reduceat(stopped, firsts, axis=1).sum(axis=0)
        decided += float((found.verdict != Verdict.UNDECIDED.value).sum())
    return Course(
        tuple(tuple(row.tolist()) for row in np.split(of_cells / COURSE_DRAWS, firsts[1:])),
        tuple((of_rows / COURSE_DRAWS).tolist()),
        decided / COURSE_DRAWS / len(printed.delta),
    )


def verdict_chances(paper_deltas: Rows, seeds: int, *, run_std: float, unit: ArrayLike = 0.1) -> tuple[Floats, Floats]:
    """The chances of two verdicts on each cell after a fixed number of seeds, (cells,) each.

    Of "reproduced" if every true delta is the printed one, and of "not reproduced" if every one is zero. The cells of
    ``paper_deltas`` are the whole family; ``unit`` as above.
    """
    printed = Printed.of(_in_line(paper_deltas), unit)
    cases = ((1.0, Verdict.REPRODUCED), (0.0, Verdict.NOT_REPRODUCED))
    counts = np.zeros((len(cases), len(printed.delta)))
    for noise in blocks(paper_deltas, seeds, run_std, VERDICT_DRAWS):
        for count, (scale, verdict) in zip(counts, cases, strict=True):
            verdicts, _ = judged(measured_cells(with_effects(noise, paper_deltas, scale), seeds), printed)
            count += (verdicts == verdict.value).sum(axis=0)
    reproduced, refuted = counts / VERDICT_DRAWS
    return reproduced, refuted


def judged(measured: Measured, printed: Printed, rule: Rule = THREE_ANSWERS) -> tuple[NDArray[np.str_], Floats]:
    """The verdict and the adjusted p-values of every cell, the cells given being the whole family."""
    p_adjusted = holm(rule.p(measured, printed))
    return rule.judge(measured, printed, p_adjusted, ALPHA, CONFIDENCE), p_adjusted


def blocks(paper_deltas: Rows, seeds: int, run_std: float, draws: int) -> Iterator[list[Floats]]:
    """The accuracies of each row if there is no effect, in points from their mean: (draws of this block, arms, seeds).

    Runs are independent and normal with ``run_std`` points over seeds. Each row has a stream of random numbers of its
    own, draw after draw, so that no number depends on the size of a block.
    """
    cells = sum(map(len, paper_deltas))
    size = max(1, min(BLOCK_RUNS // (seeds * (cells + len(paper_deltas))), BLOCK_CELLS // cells))
    streams = [np.random.default_rng([0, index]) for index in range(len(paper_deltas))]
    for start in range(0, draws, size):
        count, rows = min(size, draws - start), []
        for row, stream in zip(paper_deltas, streams, strict=True):
            rows.append(run_std * stream.standard_normal((count, len(row) + 1, seeds)))
        yield rows


def with_effects(noise: Sequence[Floats], paper_deltas: Rows, scale: float) -> list[Floats]:
    """Rows whose true deltas are ``scale`` times the paper's; the baseline comes first."""
    shifts = (scale * np.array([0.0, *row])[:, None] for row in paper_deltas)
    return [row + shift for row, shift in zip(noise, shifts, strict=True)]


def measured_cells(rows: Sequence[Floats], seeds: int, others_before: int | None = None) -> Measured:
    """Every cell from its first ``seeds``, fields (draws, cells); of a row's other arms those ``others_before``."""
    measured = []
    for row in rows:
        arms = list(range(1, row.shape[-2]))
        pair_first = [[0, *arms[index:], *arms[:index]] for index in range(len(arms))]
        at_a_time = max(1, BLOCK_RUNS // row.size)
        for start in range(0, len(arms), at_a_time):
            each = row[..., pair_first[start : start + at_a_time], :seeds]  # (draws, cells, arms, seeds)
            if others_before:
                each[..., 2:, others_before:] = np.nan
            measured.append(measure(each))
    return Measured.joined(measured)


def _in_line(rows: Rows) -> Floats:
    return np.array([delta for row in rows for delta in row], np.float64)
