from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from repro.analysis.stats.decision_rule import SMALLEST_EFFECT, Asked, Printed, Verdict, cell_p, judge
from repro.analysis.stats.estimates import MOST_SEEDS, Estimate
from repro.analysis.stats.power import (
    effect_power,
    equivalence_power,
    planning_std,
    seeds_to_be_sure,
    seeds_to_refute,
    seeds_to_show,
)
from repro.analysis.stats.row import Measured, measure

ROOT_2 = math.sqrt(2)


def simulated(truth: float, run_std: float, arms: int, seeds: int, draws: int = 20_000) -> Measured:
    rows = np.random.default_rng(seeds).normal(0, run_std, (draws, arms, seeds))
    rows[:, 1] += truth
    return measure(rows)


@pytest.mark.parametrize("level", [0.05, 0.05 / 18])
@pytest.mark.parametrize("n", [3, 5, 10, 100])
@pytest.mark.parametrize("effect", [0.1, 0.45, 1.0])
def test_the_power_of_two_arms_is_statsmodels(effect: float, n: int, level: float) -> None:
    std = 0.25 * ROOT_2
    theirs = TTestPower().power(effect / std, n, level, alternative="larger")
    assert float(effect_power(effect, std, n, level)) == pytest.approx(float(theirs), abs=1e-9)


@pytest.mark.parametrize(("arms", "seeds"), [(2, 4), (4, 3), (4, 6)])
def test_the_power_of_a_row_is_what_simulation_finds(arms: int, seeds: int) -> None:
    p = cell_p(simulated(0.6, 0.25, arms, seeds), Printed.of(0.6))[Asked.EFFECT]
    power = float(effect_power(0.6, 0.25 * ROOT_2, seeds, 0.01, arms))
    assert np.mean(p < 0.01) == pytest.approx(power, abs=0.015)


def test_the_power_never_falls_as_seeds_are_added() -> None:
    # SciPy's noncentral t has holes where the chance of a miss underflows.
    n = np.arange(3, 2_000)
    for effect in (0.5, 1.0, 2.83):
        power = effect_power(effect, 1.0, n, 0.05 / 18)
        assert (np.diff(power) >= -1e-12).all()
        assert power[-1] == 1.0


@pytest.mark.parametrize(("arms", "seeds"), [(2, 8), (4, 5), (4, 9)])
def test_the_power_to_show_equivalence_is_what_simulation_finds(arms: int, seeds: int) -> None:
    p = cell_p(simulated(0.0, 0.22, arms, seeds), Printed.of(1.0))[Asked.SMALL]
    power = float(equivalence_power(SMALLEST_EFFECT, 0.22 * ROOT_2, seeds, 0.05, arms))
    assert np.mean(p < 0.05) == pytest.approx(power, abs=0.015)


@pytest.mark.parametrize("level", [0.05, 0.05 / 18])
@pytest.mark.parametrize("paper", [0.6, 1.0, -0.8, 1.5])
def test_the_seeds_are_the_fewest_that_have_the_power(paper: float, level: float) -> None:
    std = 0.35
    show = seeds_to_show(paper, std, level=level, none=False, arms=4)
    refute = seeds_to_refute(paper, std, level=level, arms=4)
    assert show is not None
    assert refute is not None
    assert effect_power(abs(paper), std, show, level, 4) >= 0.8
    assert show == 3 or effect_power(abs(paper), std, show - 1, level, 4) < 0.8
    assert equivalence_power(SMALLEST_EFFECT, std, refute, level, 4) >= 0.8
    assert refute == 3 or equivalence_power(SMALLEST_EFFECT, std, refute - 1, level, 4) < 0.8
    assert seeds_to_show(0.1, std, level=level, none=True, arms=4) == refute


@pytest.mark.parametrize("paper", [1.0, -0.6])
@pytest.mark.parametrize("arms", [2, 4])
def test_so_many_seeds_do_end_with_a_verdict_as_often_as_planned(paper: float, arms: int) -> None:
    """Under the paper's effect and under none, through the real rule with Bonferroni's adjustment over 18 cells."""
    std, level = 0.25 * ROOT_2, 0.05 / 18
    seeds = (
        seeds_to_show(paper, std, level=level, none=False, arms=arms),
        seeds_to_refute(paper, std, level=level, arms=arms),
    )
    for truth, n in zip((paper, 0.0), seeds, strict=True):
        assert n is not None
        measured, printed = simulated(truth, 0.25, arms, n), Printed.of(paper)
        verdicts = judge(measured, printed, np.minimum(1, 18 * cell_p(measured, printed)))
        assert np.mean(verdicts != Verdict.UNDECIDED) > 0.79


def test_an_effect_too_small_to_find_takes_more_seeds_than_anyone_runs() -> None:
    assert seeds_to_show(0.001, 0.35, level=0.05, none=False) is None
    assert seeds_to_refute(0.6, 50.0, level=0.05) is None
    assert (seeds_to_refute(0.6, 0.35, level=0.05) or MOST_SEEDS) < MOST_SEEDS


def test_what_is_printed_below_the_smallest_effect_is_refuted_by_no_number_of_seeds() -> None:
    assert seeds_to_refute(0.4, 0.35, level=0.05) is None
    assert seeds_to_refute(0.5, 0.35, level=0.05) is None
    assert seeds_to_be_sure(0.4, 0.35, level=0.05, small_level=0.05) is None


@pytest.mark.parametrize(("std", "level", "arms"), [(0.4, 0.05 / 18, 2), (0.3, 0.01, 4), (0.1, 0.05, 2)])
def test_at_the_number_that_is_sure_no_mean_leaves_a_cell_open(std: float, level: float, arms: int) -> None:
    n = seeds_to_be_sure(1.0, std, level=level, small_level=level, arms=arms)
    assert n is not None
    for seeds, always in ((n, True), (n - 1, False)):
        if seeds < 3:
            continue
        means = np.linspace(-2, 2, 8_001)
        error = np.full(means.shape, std / math.sqrt(seeds))
        estimate = Estimate(means, error, np.full(means.shape, (arms - 1.0) * (seeds - 1)))
        single = Estimate(means, np.full(means.shape, 100.0), estimate.df)
        measured = Measured(estimate, estimate, single)
        verdicts = judge(measured, Printed.of(1.0), cell_p(measured, Printed.of(1.0)) * (0.05 / level))
        assert bool((verdicts != Verdict.UNDECIDED).all()) is always


def test_the_spread_planned_with_goes_from_the_guess_to_what_was_seen() -> None:
    guess = 0.25 * ROOT_2
    assert planning_std([]) == pytest.approx(guess)
    assert planning_std([], guessed_run_std=0.3) == pytest.approx(0.3 * ROOT_2)
    assert planning_std([(1e-12, 2)]) == pytest.approx(guess * math.sqrt(4 / 6))
    assert planning_std([(0.8, 10_000)]) == pytest.approx(0.8, rel=1e-3)
    assert planning_std([(guess, 4), (guess, 2)]) == pytest.approx(guess)
