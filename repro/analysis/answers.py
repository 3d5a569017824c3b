"""The three answers to a cell, and what qualifies a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from repro.analysis.interim import Question
from repro.analysis.runs import CellRuns
from repro.analysis.stats.decision_rule import THREE_ANSWERS, Asked, Verdict, prediction_interval
from repro.analysis.stats.estimates import Floats
from repro.wording import counted


@dataclass(frozen=True)
class Shown:
    """A test's p, that after Holm over the family, and whether it ``holds``: whether the latter is below alpha."""

    p: float
    p_adjusted: float
    holds: bool


@dataclass(frozen=True)
class Compatible:
    """Whether the paper's difference ``holds`` as one of two single runs like ours: inside ``low`` to ``high``.

    ``p`` is that of such a difference, ``excluded`` whether even ``p_adjusted``, by Holm over the family, rejects it.
    """

    low: float
    high: float
    p: float
    p_adjusted: float
    holds: bool
    excluded: bool


@dataclass(frozen=True)
class Answers:
    """What is asked of a cell that the paper prints; no ``effect`` and ``opposite`` if it prints no difference."""

    effect: Shown | None
    opposite: Shown | None
    compatible: Compatible
    small: Shown


def answers_of(question: Question, p_adjusted: Floats, alpha: float) -> Answers | None:
    """The answers to a cell that has a test; None under the rule of older preregistrations, which asks others."""
    if question.rule is not THREE_ANSWERS or question.paper_delta is None or not len(question.pairs.seeds):
        return None

    def shown(test: Asked) -> Shown:
        return Shown(float(question.p[test]), float(p_adjusted[test]), bool(p_adjusted[test] < alpha))

    low, high = map(float, prediction_interval(question.measured, question.printed))
    if math.isnan(low):  # too few seeds for a spread
        return None
    has_direction = not bool(question.printed.is_none)
    p, by_holm = float(question.p[Asked.INCOMPATIBLE]), float(p_adjusted[Asked.INCOMPATIBLE])
    return Answers(
        effect=shown(Asked.EFFECT) if has_direction else None,
        opposite=shown(Asked.OPPOSITE) if has_direction else None,
        compatible=Compatible(low, high, p, by_holm, low <= question.paper_delta <= high, by_holm < alpha),
        small=shown(Asked.SMALL),
    )


def qualification(
    verdict: Verdict | None, ours: CellRuns, baseline: CellRuns, baseline_name: str, look: int | None
) -> str:
    """What a verdict says of its runs that ended badly: ``5 of 10 runs diverged``; empty if there is none.

    For a verdict of an interim analysis, only the runs of its first ``look`` seeds count.
    """
    if verdict is None:
        return ""
    before = None if verdict is Verdict.CHANCE else look
    parts: list[str] = []
    for whose, runs in (("", ours), (f"{baseline_name} ", baseline)):
        diverged = _before(before, (record.seed for record in runs.diverged))
        total = _before(before, runs.seeds) + diverged
        if diverged:
            parts.append(_of(diverged, total, f"{whose}run", "diverged"))
        if runs.at_chance and verdict is Verdict.CHANCE:
            parts.append(_of(len(runs.at_chance), total, f"{whose}run", "no better than guessing"))
    return " and ".join(parts)


def _before(limit: int | None, seeds: Iterable[int]) -> int:
    return sum(limit is None or seed < limit for seed in seeds)


def _of(count: int, total: int, noun: str, what: str) -> str:
    return f"{count} of {counted(total, noun)} {what}"
