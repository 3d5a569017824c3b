"""The rule of older preregistrations: it has to go on saying what it said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from repro.analysis.stats.decision_rule import Printed, Verdict
from repro.analysis.stats.estimates import CONFIDENCE, Estimate, interval, p_two_sided, paired
from repro.analysis.stats.half_delta_rule import HALF_DELTA, MARGIN
from repro.analysis.stats.row import Measured

RUN_STD = 0.25
STD = RUN_STD * math.sqrt(2)  # of a difference of independent runs


def measured(estimate: Estimate) -> Measured:
    return Measured(estimate, estimate, estimate)


def cell_p(estimate: Estimate, paper: object) -> np.ndarray:
    return HALF_DELTA.p(measured(estimate), Printed.of(np.asarray(paper, np.float64)))[0]


def judge(estimate: Estimate, paper: object, p_adjusted: object) -> np.ndarray:
    p = np.asarray(p_adjusted, np.float64)[None]
    return HALF_DELTA.judge(measured(estimate), Printed.of(np.asarray(paper, np.float64)), p, 0.05, CONFIDENCE)


# mean, std, n, the paper's delta, adjusted p: one case for each branch
CASES = [
    (1.0, 0.3, 5, 1.0, 0.01, "reproduced"),
    (0.6, 0.3, 5, 1.0, 0.01, "reproduced"),
    (0.4, 0.1, 5, 0.9, 0.01, "partly"),  # significant, but under half
    (2.0, 0.1, 5, 1.0, 0.01, "partly"),  # significant, but the paper's delta lies outside what a run would show
    (0.4, 0.6, 5, 1.0, 0.20, "undecided"),
    (0.0, 0.2, 5, 1.0, 1.00, "not reproduced"),
    (-1.0, 0.2, 5, 1.0, 0.01, "not reproduced"),  # significant the wrong way
    (0.3, 0.1, 5, 1.0, 0.06, "not reproduced"),  # not significant after Holm, and half of the paper's excluded
    (0.9, 0.1, 5, 1.0, 0.06, "undecided"),
    (math.nan, math.nan, 0, 1.0, 1.00, "undecided"),
    (1.0, 0.0, 5, 1.0, 1.00, "undecided"),  # no spread, no test
]
AT_ZERO = [
    (0.1, 0.2, 8, 0.01, "reproduced"),
    (0.25, 0.05, 8, 0.01, "partly"),  # a difference, though within the margin
    (0.9, 0.2, 8, 1.00, "not reproduced"),
    (-0.9, 0.2, 8, 1.00, "not reproduced"),
    (0.45, 0.2, 8, 0.30, "undecided"),
    (0.6, 0.2, 8, 1.00, "undecided"),  # beyond the margin, but the interval reaches into it
]


def verdict(mean: float, std: float, n: int, paper: float, p: float) -> str:
    return str(judge(paired(mean, std, n), paper, p))


@pytest.mark.parametrize(("mean", "std", "n", "paper", "p", "expected"), CASES)
def test_each_branch_is_reached(mean: float, std: float, n: int, paper: float, p: float, expected: str) -> None:
    assert verdict(mean, std, n, paper, p) == expected


@pytest.mark.parametrize(("mean", "std", "n", "paper", "p", "expected"), CASES)
def test_a_negative_delta_is_the_mirror(mean: float, std: float, n: int, paper: float, p: float, expected: str) -> None:
    assert verdict(-mean, std, n, -paper, p) == expected


@pytest.mark.parametrize(("mean", "std", "n", "p", "expected"), AT_ZERO)
@pytest.mark.parametrize("sign", [1, -1])
def test_where_the_paper_prints_none_none_is_what_is_shown(
    mean: float, std: float, n: int, p: float, expected: str, sign: int
) -> None:
    assert verdict(sign * mean, std, n, 0.0, p) == expected
    assert verdict(sign * mean, std, n, -0.0, p) == expected


def test_the_p_of_a_cell_asks_for_a_difference_or_for_none() -> None:
    estimate = paired(np.full(3, 0.1), np.full(3, 0.2), np.full(3, 8))
    difference, none, unprinted = cell_p(estimate, [1.0, 0.0, math.nan])
    t = 0.1 / (0.2 / math.sqrt(8))
    assert difference == unprinted == pytest.approx(2 * scipy.stats.t.sf(t, 7))
    assert none == pytest.approx(scipy.stats.t.sf((MARGIN - 0.1) / (0.2 / math.sqrt(8)), 7))


def rule(mean: np.ndarray, std: np.ndarray, n: int, paper: float, cells: int) -> np.ndarray:
    """The protocol written a second time, for a positive delta and Bonferroni's adjustment over ``cells``."""
    t = scipy.stats.t(n - 1)
    p = np.minimum(1, cells * 2 * t.sf(np.abs(mean) / std * math.sqrt(n)))
    found = (p < 0.05) & (mean > 0)
    fits = np.abs(mean - paper) <= t.ppf(0.975) * std * math.sqrt(1 + 1 / n)
    upper = mean + t.ppf(0.975) * std / math.sqrt(n)
    verdicts = np.full(mean.shape, "undecided", dtype="U14")
    verdicts[~found & (upper < paper / 2)] = "not reproduced"
    verdicts[found] = "partly"
    verdicts[found & (mean >= paper / 2) & fits] = "reproduced"
    return verdicts


