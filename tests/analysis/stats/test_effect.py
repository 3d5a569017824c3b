from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from repro.analysis.stats.effect import arm_correlation, superiority


def test_it_is_the_chance_that_one_run_beats_another() -> None:
    rng = np.random.default_rng(0)
    ours, baseline = rng.normal(70.3, 0.2, 200_000), rng.normal(70.0, 0.4, 200_000)
    chance = superiority(ours[:50_000], baseline[:50_000])
    assert chance is not None
    assert abs(chance - np.mean(ours > baseline)) < 0.006  # 4 errors of both together
    assert chance == pytest.approx(scipy.stats.norm.cdf(0.3 / np.hypot(0.2, 0.4)), abs=0.006)


def test_the_formula_is_mcgraw_and_wongs() -> None:
    ours, baseline = [71.0, 71.4, 70.9], [70.2, 70.9, 70.7, 70.5]
    z = (np.mean(ours) - np.mean(baseline)) / np.sqrt(np.var(ours, ddof=1) + np.var(baseline, ddof=1))
    assert superiority(ours, baseline) == pytest.approx(float(scipy.stats.norm.cdf(z)), rel=1e-12)


def test_seen_from_the_other_side_it_is_the_rest() -> None:
    ours, baseline = [71.0, 71.4, 70.9], [70.2, 70.9, 70.7]
    forth, back = superiority(ours, baseline), superiority(baseline, ours)
    assert forth is not None
    assert back is not None
    assert forth + back == pytest.approx(1.0, abs=1e-15)
    assert superiority(ours, ours) == 0.5


def test_without_any_spread_it_is_certain_or_a_tie() -> None:
    assert superiority([71.0] * 3, [70.0] * 3) == 1.0
    assert superiority([70.0] * 3, [71.0] * 3) == 0.0
    assert superiority([70.3 - 0.3] * 3, [70.0] * 3) == 0.5


def test_two_seeds_are_too_few() -> None:
    assert superiority([71.0, 71.1], [70.0, 70.1]) is None
    assert arm_correlation([71.0, 71.1], [70.0, 70.1]) is None


def test_the_correlation_between_arms_is_pearsons() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=10)
    ours, baseline = 70 + shared + rng.normal(size=10), 69 + shared
    assert arm_correlation(ours, baseline) == pytest.approx(np.corrcoef(ours, baseline)[0, 1], rel=1e-12)
    assert arm_correlation([70.0] * 4, [1.0, 2.0, 3.0, 4.0]) is None
