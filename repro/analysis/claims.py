"""The claims of the supplement's text, each with its test on our runs and the answer in words.

A claim is about these networks, so it is tested on the mean over them (a contrast of the rows' differences, rows
independent, each with its own spread), or, if it says "every", on the worst of them: the largest of the rows' p-values,
which needs no adjustment (the intersection-union test: Berger 1982, Technometrics 24). A mean stands for its rows only
if they do not differ: Cochran's Q comes first, and weakens the answer (after Holm over what weakens answers). Each
claim has parts, all of which have to be shown; Holm adjusts their one-sided p-values over the parts of all claims, so
that an answer "in part" is inside the adjustment too. What contradicts a claim (mostly: an effect smaller than what
matters, or the opposite) is adjusted within the claim and over the claims. While networks of a claim lack runs, it is
not answered from the others, and no network counts of which a run ended at chance level.

Networks that differ in size differ in much else: an answer about size is one about these six.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from repro.analysis import claim_tests
from repro.analysis.arms import Arms, dead_seeds, measure_arms, pair_arms
from repro.analysis.assessment import Assessment
from repro.analysis.claim_evidence import CORRELATION, Compare, Differences, Evidence, Finding, Tested
from repro.analysis.interim import seeds_in_both
from repro.analysis.runs import CellRuns, borrows
from repro.analysis.stats.decision_rule import ALPHA, SMALLEST_EFFECT
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
    """A claim before there are runs: what is said and where, and how it is tested, part by part."""

    id: str
    statement: str
    source: str
    test: str
    evidence: Callable[[Compare], Evidence]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Claim(Question):
    """A claim with its answer; what it rests on is in ``findings``, its p in words and number in ``words``.

    ``p`` are those of its parts, ``p_adjusted`` by Holm over the parts of all claims. ``missing`` names the networks
    without three paired seeds or, with a preregistration, all of its first interim analysis; while there are any, the
    claim is not answered.
    """

    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    p: tuple[float, ...]
    p_adjusted: tuple[float, ...]
    answer: Answer
    words: str


WHOLE = ("the claim",)
_SECTION_1 = "supplement, section 1 and Table 1"
_SECTION_2 = "supplement, section 2 and Table 2"

QUESTIONS = (
    Question(
        "compact_gain",
        "Up to 11M parameters the bias loss gains accuracy, by about one point.",
        _SECTION_1,
        "Mean delta over the networks of Table 1 up to 11M parameters, above 0, and one point in its 95% interval.",
        claim_tests.compact_gain,
        WHOLE,
    ),
    Question(
        "large_loss",
        "From 19M parameters on the bias loss loses accuracy.",
        _SECTION_1,
        "Mean delta over the networks of Table 1 from 19M parameters on, below 0.",
        claim_tests.large_loss,
        WHOLE,
    ),
    Question(
        "crossing",
        "The sign of the gain changes between 11M and 19M parameters.",
        _SECTION_1,
        "Every network of Table 1 up to 11M parameters gains and every one from 19M on loses (largest p of the six).",
        claim_tests.crossing,
        WHOLE,
    ),
    Question(
        "gain_against_size",
        "The gain falls as the number of parameters grows.",
        _SECTION_1,
        "Slope of the delta over the logarithm of the printed parameters in Table 1, below 0.",
        claim_tests.slope,
        WHOLE,
    ),
    Question(
        "inverse_below_ce",
        "Weighting up what has little variance (the inverse bias loss) is worse than cross-entropy for every model.",
        _SECTION_2,
        "Every network of Table 2 is below cross-entropy (largest p of the five); in part, their mean.",
        claim_tests.inverse_below_ce,
        ("in every network", "on average over the networks"),
    ),
    Question(
        "mean_between",
        "The mean in place of the variance gains too, but significantly less.",
        _SECTION_2,
        "Mean over the networks of Table 2: mean bias loss above cross-entropy, and bias loss above mean bias loss.",
        claim_tests.mean_between,
        ("the mean bias loss gains", "the bias loss gains more"),
    ),
    Question(
        "table_2_order",
        "In every model, inverse bias loss < cross-entropy <= mean bias loss < bias loss: the bias loss is the best.",
        _SECTION_2,
        f"The whole order in every network of Table 2 (largest p; cross-entropy at most {SMALLEST_EFFECT} points above "
        "the mean bias loss); in part, the bias loss above all others in every network.",
        claim_tests.table_2_order,
        ("the whole order in every network", "the bias loss is the best in every network"),
    ),
    Question(
        "product_adds_nothing",
        "Weighting by mean times variance gains nothing over the variance alone.",
        "supplement, section 2, last paragraph (no numbers printed)",
        f"Mean gain of the product over the bias loss, networks of Table 2, below {SMALLEST_EFFECT} points.",
        claim_tests.product_adds_nothing,
        WHOLE,
    ),
    Question(
        "mean_and_variance",
        "In compact networks, the mean and the variance of the activations in the feature maps are correlated.",
        _SECTION_2,
        "Correlation over the training images of the last epoch, above 0 in every network of Table 2 under the bias "
        "loss (Fisher's z over seeds, largest p of the five).",
        claim_tests.mean_and_variance,
        WHOLE,
    ),
)


def assess_claims(tables: Sequence[Table], assessment: Assessment) -> tuple[Claim, ...]:
    """Every claim of the text, answered from ``assessment`` of ``tables`` (table1, table2 and product).

    With a preregistration, only the seeds of the first interim analysis count, once all of them are in: every cell has
    them, whatever was decided later, so that their number does not depend on the results. A table that may borrow runs
    keeps to the earliest first analysis of all.
    """
    return answer_claims(comparison(tables, assessment), assessment.alpha)


def comparison(tables: Sequence[Table], assessment: Assessment) -> Compare:
    """What gives the differences of two columns of a table in each row, from ``assessment`` of ``tables``."""
    by_id = {table.id: table for table in tables}
    first = {name: declaration.seeds[0] for name, declaration in assessment.looks.items()}

    def compare(table: str, column: str, against: str) -> Differences:
        if table not in by_id:
            return Differences()
        borrowing = borrows(by_id[table], assessment.looks)
        before = min(first.values(), default=None) if borrowing else first.get(table)
        rows, paired_rows = [], set()
        for row in by_id[table].rows:
            arms = {name.id: assessment.cells[table, row.id, name.id].runs for name in by_id[table].columns}
            rows.append((row, _estimate(arms, column, against, before)))
            if _begun(arms, column, against):
                paired_rows.add(row.id)
        return Differences(tuple(rows), frozenset(paired_rows))

    return compare


def answer_claims(
    compare: Compare, alpha: float = ALPHA, questions: Sequence[Question] = QUESTIONS
) -> tuple[Claim, ...]:
    """Every claim of ``questions``, a family of tests, from the differences of rows that ``compare`` gives."""
    evidence = [question.evidence(compare) for question in questions]
    p = [found.p or (1.0,) * len(question.parts) for question, found in zip(questions, evidence, strict=True)]
    adjusted = iter(holm(list(chain.from_iterable(p))).tolist())
    contradicting = [_strongest(found.against) for found in evidence]
    opposite = holm([against.p for against in contradicting]).tolist()
    reserved = iter(holm([one.p for found in evidence for one in found.reservations]).tolist())
    claims = []
    for question, found, ps, against, p_against in zip(questions, evidence, p, contradicting, opposite, strict=True):
        of_parts = tuple(next(adjusted) for _ in ps)
        reservations = [one for one in found.reservations if next(reserved) < alpha]
        tested = _Parts(of_parts, reservations, Tested(against.words, p_against))
        answer, words = _answer(question, found, tested, alpha)
        claims.append(
            Claim(
                **vars(question),
                findings=found.findings,
                missing=found.missing,
                p=ps,
                p_adjusted=of_parts,
                answer=answer,
                words=words,
            )
        )
    return tuple(claims)


def _estimate(arms: Arms, column: str, against: str, before: int | None) -> Estimate | None:
    """A row's difference of two columns, or correlation, from the seeds below ``before``: from all of them, or None."""
    if seeds_in_both(arms[column], arms.get(against, arms[column])) < (before or 0):
        return None
    if against == CORRELATION:
        return _correlation(arms[column], before)
    estimate = measure_arms(arms, column, against, before).pooled
    dead = dead_seeds([arms[column], arms[against]]) & set(pair_arms(arms, column, against, before).seeds)
    return None if dead or np.isnan(estimate.standard_error) else estimate