def expected_rates(truth: float, n: int, paper: float, cells: int) -> dict[str, float]:
    """The rate of each verdict by quadrature over the mean (normal) and the spread (chi), which are independent."""
    quantiles = (np.arange(600) + 0.5) / 600
    mean = truth + scipy.stats.norm.ppf(quantiles) * STD / math.sqrt(n)
    std = STD * np.sqrt(scipy.stats.chi2.ppf((np.arange(120) + 0.5) / 120, n - 1) / (n - 1))
    verdicts = rule(*np.meshgrid(mean, std), n, paper, cells)
    return {name: float(np.mean(verdicts == name)) for name in Verdict}


def simulated_rates(truth: float, n: int, paper: float, cells: int, draws: int, seed: int) -> dict[str, float]:
    differences = np.random.default_rng(seed).normal(truth, STD, (draws, n))
    estimate = paired(differences.mean(-1), differences.std(-1, ddof=1), np.full(draws, n))
    verdicts = judge(estimate, np.full(draws, paper), np.minimum(1, cells * cell_p(estimate, paper)))
    return {name: float(np.mean(verdicts == name)) for name in Verdict}


def assert_rates_as_implied(share: float, paper: float, n: int, cells: int, draws: int) -> None:
    for name, rate in expected_rates(share * paper, n, paper, cells).items():
        tolerance = 4 * math.sqrt(max(rate * (1 - rate), 1e-4) / draws) + 0.003  # 0.003: the quadrature's own
        for sign in (1, -1):
            simulated = simulated_rates(sign * share * paper, n, sign * paper, cells, draws, seed=n)
            assert abs(simulated[name] - rate) < tolerance, (name, sign)


@pytest.mark.parametrize("cells", [1, 21])
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_rate_of_each_verdict_is_what_the_protocol_implies(share: float, n: int, cells: int) -> None:
    assert_rates_as_implied(share, 1.0, n, cells, draws=4_000)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("paper", [0.4, 0.7, 1.5])
def test_and_so_it_is_for_small_and_large_deltas(paper: float, n: int) -> None:
    for share in (0.0, 0.5, 1.0):
        for cells in (1, 21):
            assert_rates_as_implied(share, paper, n, cells, draws=20_000)


def test_the_measured_properties_of_the_protocol_hold() -> None:
    """An effect as large as the paper's is called reproduced 99% of the time, an absent one at most 1%."""
    assert simulated_rates(1.2, 5, 1.2, 1, 20_000, seed=0)["reproduced"] > 0.99
    for paper in (0.1, 0.6, 1.5):
        for n in (3, 5, 10):
            assert simulated_rates(0.0, n, paper, 21, 10_000, seed=n)["reproduced"] < 0.01


def test_an_effect_that_is_there_is_hardly_ever_called_absent_and_the_other_way_round() -> None:
    for n in (3, 5, 10):
        assert simulated_rates(1.0, n, 1.0, 21, 20_000, seed=n)["not reproduced"] < 0.01
        at_half = simulated_rates(0.5, n, 1.0, 21, 20_000, seed=n)["not reproduced"]
        assert at_half < 0.025 + 4 * math.sqrt(0.025 / 20_000)


def test_where_the_paper_prints_none_the_error_rates_hold_too() -> None:
    draws, n = 20_000, 10

    def rates(truth: float) -> dict[str, float]:
        return simulated_rates(truth, n, 0.0, 1, draws, seed=1)

    error = 4 * math.sqrt(0.05 * 0.95 / draws)
    at_the_margin = rates(MARGIN)
    assert at_the_margin["reproduced"] + at_the_margin["partly"] < 0.05 + error
    assert at_the_margin["not reproduced"] < 0.025 + error
    none = rates(0.0)
    assert none["reproduced"] > 0.95
    assert none["not reproduced"] < 0.001
    assert rates(2 * MARGIN)["not reproduced"] > 0.95


def test_significance_alone_and_the_interval_agree() -> None:
    differences = np.random.default_rng(2).normal(0.3, STD, (2_000, 5))
    estimate = Estimate(
        *(
            np.asarray(part)
            for part in (differences.mean(-1), differences.std(-1, ddof=1) / math.sqrt(5), np.full(2_000, 4.0))
        )
    )
    low, high = interval(estimate)
    assert ((p_two_sided(estimate) < 0.05) == ((low > 0) | (high < 0))).all()
