"""Interim analyses: paired differences and p-values of each cell at preregistered sample sizes.

An analysis at n seeds uses seeds 0 to n - 1. A seed that diverged, in the cell or its baseline, is left out, and no
further seed replaces it; a seed that has not run yet delays the analysis. So an analysis depends on the records of
seeds below n and on nothing else: neither on later seeds, nor on the order in which runs ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from statistics import fmean

import numpy as np

from repro.analysis.preregistration import Declaration
from repro.analysis.runs import CellKey, CellRuns, Pairs
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import cell_p
from repro.analysis.stats.estimates import CONFIDENCE, Estimate, paired
from repro.analysis.stats.sequential import follow
from repro.experiment.schema import BASELINE


@dataclass(frozen=True)
class Question:
    """One cell: the pairs that are analysed, and their p-value before the adjustment.

    With preregistered ``looks``: ``look`` are the seeds of the latest analysis (None before the first), ``pairs`` those
    of these seeds, ``seeds_in`` how many of the first seeds are complete; ``p`` and ``p_adjusted`` hold over all
    analyses together, and ``confidence`` is that of a repeated interval. ``p_adjusted`` is None without ``looks``.
    """

    pairs: Pairs
    estimate: Estimate
    paper_delta: float | None
    p: float
    p_adjusted: float | None = None
    confidence: float = CONFIDENCE
    looks: Looks | None = None
    look: int | None = None
    seeds_in: int | None = None

    @property
    def next_look(self) -> int | None:
        """The seeds of the next analysis, None without one."""
        return self.looks.after(self.look or 0) if self.looks else None


def ask(pairs: Pairs, paper_delta: float | None) -> Question:
    """The question on all pairs, as if their number had been fixed."""
    estimate = _estimate(pairs.differences)
    p = cell_p(estimate, np.nan if paper_delta is None else paper_delta)
    return Question(pairs, estimate, paper_delta, float(p))


def look_at(
    family: Mapping[CellKey, Question],
    counted: Mapping[CellKey, CellRuns],
    declared: Mapping[str, Declaration],
    alpha: float,
) -> dict[CellKey, Question]:
    """The questions of a family; those of preregistered cells at the analyses that are possible by now."""
    found = dict(family)
    for declaration in declared.values():
        printed = {key: question for key, question in family.items() if question.paper_delta is not None}
        cells = {key: question for key, question in printed.items() if "/".join(key) in declaration.cells}
        if cells:
            seeds_in = {key: _seeds_in(counted[key], counted[*key[:2], BASELINE]) for key in cells}
            found |= _take_looks(cells, seeds_in, declaration.looks, len(family), alpha)
    return found


def _take_looks(
    cells: Mapping[CellKey, Question], seeds_in: Mapping[CellKey, int], looks: Looks, family: int, alpha: float
) -> dict[CellKey, Question]:
    """Do every analysis of cells preregistered together that is possible by now."""
    estimates = []
    for n in looks.seeds:
        at_n = [_estimate(question.pairs.before(n).differences) for question in cells.values()]
        parts = np.array([(cell.value, cell.standard_error, cell.df) for cell in at_n], np.float64)
        estimates.append(Estimate(*parts.T))  # with fields (cells,)
    possible = []
    for key in cells:
        possible.append([seeds_in[key] >= n for n in looks.seeds])
    found = follow(
        estimates,
        possible,
        [question.paper_delta or 0.0 for question in cells.values()],
        looks,
        family=family,
        alpha=alpha,
    )
    taken = {}
    for index, (key, question) in enumerate(cells.items()):
        look = looks.seeds[found.look[index]] if found.look[index] >= 0 else None
        taken[key] = replace(
            ask(question.pairs.before(look or 0), question.paper_delta),
            p=float(found.p[index]),
            p_adjusted=float(found.p_adjusted[index]),
            confidence=float(found.confidence[index]),
            looks=looks,
            look=look,
            seeds_in=seeds_in[key],
        )
    return taken


def _seeds_in(ours: CellRuns, baseline: CellRuns) -> int:
    """How many of the first seeds are complete: run in both cells, or lost in one."""
    there, lost = set(ours.seeds) & set(baseline.seeds), {*ours.lost, *baseline.lost}
    return next(seed for seed in count() if seed not in there and seed not in lost)


def _estimate(differences: Sequence[float]) -> Estimate:
    n = len(differences)
    return paired(fmean(differences) if n else np.nan, np.std(differences, ddof=1) if n > 1 else np.nan, n)