def _begun(arms: Arms, column: str, against: str) -> bool:
    """Whether there is a paired seed; of a correlation, a run that recorded one."""
    if against == CORRELATION:
        return any(run.epochs and run.epochs[-1].feature_correlation is not None for run in arms[column].completed)
    return bool(pair_arms(arms, column, against).seeds)


def _correlation(runs: CellRuns, before: int | None) -> Estimate | None:
    """Fisher's z of the correlation of mean and variance over the seeds below ``before``; None with fewer than three.

    Runs at chance level do not count, nor do records older than the correlation.
    """
    z = []
    for record in runs.completed:
        last = record.epochs[-1].feature_correlation if record.epochs else None
        if last is not None and abs(last) < 1 and record not in runs.at_chance:
            z += [math.atanh(last)] if before is None or record.seed < before else []
    estimate = paired(fmean(z), stdev(z), len(z)) if len(z) >= MIN_SEEDS else None
    return None if estimate is None or np.isnan(estimate.standard_error) else estimate


def _strongest(against: Sequence[Tested]) -> Tested:
    """What contradicts a claim most clearly, with its p adjusted for having been chosen."""
    if not against:
        return Tested("", 1.0)
    strongest = min(against, key=lambda one: one.p)
    return strongest._replace(p=min(1.0, len(against) * strongest.p))


