from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.weightstats import ttost_paired

from repro.analysis.stats.estimates import (
    Estimate,
    contrast,
    interval,
    p_equivalent,
    p_greater,
    p_two_sided,
    paired,
    prediction_interval,
)


def of(differences: np.ndarray) -> Estimate:
    return paired(
        differences.mean(-1), differences.std(-1, ddof=1), np.full(differences.shape[:-1], differences.shape[-1])
    )


def within(rate: float, expected: float, draws: int, errors: float = 4.0) -> bool:
    """Whether a simulated rate is within its Monte Carlo error of what it should be."""
    return abs(rate - expected) < errors * math.sqrt(expected * (1 - expected) / draws)


@pytest.mark.parametrize("n", [3, 5, 10, 40])
def test_the_paired_t_is_scipys(n: int) -> None:
    rng = np.random.default_rng(n)
    ours, baseline = rng.normal(70.4, 0.3, (50, n)), rng.normal(70.0, 0.2, (50, n))
    theirs = scipy.stats.ttest_rel(ours, baseline, axis=-1)
    mine = of(ours - baseline)
    np.testing.assert_allclose(p_two_sided(mine), theirs.pvalue, rtol=1e-10)
    np.testing.assert_allclose(interval(mine), theirs.confidence_interval(0.95), rtol=1e-10)
    np.testing.assert_allclose(interval(mine, 0.9), theirs.confidence_interval(0.9), rtol=1e-10)
    greater = scipy.stats.ttest_1samp(ours - baseline, 0.2, axis=-1, alternative="greater")
    np.testing.assert_allclose(p_greater(mine, 0.2), greater.pvalue, rtol=1e-10)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_prediction_interval_and_equivalence_are_statsmodels(n: int) -> None:
    rng = np.random.default_rng(n)
    ours, baseline = rng.normal(70.1, 0.3, n), rng.normal(70.0, 0.3, n)
    mine = of(ours - baseline)
    prediction = OLS(ours - baseline, np.ones(n)).fit().get_prediction([[1.0]]).conf_int(obs=True, alpha=0.05)
    np.testing.assert_allclose(prediction_interval(mine), prediction[0], rtol=1e-10)
    p, _, _ = ttost_paired(ours, baseline, -0.5, 0.5)
    assert float(p_equivalent(mine, 0.5)) == pytest.approx(float(p), rel=1e-10)


def test_a_contrast_of_two_groups_is_welchs_t() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(1.0, 0.2, 4), rng.normal(0.5, 0.6, 9)
    mine = contrast([1, -1], [of(first), of(second)])
    theirs = scipy.stats.ttest_ind(first, second, equal_var=False)
    assert float(mine.df) == pytest.approx(theirs.df, rel=1e-12)
    assert float(p_two_sided(mine)) == pytest.approx(theirs.pvalue, rel=1e-10)
    np.testing.assert_allclose(interval(mine), theirs.confidence_interval(), rtol=1e-10)


@pytest.mark.parametrize("n", [3, 5, 10])
def test_intervals_cover_as_often_as_they_say(n: int) -> None:
    draws, truth = 40_000, 0.7
    rng = np.random.default_rng(10 + n)
    differences = rng.normal(truth, 0.35, (draws, n + 1))
    mine = of(differences[:, :n])
    low, high = interval(mine)
    assert within(np.mean((low <= truth) & (truth <= high)), 0.95, draws)
    assert within(np.mean(high < truth), 0.025, draws)
    near, far = prediction_interval(mine)
    assert within(np.mean((near <= differences[:, n]) & (differences[:, n] <= far)), 0.95, draws)


def test_pairing_takes_out_what_a_seed_does_to_both_arms() -> None:
    draws, n = 20_000, 5
    rng = np.random.default_rng(3)
    seed_effect = rng.normal(0, 0.3, (draws, n))
    ours, baseline = (rng.normal(0, 0.1, (draws, n)) + seed_effect for _ in range(2))
    low, high = interval(of(ours - baseline))
    assert within(np.mean((low <= 0) & (high >= 0)), 0.95, draws)
    assert np.mean(high - low) < 0.4


def test_a_contrast_of_unequal_rows_covers_about_as_often_as_it_says() -> None:
    draws, rng = 4_000, np.random.default_rng(4)
    stds, seeds, truth = (0.15, 0.35, 0.5), (3, 5, 10), (0.9, 1.0, 1.1)
    rows = [of(rng.normal(mean, std, (draws, n))) for mean, std, n in zip(truth, stds, seeds, strict=True)]
    covered = 0
    for index in range(draws):
        parts = [Estimate(row.value[index], row.standard_error[index], row.df[index]) for row in rows]
        low, high = interval(contrast([1 / 3] * 3, parts))
        covered += bool(low <= 1.0 <= high)
    assert within(covered / draws, 0.95, draws)


def test_the_p_values_are_uniform_without_an_effect() -> None:
    draws = 40_000
    mine = of(np.random.default_rng(5).normal(0, 0.35, (draws, 5)))
    for p in (p_two_sided(mine), p_greater(mine)):
        for level in (0.01, 0.05, 0.5):
            assert within(np.mean(p < level), level, draws)


def test_equivalence_is_seldom_found_at_its_margin_and_rarely_beyond() -> None:
    draws, rng = 40_000, np.random.default_rng(6)
    at_the_margin = np.mean(p_equivalent(of(rng.normal(0.5, 0.2, (draws, 8))), 0.5) < 0.05)
    assert within(at_the_margin, 0.05, draws)
    assert np.mean(p_equivalent(of(rng.normal(-0.7, 0.2, (draws, 8))), 0.5) < 0.05) < 0.003


@pytest.mark.parametrize("differences", [[1.0], [1.0, 1.2], [0.3, 0.3, 0.3, 0.3]])
def test_too_few_seeds_or_equal_differences_prove_nothing(differences: list[float]) -> None:
    n = len(differences)
    std = float(np.std(differences, ddof=1)) if n > 1 else math.nan
    mine = paired(np.mean(differences), std, n)
    assert np.isnan(interval(mine)).all()
    assert np.isnan(prediction_interval(mine)).all()
    assert float(p_two_sided(mine)) == float(p_greater(mine)) == float(p_equivalent(mine, 9.0)) == 1.0


def test_differences_equal_but_for_rounding_are_equal() -> None:
    differences = np.array([70.3 - 70.0, 33.6 - 33.3, 1.3 - 1.0])
    assert differences.std(ddof=1) > 0
    assert float(p_two_sided(of(differences))) == 1.0
