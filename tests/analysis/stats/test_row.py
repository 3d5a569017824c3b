"""The spread of a row: an additive two-way layout, held against statsmodels and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf

from repro.analysis.stats.decision_rule import Printed, prediction_interval
from repro.analysis.stats.estimates import interval
from repro.analysis.stats.row import measure


@pytest.mark.parametrize("missing", [[], [(2, 1)], [(2, 0), (2, 1), (3, 4)], [(3, seed) for seed in range(1, 6)]])
def test_the_estimate_is_that_of_least_squares_with_seed_as_a_block(missing: list[tuple[int, int]]) -> None:
    row = np.random.default_rng(0).normal(70, 0.3, (4, 6))
    runs = [(arm, seed) for arm in range(4) for seed in range(6) if (arm, seed) not in missing]
    data = pd.DataFrame([(row[run], f"a{run[0]}", f"s{run[1]}") for run in runs], columns=["top1", "arm", "seed"])
    fitted = smf.ols("top1 ~ C(arm) + C(seed)", data).fit()
    for arm, seed in missing:
        row[arm, seed] = np.nan
    pooled = measure(row).pooled
    assert float(pooled.value) == pytest.approx(fitted.params["C(arm)[T.a1]"], rel=1e-9)
    assert float(pooled.standard_error) == pytest.approx(fitted.bse["C(arm)[T.a1]"], rel=1e-9)
    assert float(pooled.df) == fitted.df_resid
    assert float(pooled.value) == pytest.approx((row[1] - row[0]).mean(), rel=1e-12)


def test_with_two_arms_it_is_the_paired_t_test() -> None:
    row = np.random.default_rng(1).normal(0, 1, (2, 7))
    theirs = scipy.stats.ttest_rel(row[1], row[0]).confidence_interval(0.95)
    measured = measure(row)
    for estimate in (measured.pooled, measured.paired):
        low, high = interval(estimate)
        assert (float(low), float(high)) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_what_a_seed_does_to_every_arm_is_not_in_the_estimate_and_is_in_a_single_difference() -> None:
    rng = np.random.default_rng(2)
    row = rng.normal(0, 0.1, (4, 400))
    shifted = measure(row + rng.normal(0, 2.0, 400))
    plain = measure(row)
    assert float(shifted.pooled.standard_error) == pytest.approx(float(plain.pooled.standard_error), rel=1e-9)
    assert float(plain.single.standard_error) == pytest.approx(0.1 * math.sqrt(2), rel=0.05)
    assert float(shifted.single.standard_error) == pytest.approx(2.0 * math.sqrt(2), rel=0.1)


def test_too_few_seeds_or_no_spread_give_a_mean_alone() -> None:
    for row in (np.array([[70.0, 71.0], [70.5, 71.7]]), np.full((3, 5), 70.0)):
        measured = measure(row)
        assert float(measured.pooled.value) == pytest.approx((row[1] - row[0]).mean())
        assert np.isnan(measured.pooled.standard_error)
    assert np.isnan(measure(np.zeros((2, 0))).pooled.value)
    # the steps of another arm's accuracies tell the spread where two arms are equal by chance
    assert float(measure([[70, 71, 72], [70, 71, 72], [70.5, 70.7, 72.5]]).pooled.standard_error) > 0


@pytest.mark.parametrize("of_seed", [0.0, 0.7])
@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (4, 3), (4, 10)])
def test_both_intervals_hold_with_95_percent(arms: int, seeds: int, of_seed: float) -> None:
    """The mean's interval holds the truth, the prediction interval a printed difference of two further runs."""
    draws, rng = 20_000, np.random.default_rng(seeds)
    block, noise = math.sqrt(of_seed), math.sqrt(1 - of_seed)
    rows = rng.normal(0, noise, (draws, arms, seeds)) + rng.normal(0, block, (draws, 1, seeds))
    measured = measure(rows)
    low, high = interval(measured.pooled)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.95, abs=0.007)
    printed = np.round(rng.normal(0, 1, (2, draws)), 1)
    difference = printed[1] - printed[0]
    near, far = prediction_interval(measured, Printed.of(difference))
    held = np.mean((near <= difference) & (difference <= far))
    assert 0.94 < held < 0.985  # a little more at three seeds, where the degrees of freedom are estimated
