"""Error rates and power of the verdicts and of the answers to claims, simulated: the figures of docs/report.md."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from repro.analysis.claims import Answer
from repro.analysis.stats.decision_rule import THREE_ANSWERS, Printed
from repro.analysis.stats.half_delta_rule import HALF_DELTA

pytestmark = pytest.mark.slow
DRAWS = 1_500
ERROR = 0.05 + 4 * math.sqrt(0.05 * 0.95 / DRAWS)


@pytest.fixture(scope="module")
def verdicts() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verdicts", Path(__file__).parents[2] / "benchmarks" / "verdicts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdicts"] = module
    spec.loader.exec_module(module)
    return module


def rates(verdicts: ModuleType, seeds: int, std: float, scale: float, rule: object) -> dict[str, float]:
    deltas = verdicts.paper_rows()
    printed = Printed.of([delta for row in deltas for delta in row])
    rows = verdicts.simulated_rows(deltas, seeds, scale=scale, run_std=std, draws=DRAWS)
    found: dict[str, float] = verdicts.rates(rows, printed, seeds, rule)
    return found


@pytest.mark.parametrize(
    ("std", "seeds", "before", "now"),
    [
        (0.25, 3, 0.6, 6.6),
        (0.25, 5, 7.7, 16.6),
        (0.25, 10, 17.9, 20.1),
        (0.35, 5, 3.3, 10.2),
        (0.5, 5, 1.3, 4.6),
        (0.5, 10, 8.5, 13.1),
    ],
)
def test_so_many_of_21_are_reproduced_if_the_effects_are_as_printed(
    verdicts: ModuleType, std: float, seeds: int, before: float, now: float
) -> None:
    assert rates(verdicts, seeds, std, 1, HALF_DELTA)["reproduced"] == pytest.approx(before, abs=0.35)
    found = rates(verdicts, seeds, std, 1, THREE_ANSWERS)
    assert found["reproduced"] == pytest.approx(now, abs=0.35)
    assert found["any not reproduced"] < 0.01
    assert found["any opposite"] < 0.01


@pytest.mark.parametrize(("seeds", "refuted"), [(3, 0.6), (5, 2.5), (10, 14.5)])
def test_without_effects_each_family_of_tests_keeps_its_error(verdicts: ModuleType, seeds: int, refuted: float) -> None:
    for std in (0.25, 0.5):
        found = rates(verdicts, seeds, std, 0, THREE_ANSWERS)
        assert 0.02 < found["any effect"] < ERROR
        assert 0.02 < found["any opposite"] < ERROR
        if std == 0.25:
            assert found["not reproduced"] == pytest.approx(refuted, abs=0.35)


def test_a_paper_s_number_that_is_a_run_like_ours_is_seldom_rejected(verdicts: ModuleType) -> None:
    deltas = verdicts.paper_rows()
    for seeds in (3, 5, 10):
        wrong = verdicts.rejected_though_true(deltas, seeds, 0.25, DRAWS, THREE_ANSWERS)
        assert wrong.any(-1).mean() < ERROR


def test_without_effects_claims_are_contradicted_and_hardly_ever_made_even_in_part(verdicts: ModuleType) -> None:
    """At 50 seeds, where most stayed undecided before; the product adds nothing, so that its claim is true."""
    draws = 150
    for seeds in (4, 50):
        answered = verdicts.simulated_claims(seeds, 0, 0.25, draws)
        made, contradicted = [], []
        for claims in answered:
            others = [claim.answer for claim in claims if claim.id not in ("product_adds_nothing", "mean_and_variance")]
            made.append(bool({Answer.SUPPORTED, Answer.PARTLY} & set(others)))
            contradicted.append(np.mean([answer is Answer.CONTRADICTED for answer in others]))
        assert np.mean(made) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / draws)
        if seeds == 50:
            assert np.mean(contradicted) > 0.97


def test_with_the_paper_s_effects_no_claim_is_contradicted(verdicts: ModuleType) -> None:
    draws = 100
    answered = verdicts.simulated_claims(10, 1, 0.25, draws)
    wrong = [any(claim.answer is Answer.CONTRADICTED for claim in claims) for claims in answered]
    assert np.mean(wrong) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / draws)
    by_claim = {claim.id: claim.answer for claim in answered[0]}
    assert by_claim["large_loss"] is by_claim["gain_against_size"] is Answer.SUPPORTED
