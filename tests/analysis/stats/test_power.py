from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from repro.analysis.stats.decision_rule import MARGIN, Verdict, cell_p, judge
from repro.analysis.stats.estimates import p_two_sided, paired
from repro.analysis.stats.power import (
    MOST_SEEDS,
    equivalence_power,
    paired_power,
    planning_std,
    seeds_to_be_sure,
    seeds_to_confirm,
    seeds_to_decide,
    seeds_to_refute,
)

ROOT_2 = math.sqrt(2)


@pytest.mark.parametrize("level", [0.05, 0.05 / 21])
@pytest.mark.parametrize("n", [3, 5, 10, 100])
@pytest.mark.parametrize("effect", [0.1, 0.45, 1.0])
def test_the_power_is_statsmodels(effect: float, n: int, level: float) -> None:
    std = 0.25 * ROOT_2
    theirs = TTestPower().power(effect / std, n, level / 2, alternative="larger")
    assert float(paired_power(effect, std, n, level)) == pytest.approx(float(theirs), abs=1e-9)


def test_the_table_of_the_protocol_is_met() -> None:
    """Seed std .2 / .25 / .3, arms independent, unadjusted."""
    table = {
        (1.0, 3): (0.85, 0.71, 0.58),
        (1.0, 5): (1.00, 1.00, 0.97),
        (0.45, 5): (0.76, 0.58, 0.44),
        (0.45, 10): (0.99, 0.95, 0.85),
    }
    for (effect, n), expected in table.items():
        power = paired_power(effect, np.array([0.2, 0.25, 0.3]) * ROOT_2, n, 0.05)
        np.testing.assert_allclose(power, expected, atol=0.0051)


def test_the_power_never_falls_as_seeds_are_added() -> None:
    # SciPy's noncentral t has holes where the chance of a miss underflows.
    n = np.arange(3, 2_000)
    for effect in (0.5, 1.0, 2.83):
        power = paired_power(effect, 1.0, n, 0.05 / 21)
        assert (np.diff(power) >= -1e-12).all()
        assert power[-1] == 1.0


@pytest.mark.parametrize("n", [6, 9, 14])
def test_the_power_to_show_equivalence_is_what_simulation_finds(n: int) -> None:
    draws, std = 20_000, 0.3
    differences = np.random.default_rng(n).normal(0, std, (draws, n))
    estimate = paired(differences.mean(-1), differences.std(-1, ddof=1), np.full(draws, n))
    found = np.mean(cell_p(estimate, np.zeros(draws)) < 0.05)
    assert float(equivalence_power(MARGIN, std, n, 0.05)) == pytest.approx(found, abs=0.015)


@pytest.mark.parametrize("level", [0.05, 0.05 / 21])
@pytest.mark.parametrize("paper", [0.4, 1.0, -0.8, 1.5])
def test_the_seeds_are_the_fewest_that_have_the_power(paper: float, level: float) -> None:
    std = 0.35
    confirm = seeds_to_confirm(paper, std, level=level, power=0.8)
    refute = seeds_to_refute(paper, std, power=0.8)
    assert confirm is not None
    assert refute is not None
    assert paired_power(abs(paper), std, confirm, level) >= 0.8
    assert confirm == 3 or paired_power(abs(paper), std, confirm - 1, level) < 0.8
    assert paired_power(abs(paper) / 2, std, refute, 0.05) >= 0.8
    assert refute == 3 or paired_power(abs(paper) / 2, std, refute - 1, 0.05) < 0.8
    assert seeds_to_decide(paper, std, level=level) == max(confirm, refute)


@pytest.mark.parametrize("paper", [1.0, -0.6, 0.0])
def test_so_many_seeds_do_end_with_a_verdict_as_often_as_planned(paper: float) -> None:
    """Under the paper's effect and under none (for a printed 0: none, and twice the margin), through the real rule."""
    draws, std, level = 20_000, 0.25 * ROOT_2, 0.05 / 21
    n = seeds_to_decide(paper, std, level=level)
    assert n is not None
    rng = np.random.default_rng(0)
    for truth in (paper, 0.0 if paper else 2 * MARGIN):
        differences = rng.normal(truth, std, (draws, n))
        estimate = paired(differences.mean(-1), differences.std(-1, ddof=1), np.full(draws, n))
        verdicts = judge(estimate, np.full(draws, paper), np.minimum(1, 21 * cell_p(estimate, np.full(draws, paper))))
        assert np.mean(verdicts != Verdict.UNDERPOWERED) > 0.79


def test_an_effect_too_small_to_find_takes_more_seeds_than_anyone_runs() -> None:
    assert seeds_to_confirm(0.001, 0.35, level=0.05) is None
    assert seeds_to_decide(0.01, 0.35, level=0.05) is None
    assert (seeds_to_refute(0.1, 0.35) or MOST_SEEDS) < MOST_SEEDS


def test_at_the_number_that_is_sure_no_mean_leaves_a_cell_open() -> None:
    rng = np.random.default_rng(1)
    for paper, std, level in ((1.0, 0.4, 0.05 / 21), (-0.4, 0.3, 0.01), (0.6, 0.1, 0.05)):
        n = seeds_to_be_sure(paper, std, level=level)
        assert n is not None
        for seeds, always in ((n, True), (n - 1, False)):
            means = np.concatenate([rng.uniform(-2, 2, 2_000), np.linspace(0, paper, 2_000)])
            estimate = paired(means, std, seeds)
            verdicts = judge(estimate, np.full(4_000, paper), p_two_sided(estimate) * (0.05 / level))
            assert bool((verdicts != Verdict.UNDERPOWERED).all()) is always
    assert seeds_to_be_sure(0.0, 0.3, level=0.05) is None


def test_the_spread_planned_with_goes_from_the_guess_to_what_was_seen() -> None:
    guess = 0.25 * ROOT_2
    assert planning_std([]) == pytest.approx(guess)
    assert planning_std([], guessed_run_std=0.3) == pytest.approx(0.3 * ROOT_2)
    assert planning_std([(1e-12, 3)]) == pytest.approx(guess * math.sqrt(4 / 6))
    assert planning_std([(0.8, 10_000)]) == pytest.approx(0.8, rel=1e-3)
    assert planning_std([(guess, 5), (guess, 3)]) == pytest.approx(guess)
