from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.optimize
import scipy.stats

from repro.analysis.stats.alpha_spending import Looks, Spending, look_levels, sequential_p, spent
from repro.analysis.stats.estimates import Estimate, interval, p_two_sided, paired
from repro.analysis.stats.holm import holm
from repro.errors import UserError

PLANS = [
    Looks((5, 10, 20)),
    Looks((3, 5, 10)),
    Looks((5, 10, 20), "pocock"),
    Looks(tuple(range(3, 11))),
    Looks((7,)),
]


def p_at_looks(differences: np.ndarray, looks: Looks) -> np.ndarray:
    """The p-value at each look: (..., looks)."""
    return np.stack([p_two_sided(summary(differences[..., :n])) for n in looks.seeds], axis=-1)


def summary(differences: np.ndarray) -> Estimate:
    n = differences.shape[-1]
    return paired(differences.mean(-1), differences.std(-1, ddof=1), np.full(differences.shape[:-1], n))


@pytest.mark.parametrize("spending", ["obrien_fleming", "pocock"])
def test_all_is_spent_at_the_end_and_ever_more_on_the_way(spending: Spending) -> None:
    for level in (0.05, 0.05 / 21):
        cost = spent(np.linspace(0.05, 1, 20), level, spending)
        assert cost[-1] == pytest.approx(level, rel=1e-12)
        assert (np.diff(cost) > 0).all()
        assert cost[0] > 0


def test_the_spending_functions_are_lan_and_demets() -> None:
    z = scipy.stats.norm.isf(0.025 / 2)
    one_sided = 2 * scipy.stats.norm.sf(z / math.sqrt(0.5))
    assert float(spent(0.5, 0.05)) == pytest.approx(2 * one_sided, rel=1e-12)
    # The first of five boundaries in Lan and DeMets's own example (one-sided 0.05), quoted at second hand: 4.23.
    assert scipy.stats.norm.isf(float(spent(0.2, 0.10)) / 2) == pytest.approx(4.23, abs=5e-3)


def crossed(fractions: Sequence[float], boundaries: Sequence[float]) -> np.ndarray:
    """The chance that a normal statistic without drift is beyond its boundary, either way, by each look.

    The density of what has not crossed, carried from look to look: Armitage, McPherson and Rowe (1969), J. Royal
    Statistical Society A 132.
    """
    done, density, grid = [2 * scipy.stats.norm.sf(boundaries[0])], np.ones(1), np.zeros(1)
    for step, (before, now) in enumerate(zip([0.0, *fractions], fractions, strict=False)):
        there = np.linspace(-1, 1, 161) * boundaries[step] * math.sqrt(now)
        move = scipy.stats.norm.pdf(there[:, None] - grid, scale=math.sqrt(now - before))
        density = np.trapezoid(move * density, grid, axis=1) if step else move[:, 0]
        grid = there
        done[step:] = [1 - np.trapezoid(density, grid)]
    return np.array(done)


# Two-sided 0.05: gsDesign's, as the tests of several other programs quote them, and for looks at unequal times those of
# Zhu and Hu (2010), as one of them does.
PUBLISHED: list[tuple[Spending, list[float], list[float]]] = [
    ("obrien_fleming", [1 / 2, 1], [2.963, 1.969]),
    ("obrien_fleming", [1 / 3, 2 / 3, 1], [3.710, 2.511, 1.993]),
    ("obrien_fleming", [0.2, 0.4, 0.6, 0.8, 1], [4.877, 3.357, 2.680, 2.290, 2.031]),
    ("pocock", [0.2, 0.4, 0.6, 0.8, 1], [2.438, 2.427, 2.410, 2.397, 2.386]),
    ("obrien_fleming", [0.2, 0.5, 1], [4.877, 2.963, 1.969]),
    ("pocock", [0.2, 0.5, 1], [2.438, 2.333, 2.225]),
]


@pytest.mark.parametrize(("spending", "fractions", "boundaries"), PUBLISHED)
def test_published_boundaries_spend_what_is_spent_here(
    spending: Spending, fractions: list[float], boundaries: list[float]
) -> None:
    """To the rounding of the third decimal, which at 1.96 is 0.0001 of a chance."""
    np.testing.assert_allclose(crossed(fractions, boundaries), spent(fractions, 0.05, spending), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("seeds", "spending", "error"),
    [
        ((3, 5, 10), "obrien_fleming", 0.051),
        ((3, 5, 10), "pocock", 0.055),
        (tuple(range(3, 11)), "obrien_fleming", 0.057),
        (tuple(range(3, 11)), "pocock", 0.059),
    ],
)
def test_boundaries_of_the_joint_normal_distribution_would_not_hold_at_a_few_seeds(
    seeds: tuple[int, ...], spending: Spending, error: float
) -> None:
    draws, looks = 100_000, Looks(seeds, spending)
    fractions = [n / seeds[-1] for n in seeds]
    boundaries: list[float] = []
    for step, goal in enumerate(spent(fractions, 0.05, spending)):
        so_far = fractions[: step + 1]
        boundaries.append(
            scipy.optimize.brentq(
                lambda z, so_far=so_far, goal=goal: crossed(so_far, [*boundaries, z])[-1] - goal, 1, 9
            )
        )
    levels = 2 * scipy.stats.norm.sf(boundaries)
    if len(seeds) == 3 and spending == "obrien_fleming":
        assert levels[-1] == pytest.approx(0.0490, abs=5e-5)
        assert look_levels(looks, 0.05)[-1] == pytest.approx(0.0469, abs=5e-5)
    at_looks = p_at_looks(np.random.default_rng(4).normal(0, 0.35, (draws, seeds[-1])), looks)
    assert np.mean((at_looks < levels).any(axis=-1)) == pytest.approx(error, abs=0.002)
    assert np.mean((at_looks < look_levels(looks, 0.05)).any(axis=-1)) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize("looks", PLANS)
