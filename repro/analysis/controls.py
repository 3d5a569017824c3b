"""What the controls of the bias loss tell: three claims on a table that has them, a family of their own.

The bias loss scales the loss down, weights samples differently, and ties the weights to the features. Each control
takes one of these away (``losses.BiasControl``), so that differences between columns tell which of them matters.
"""

from __future__ import annotations

from repro.analysis.assessment import Assessment
from repro.analysis.claim_evidence import Compare, Evidence
from repro.analysis.claim_tests import mean_effect, mean_equivalence
from repro.analysis.claims import WHOLE, Claim, Question, answer_claims, comparison
from repro.analysis.stats.decision_rule import SMALLEST_EFFECT
from repro.experiment.schema import Table

MEANINGS = (
    "If bias beats shuffled weights, what has diverse features is worth more weight, as the paper says; if they are "
    "equal, any weights of that spread would do.",
    "If a mean weight of 1 beats cross-entropy, the emphasis helps by itself; if only the bias loss does, part of its "
    "gain is the lower scale of the loss.",
    "If constant weights equal cross-entropy, the scale does not matter here; if they differ, so would a change of the "
    "learning rate.",
)
_SOURCE = "a control of ours; nothing is printed"


def assess_controls(table: Table, assessment: Assessment) -> tuple[Claim, ...]:
    """The claims on the controls of ``table``, which is in ``assessment``; none if a column is lacking."""
    columns = {column.loss: column.id for column in reversed(table.columns)}
    if not {"ce", "bias", "mean_one_bias", "constant_bias", "shuffled_bias"} <= set(columns):
        return ()

    def bias_over_shuffled(compare: Compare) -> Evidence:
        return mean_effect(compare(table.id, columns["bias"], columns["shuffled_bias"]), 1)

    def mean_one_over_ce(compare: Compare) -> Evidence:
        return mean_effect(compare(table.id, columns["mean_one_bias"], columns["ce"]), 1)

    def constant_is_ce(compare: Compare) -> Evidence:
        return mean_equivalence(compare(table.id, columns["constant_bias"], columns["ce"]))

    questions = (
        Question(
            "bias_beats_shuffled",
            "Weights that follow the features gain over the same weights dealt out at random.",
            _SOURCE,
            "Mean over the networks of the bias loss minus shuffled weights, above 0.",
            bias_over_shuffled,
            WHOLE,
        ),
        Question(
            "mean_one_beats_ce",
            "Weights of mean 1 gain over cross-entropy.",
            _SOURCE,
            "Mean over the networks of the bias loss with mean weight 1 minus cross-entropy, above 0.",
            mean_one_over_ce,
            WHOLE,
        ),
        Question(
            "constant_equals_ce",
            "A constant weight below 1 changes nothing.",
            _SOURCE,
            f"Mean over the networks of the constant weight minus cross-entropy, within {SMALLEST_EFFECT} points.",
            constant_is_ce,
            WHOLE,
        ),
    )
    return answer_claims(comparison([table], assessment), assessment.alpha, questions)
