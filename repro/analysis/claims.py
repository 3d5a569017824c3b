"""The claims of the supplement's text, each with its test on our runs and the answer in words.

A claim is about these networks, so it is tested on the mean over them (a contrast of the rows' paired differences,
rows independent, each with its own spread), or, if it says "every", on the worst of them: the largest of the rows'
p-values, which needs no adjustment (the intersection-union test: Berger 1982, Technometrics 24). p-values are two-sided
and 1 for the wrong sign, so that before any adjustment p < 0.05 and a 95% interval on the claimed side are the same;
Holm then adjusts them over the claims, and likewise those of the opposite. While networks of a claim lack runs, it is
not answered from the others, and no network counts of which a run ended at chance level.

Networks that differ in size differ in much else: an answer about size is one about these six.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, stdev

import numpy as np

from repro.analysis import claim_tests
from repro.analysis.assessment import Assessment
from repro.analysis.claim_tests import Compare, Differences, Evidence, Finding
from repro.analysis.runs import borrows
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
class Claim(Question):
    """A claim with its answer; what it rests on is in ``findings``, its p in words and number in ``words``.

    ``p`` is that of the test, ``p_adjusted`` by Holm over the claims. ``missing`` names the networks without three
    paired seeds; while there are any, the claim is not answered.
    """

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

    With a preregistration, only the seeds of the first interim analysis count: every cell has them, whatever was
    decided later, so that their number does not depend on the results. A table that may borrow runs keeps to the
    earliest first analysis of all.
    """
    by_id = {table.id: table for table in tables}
    first = {name: declaration.seeds[0] for name, declaration in assessment.looks.items()}

    def compare(table: str, column: str, against: str) -> Differences:
        if table not in by_id:
            return Differences()
        borrowing = borrows(by_id[table], assessment.looks)
        before = min(first.values(), default=None) if borrowing else first.get(table)
        rows = []
        for row in by_id[table].rows:
            pairs = assessment.pairs(table, row.id, column, against)
            counted = pairs if before is None else pairs.before(before)
            arms = (assessment.cells[table, row.id, arm].runs for arm in (column, against))
            dead = {record.seed for runs in arms for record in runs.at_chance}
            rows.append((row, None if dead & set(counted.seeds) else _estimate(counted.differences)))
        return Differences(tuple(rows))

    evidence = [question.evidence(compare) for question in QUESTIONS]
    adjusted, opposite = holm([found.p for found in evidence]), holm([found.p_opposite for found in evidence])
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
        **vars(question),
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
        return Answer.UNDECIDED, f"fewer than three paired seeds above chance level of {', '.join(found.missing)}"
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
