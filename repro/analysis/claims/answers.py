"""The claims, as questions put to an assessment, and their answers in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev

import numpy as np

from repro.analysis.assessment import Assessment
from repro.analysis.claims import claim_tests
from repro.analysis.claims.claim_tests import Compare, Differences, Evidence, Finding
from repro.analysis.stats.decision_rule import MARGIN
from repro.analysis.stats.estimates import MIN_SEEDS, Estimate, paired
from repro.analysis.stats.holm import holm
from repro.experiment.schema import Table


class Answer(StrEnum):
    """What our runs say of a claim."""

    SUPPORTED = "supported"
    PARTLY = "partly supported"
    CONTRADICTED = "contradicted"
    UNDECIDED = "undecided"
    NOT_RUN = "not run"


@dataclass(frozen=True)
class Question:
    """A claim before there are runs: what is said and where, and how it is tested."""

    id: str
    statement: str
    source: str
    test: str
    evidence: Callable[[Compare], Evidence]


@dataclass(frozen=True)
class Claim:
    """A claim with its answer; what it rests on is in ``findings``, its p in words and number in ``words``.

    ``p`` is that of the test, ``p_adjusted`` by Holm over the claims. ``missing`` names the networks without three
    paired seeds; while there are any, the claim is not answered.
    """

    id: str
    statement: str
    source: str
    test: str
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    p: float
    p_adjusted: float
    answer: Answer
    words: str


_SECTION_1 = "supplement, section 1 and Table 1"
_SECTION_2 = "supplement, section 2 and Table 2"

QUESTIONS = (
    Question(
        "compact_gain",
        "Up to 11M parameters the bias loss gains accuracy, by about one point.",
        _SECTION_1,
        "Mean delta over the networks of Table 1 up to 11M parameters, above 0.",
        claim_tests.compact_gain,
    ),
    Question(
        "large_loss",
        "From 19M parameters on the bias loss loses accuracy.",
        _SECTION_1,
        "Mean delta over the networks of Table 1 from 19M parameters on, below 0.",
        claim_tests.large_loss,
    ),
    Question(
        "crossing",
        "The sign of the gain changes between 11M and 19M parameters.",
        _SECTION_1,
        "Every network of Table 1 up to 11M parameters gains and every one from 19M on loses (largest p of the six).",
        claim_tests.crossing,
    ),
    Question(
        "gain_against_size",
        "The gain falls as the number of parameters grows.",
        _SECTION_1,
        "Slope of the delta over the logarithm of the printed parameters in Table 1, below 0.",
        claim_tests.slope,
    ),
    Question(
        "inverse_below_ce",
        "Weighting up what has little variance (the inverse bias loss) is worse than cross-entropy for every model.",
        _SECTION_2,
        "Every network of Table 2 is below cross-entropy (largest p of the five).",
        claim_tests.inverse_below_ce,
    ),
    Question(
        "mean_between",
        "The mean in place of the variance gains too, but significantly less.",
        _SECTION_2,
        "Mean over the networks of Table 2: mean bias loss above cross-entropy, and bias loss above mean bias loss.",
        claim_tests.mean_between,
    ),
    Question(
        "product_adds_nothing",
        "Weighting by mean times variance gains nothing over the variance alone.",
        "supplement, section 2, last paragraph (no numbers printed)",
        f"Mean gain of the product over the bias loss, networks of Table 2, below {MARGIN} points (one-sided).",
        claim_tests.product_adds_nothing,
    ),
)


def assess_claims(tables: Sequence[Table], assessment: Assessment) -> tuple[Claim, ...]:
    """Every claim of the text, answered from ``assessment`` of ``tables`` (table1, table2 and product).

    Where looks were declared, only the seeds before the first look count: every cell has them, whatever was decided
    later, so that their number does not depend on what they show. A table that may borrow runs keeps to the earliest
    first look of all.
    """
    by_id = {table.id: table for table in tables}
    first = {name: declaration.seeds[0] for name, declaration in assessment.looks.items()}

    def compare(table: str, column: str, against: str) -> Differences:
        rows = by_id[table].rows if table in by_id else ()
        borrows = bool(rows) and by_id[table].kind != "paper"
        before = min(first.values(), default=None) if borrows else first.get(table)
        pairs = (assessment.pairs(table, row.id, column, against) for row in rows)
        counted = (both if before is None else both.before(before) for both in pairs)
        return Differences(tuple((row, _estimate(both.differences)) for row, both in zip(rows, counted, strict=True)))

    evidence = [question.evidence(compare) for question in QUESTIONS]
    adjusted, opposite = (holm(p) for p in zip(*((found.p, found.p_opposite) for found in evidence), strict=True))
    return tuple(
        _claim(question, found, float(p), float(p_opposite), assessment.alpha)
        for question, found, p, p_opposite in zip(QUESTIONS, evidence, adjusted, opposite, strict=True)
    )


def _claim(question: Question, found: Evidence, p_adjusted: float, p_opposite: float, alpha: float) -> Claim:
    answer, why = _answer(found, significant=p_adjusted < alpha, opposite=p_opposite < alpha)
    words = f"{answer.value.capitalize()}{': ' if why else ''}{why}."
    if found.summary:
        of, p = ("the opposite", p_opposite) if answer is Answer.CONTRADICTED else ("the claim", p_adjusted)
        words += f" {found.summary}. For {of}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'} after Holm."
    return Claim(
        id=question.id,
        statement=question.statement,
        source=question.source,
        test=question.test,
        findings=found.findings,
        missing=found.missing,
        p=found.p,
        p_adjusted=p_adjusted,
        answer=answer,
        words=words,
    )


def _answer(found: Evidence, *, significant: bool, opposite: bool) -> tuple[Answer, str]:
    if not found.findings:
        return Answer.NOT_RUN, ""
    if found.missing:
        return Answer.UNDECIDED, f"no three paired seeds yet of {', '.join(found.missing)}"
    if significant:
        return (Answer.PARTLY, found.reservation) if found.reservation else (Answer.SUPPORTED, "")
    if opposite:
        return Answer.CONTRADICTED, "our runs show the opposite"
    return (
        (Answer.PARTLY, found.partial) if found.partial else (Answer.UNDECIDED, "neither it nor its opposite is shown")
    )


def _estimate(differences: Sequence[float]) -> Estimate | None:
    n = len(differences)
    estimate = paired(fmean(differences), stdev(differences), n) if n >= MIN_SEEDS else None
    return None if estimate is None or np.isnan(estimate.standard_error) else estimate
