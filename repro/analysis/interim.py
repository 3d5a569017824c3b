"""Interim analyses: paired differences and p-values of each cell at preregistered sample sizes.

An analysis at n seeds uses seeds 0 to n - 1. A seed that diverged, in the cell or its baseline, is left out, and no
further seed replaces it; a seed that has not run yet delays the analysis, unless the cell gets no more
because a run of it ended at chance level. So an answer depends on the records of seeds below n and on nothing else:
neither on later seeds, nor on the order in which runs ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from repro.analysis.arms import Arms, dead_seeds, measure_arms, pair_arms
from repro.analysis.pairs import Pairs
from repro.analysis.preregistration import Declaration
from repro.analysis.runs import CellKey, CellRuns
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import THREE_ANSWERS, Printed, Rule, Verdict, cell_p
from repro.analysis.stats.estimates import CONFIDENCE, Floats
from repro.analysis.stats.half_delta_rule import HALF_DELTA
from repro.analysis.stats.row import Measured
from repro.analysis.stats.sequential import follow


@dataclass(frozen=True)
class Question:
    """One cell: the pairs that are analysed, and the p-values of its tests before Holm (NaN: not asked).

    ``against`` is the column that it is compared with, the baseline of its table.
    With preregistered ``looks``: ``look`` are the seeds of the latest analysis (None before the first), ``pairs`` those
    of these seeds, ``seeds_in`` how many of the first seeds are complete; ``p``, ``p_adjusted`` and ``verdict`` hold
    over all analyses together, and ``confidence`` is that of a repeated interval. ``p_adjusted`` and ``verdict`` are
    None without ``looks``; a cell without a printed delta is not looked at.
    """

    arms: Arms
    column: str
    against: str
    pairs: Pairs
    measured: Measured
    printed: Printed
    p: Floats
    rule: Rule = THREE_ANSWERS
    p_adjusted: Floats | None = None
    verdict: Verdict | None = None
    confidence: float = CONFIDENCE
    looks: Looks | None = None
    look: int | None = None
    seeds_in: int | None = None

    @property
    def paper_delta(self) -> float | None:
        """The paper's difference in points, None if it prints none that can be compared."""
        return None if np.isnan(self.printed.delta) else float(self.printed.delta)

    @property
    def next_look(self) -> int | None:
        """The seeds of the next analysis, None without one."""
        return self.looks.after(self.look or 0) if self.looks else None


def ask(arms: Arms, column: str, against: str, printed: Printed) -> Question:
    """The question on all pairs, as if their number had been fixed."""
    pairs, measured = pair_arms(arms, column, against), measure_arms(arms, column, against)
    return Question(arms, column, against, pairs, measured, printed, cell_p(measured, printed))


def look_at(
    family: Mapping[CellKey, Question], declared: Mapping[str, Declaration], alpha: float
) -> dict[CellKey, Question]:
    """The questions of a family; those of preregistered cells at the analyses that are possible by now."""
    found = dict(family)
    for declaration in declared.values():
        cells = {key: family[key] for key in family if "/".join(key) in declaration.cells}
        cells = {key: question for key, question in cells.items() if question.paper_delta is not None}
        others = _printed_of([question for key, question in family.items() if key not in cells])
        if cells:
            found |= _take_looks(cells, declaration, others, alpha)
    return found


def _take_looks(
    cells: Mapping[CellKey, Question], declaration: Declaration, others: Printed, alpha: float
) -> dict[CellKey, Question]:
    """Do every analysis of cells preregistered together that is possible by now.

    A column that is not preregistered, since nothing is printed of it, adds nothing to the spread: nobody waits for its
    runs, so whoever adds them later could choose among verdicts.
    """
    looks, rule = declaration.looks, HALF_DELTA if declaration.rule == "half_delta" else THREE_ANSWERS
    first = looks.seeds[0]
    seeds_in = {key: seeds_in_both(cell.arms[cell.column], cell.arms[cell.against]) for key, cell in cells.items()}
    arms = {key: _declared_arms(key, cell, cells) for key, cell in cells.items()}
    measured, possible = [], []
    for n in looks.seeds:
        of_cells = [measure_arms(arms[key], cell.column, cell.against, n, first) for key, cell in cells.items()]
        measured.append(Measured.stack(of_cells))
    for key in cells:
        possible.append([seeds_in[key] >= n for n in looks.seeds])
    # Nothing is concluded from a cell with a run at chance level, and no more of it is trained.
    ended = [bool(dead_seeds([cell.arms[cell.column], cell.arms[cell.against]])) for cell in cells.values()]
    printed = _printed_of(list(cells.values()))
    found = follow(measured, possible, printed, looks, ended=ended, others=others, rule=rule, alpha=alpha)
    taken = {}
    for index, (key, question) in enumerate(cells.items()):
        look = looks.seeds[found.look[index]] if found.look[index] >= 0 else None
        taken[key] = replace(
            question,
            arms=arms[key],
            pairs=question.pairs.before(look or 0),
            measured=measure_arms(arms[key], question.column, question.against, look or 0, first),
            p=found.p[:, index],
            p_adjusted=found.p_adjusted[:, index],
            verdict=Verdict(found.verdict[index]),
            rule=rule,
            confidence=float(found.confidence[index]),
            looks=looks,
            look=look,
            seeds_in=seeds_in[key],
        )
    return taken


def _declared_arms(key: CellKey, cell: Question, declared: Mapping[CellKey, Question]) -> Arms:
    """The arms of a cell's row that are preregistered, and the one that it is compared with."""
    table, row, _column = key
    return {name: runs for name, runs in cell.arms.items() if name == cell.against or (table, row, name) in declared}


def _printed_of(questions: list[Question]) -> Printed:
    printed = [(question.printed.delta, question.printed.unit) for question in questions]
    return Printed(*np.array(printed, np.float64).reshape(-1, 2).T)


def seeds_in_both(ours: CellRuns, baseline: CellRuns) -> int:
    """How many of the first seeds are complete: run in both cells, or lost in one."""
    there, lost = set(ours.seeds) & set(baseline.seeds), {*ours.lost, *baseline.lost}
    return next(seed for seed in count() if seed not in there and seed not in lost)