def test_what_the_looks_spend_adds_up_to_the_level(looks: Looks) -> None:
    levels = look_levels(looks, [0.05, 0.01])
    np.testing.assert_allclose(levels.sum(axis=-1), [0.05, 0.01], rtol=1e-12)
    assert (levels > 0).all()


@pytest.mark.parametrize("looks", PLANS)
def test_the_sequential_p_is_the_level_at_which_a_look_rejects(looks: Looks) -> None:
    for level in (0.2, 0.05, 0.05 / 21, 1e-6):
        for look, p in enumerate(look_levels(looks, level)):
            others = np.ones(len(looks.seeds))
            others[look] = p
            assert float(sequential_p(others, looks)) == pytest.approx(level, rel=1e-5)


def test_a_single_look_is_a_test_without_looks() -> None:
    p = np.array([[1e-7], [0.003], [0.05], [0.3]])
    np.testing.assert_allclose(sequential_p(p, Looks((7,))), p[:, 0], rtol=1e-5)


def test_it_never_grows_and_never_leaves_0_to_1() -> None:
    looks = PLANS[1]
    p = np.random.default_rng(0).uniform(size=(500, 3)) ** 3
    p[:2] = [[0, 0, 0], [1, 1, 1]]
    so_far = [sequential_p(p[:, :k], looks) for k in (1, 2, 3)]
    assert (so_far[1] <= so_far[0]).all()
    assert (so_far[2] <= so_far[1]).all()
    assert (so_far[2] > 0).all()
    assert (so_far[0] <= 1).all()
    assert so_far[2][1] == 1


@pytest.mark.parametrize("looks", PLANS)
def test_all_looks_together_call_an_absent_effect_found_in_one_cell_of_twenty_at_most(looks: Looks) -> None:
    draws = 60_000
    differences = np.random.default_rng(1).normal(0, 0.35, (draws, looks.seeds[-1]))
    at_looks = p_at_looks(differences, looks)
    for level in (0.05, 0.05 / 21):
        wrong = np.mean(sequential_p(at_looks, looks) < level)
        assert wrong < level + 4 * math.sqrt(level / draws)
        assert wrong > 0.4 * level
    if len(looks.seeds) > 1:
        assert np.mean((at_looks < 0.05).any(axis=-1)) > 0.08  # what the spending protects from


def test_the_family_holds_when_every_cell_stops_at_its_first_success() -> None:
    draws, cells, looks = 4_000, 21, Looks((5, 10, 20), "pocock")
    rng = np.random.default_rng(2)
    true_deltas = np.where(np.arange(cells) % 3 == 0, 1.0, 0.0)
    differences = rng.normal(0, 0.35, (draws, cells, 20)) + true_deltas[:, None]
    at_looks = p_at_looks(differences, looks)
    rejected = np.zeros((draws, cells), dtype=bool)
    for look in range(3):
        rejected |= holm(sequential_p(at_looks[..., : look + 1], looks)) < 0.05
    error = 4 * math.sqrt(0.05 * 0.95 / draws)
    assert np.mean(rejected[:, true_deltas == 0].any(axis=1)) < 0.05 + error
    assert rejected[:, true_deltas > 0].mean() > 0.99


def test_the_repeated_intervals_hold_at_all_looks_together() -> None:
    draws, looks = 40_000, PLANS[1]
    differences = np.random.default_rng(3).normal(0.4, 0.35, (draws, 10))
    covered = np.ones(draws, dtype=bool)
    for n, level in zip(looks.seeds, look_levels(looks, 0.05), strict=True):
        low, high = interval(summary(differences[:, :n]), 1 - level)
        covered &= (low <= 0.4) & (high >= 0.4)
    assert np.mean(covered) > 0.95 - 4 * math.sqrt(0.05 * 0.95 / draws)


def test_looks_are_declared_in_words_that_are_checked() -> None:
    assert Looks.parse("5, 10,20") == Looks((5, 10, 20))
    assert Looks.parse("5,10", "pocock").spending == "pocock"
    for text in ("", "5,x", "10,5", "2,5", "5,5", "-3,5", "5.0"):
        with pytest.raises(UserError):
            Looks.parse(text)
    assert (PLANS[0].after(0), PLANS[0].after(5), PLANS[0].after(19), PLANS[0].after(20)) == (5, 10, 20, None)