class _Parts(NamedTuple):
    """What decides an answer, after Holm: the p of its parts, the reservations shown, and what contradicts it."""

    p_adjusted: Sequence[float]
    reservations: Sequence[Tested]
    against: Tested


def _answer(question: Question, found: Evidence, tested: _Parts, alpha: float) -> tuple[Answer, str]:
    """The answer and the whole sentence of it."""
    if not found.begun:
        return Answer.NOT_RUN, f"{Answer.NOT_RUN.value.capitalize()}."
    if found.missing:
        missing = ", ".join(found.missing)
        needed = "needed of each network are three, or all of the first interim analysis, and none at chance level"
        return _sentence(Answer.UNDECIDED, f"too few paired seeds of {missing} ({needed})")
    p_adjusted, reservations, against = tested
    shown = [part for part, p in zip(question.parts, p_adjusted, strict=True) if p < alpha]
    weaker = [one.words for one in reservations if p_adjusted[one.part] < alpha]
    p = max(p_adjusted)
    if len(shown) == len(question.parts):
        answer, why = Answer.PARTLY if weaker else Answer.SUPPORTED, "; ".join(weaker)
    elif shown:
        but = f"; against the rest: {against.words}" if against.p < alpha else ""
        why = "; ".join([f"shown is only: {', '.join(shown)}", *weaker])
        answer, why, p = Answer.PARTLY, f"{why}{but}", min(p_adjusted)
    elif against.p < alpha:
        answer, why, p = Answer.CONTRADICTED, against.words, against.p
    else:
        answer, why = Answer.UNDECIDED, "neither it nor what contradicts it is shown"
    of = "what contradicts it" if answer is Answer.CONTRADICTED else "what is shown" if shown else "the claim"
    after = f"{found.summary}. For {of}, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'} after Holm."
    return _sentence(answer, why, after)


def _sentence(answer: Answer, why: str, after: str = "") -> tuple[Answer, str]:
    said = f"{answer.value.capitalize()}{': ' if why else ''}{why}."
    return answer, f"{said} {after}".rstrip()
