"""What is asked of a cell, and declared looks taken at it: from the arms of a family to the pairs and p to be judged.

A look at n seeds is one at seeds 0 to n - 1. A seed whose run diverged, in either arm, is named and left out, and no
further one stands in for it; a seed that merely has not run keeps the look waiting. So a look depends on records of
seeds below n and on nothing else: neither on later seeds that happen to be there, nor on the order in which runs ended.
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
    """One cell: the pairs that are looked at, and their p-value before the adjustment.

    Under declared ``looks``: ``look`` are the seeds of the one that it came to (None before the first), ``pairs`` those
    of these seeds, ``seeds_in`` how many of the first seeds are in; ``p`` and ``p_adjusted`` hold over all looks
    together, and ``confidence`` is that of a repeated interval. ``p_adjusted`` is None without looks.
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
        """The seeds of the look after the one that it came to, None without one."""
        return self.looks.after(self.look or 0) if self.looks else None


def ask(pairs: Pairs, paper_delta: float | None) -> Question:
    """The question on all pairs there are, as if their number had been fixed."""
    estimate = _estimate(pairs.differences)
    p = cell_p(estimate, np.nan if paper_delta is None else paper_delta)
    return Question(pairs, estimate, paper_delta, float(p))


def look_at(
    family: Mapping[CellKey, Question],
    counted: Mapping[CellKey, CellRuns],
    declared: Mapping[str, Declaration],
    alpha: float,
) -> dict[CellKey, Question]:
    """The questions of a family, those of cells under a declaration at the looks that can be taken."""
    found = dict(family)
    for declaration in declared.values():
        cells = {
            key: question
            for key, question in family.items()
            if "/".join(key) in declaration.cells and question.paper_delta is not None
        }
        if cells:
            seeds_in = {key: _seeds_in(counted[key], counted[*key[:2], BASELINE]) for key in cells}
            found |= _take_looks(cells, seeds_in, declaration.looks, len(family), alpha)
    return found


def _take_looks(
    cells: Mapping[CellKey, Question], seeds_in: Mapping[CellKey, int], looks: Looks, family: int, alpha: float
) -> dict[CellKey, Question]:
    """Take every look at cells declared together that can be taken."""
    found = follow(
        [_side_by_side([_estimate(one.pairs.before(n).differences) for one in cells.values()]) for n in looks.seeds],
        [[seeds_in[key] >= n for n in looks.seeds] for key in cells],
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
    """How many of the first seeds are in: run in both arms, or lost in one."""
    there, lost = set(ours.seeds) & set(baseline.seeds), {*ours.lost, *baseline.lost}
    return next(seed for seed in count() if seed not in there and seed not in lost)


def _estimate(differences: Sequence[float]) -> Estimate:
    n = len(differences)
    return paired(fmean(differences) if n else np.nan, np.std(differences, ddof=1) if n > 1 else np.nan, n)


def _side_by_side(estimates: Sequence[Estimate]) -> Estimate:
    """Scalar estimates as one of arrays (cells,)."""
    parts = zip(*((one.value, one.standard_error, one.df) for one in estimates), strict=True)
    return Estimate(*(np.array(part, np.float64) for part in parts))
