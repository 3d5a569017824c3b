from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from repro.analysis.stats.decision_rule import (
    SMALLEST_EFFECT,
    Asked,
    Printed,
    Verdict,
    cell_p,
    judge,
    main_test,
    prediction_interval,
)
from repro.analysis.stats.estimates import Estimate, paired
from repro.analysis.stats.holm import holm
from repro.analysis.stats.row import Measured, measure

NEVER = 1.0
# mean, sd of a single difference, the paper's delta, adjusted p of effect, opposite, small, incompatible: every branch
CASES = [
    (1.0, 0.4, 1.0, (0.01, 1.0, 1.0, 1.0), "reproduced"),
    (0.3, 0.4, 1.0, (0.01, 1.0, 0.02, 0.4), "reproduced"),  # small and found, and the paper's single runs may be so
    (0.1, 0.3, 1.0, (0.01, 1.0, 0.01, 0.3), "partly"),  # the paper's delta outside what two runs would show
    (2.0, 0.3, 1.0, (0.01, 1.0, 1.0, 0.01), "partly"),
    (-0.6, 0.4, 1.0, (1.0, 0.01, 1.0, 0.01), "opposite"),
    (-0.2, 0.4, 1.0, (1.0, 0.01, 0.01, 0.3), "opposite"),
    (0.0, 0.4, 1.0, (0.6, 1.0, 0.01, 0.2), "not reproduced"),  # smaller than what matters, and more is printed
    (-0.4, 0.4, 1.0, (1.0, 0.2, 0.4, 0.01), "not reproduced"),  # the printed number is rejected
    (0.0, 0.4, 0.4, (0.6, 1.0, 0.01, 1.0), "undecided"),  # small, as what is printed
    (0.0, 0.4, 1.0, (0.6, 1.0, 0.06, 0.06), "undecided"),  # outside two runs' range, but not after the adjustment
    (0.9, 0.4, 1.0, (0.06, 1.0, 1.0, 1.0), "undecided"),
    (math.nan, math.nan, 1.0, (1.0, 1.0, 1.0, 1.0), "undecided"),
]
AT_NONE = [
    (0.1, 0.4, 0.01, NEVER, "reproduced"),
    (0.3, 0.05, 0.01, 0.2, "partly"),
    (1.9, 0.4, 1.00, 0.01, "not reproduced"),
    (0.9, 0.4, 1.00, 0.20, "undecided"),
]


def verdict(mean: float, single_std: float, paper: float, p: tuple[float, ...]) -> str:
    df = np.asarray(8.0)
    estimate = Estimate(np.asarray(mean), np.asarray(0.1), df)
    measured = Measured(estimate, estimate, Estimate(np.asarray(mean), np.asarray(single_std), df))
    return str(judge(measured, Printed.of(paper), np.array([*p, math.nan])))


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("mean", "std", "paper", "p", "expected"), CASES)
def test_each_branch_is_reached(
    mean: float, std: float, paper: float, p: tuple[float, ...], expected: str, sign: int
) -> None:
    assert verdict(sign * mean, std, sign * paper, p) == expected


@pytest.mark.parametrize("paper", [0.0, 0.1, -0.1])
@pytest.mark.parametrize(("mean", "std", "small", "incompatible", "expected"), AT_NONE)
def test_where_the_difference_is_within_its_rounding_none_is_what_is_shown(
    mean: float, std: float, small: float, incompatible: float, expected: str, paper: float
) -> None:
    assert verdict(mean, std, paper, (math.nan, math.nan, small, incompatible)) == expected


def test_the_tests_of_a_cell() -> None:
    row = np.random.default_rng(0).normal(70, 0.3, (4, 6))
    measured = measure(row)
    papers = Printed.of([1.0, -1.0, 0.1, math.nan])
    p = cell_p(Measured(*(_repeat(part, 4) for part in (measured.pooled, measured.paired, measured.single))), papers)
    t = float(measured.pooled.value / measured.pooled.standard_error)
    df = float(measured.pooled.df)
    assert df == 15
    assert p[Asked.EFFECT, 0] == pytest.approx(scipy.stats.t.sf(t, df))
    assert p[Asked.EFFECT, 1] == p[Asked.OPPOSITE, 0] == pytest.approx(scipy.stats.t.cdf(t, df))
    near = (SMALLEST_EFFECT - abs(float(measured.pooled.value))) / float(measured.pooled.standard_error)
    assert p[Asked.SMALL, :3] == pytest.approx([scipy.stats.t.sf(near, df)] * 3)
    single = measured.single
    spread = math.hypot(float(single.standard_error), 0.1 / math.sqrt(6))  # two roundings, uniform within 0.1
    expected = 2 * scipy.stats.t.sf(abs(1.0 - float(single.value)) / spread, float(single.df))
    assert p[Asked.INCOMPATIBLE, 0] == pytest.approx(expected)
    assert p[Asked.DIFFERENCE, 3] == pytest.approx(scipy.stats.ttest_rel(row[1], row[0]).pvalue)
    # what is not asked is of no family
    assert np.isnan(p[Asked.DIFFERENCE, :3]).all()
    assert np.isnan(p[: Asked.DIFFERENCE, 3]).all()
    assert np.isnan(p[[Asked.EFFECT, Asked.OPPOSITE], 2]).all()
    assert list(main_test(papers)) == [Asked.EFFECT, Asked.EFFECT, Asked.SMALL, Asked.DIFFERENCE]
    low, high = prediction_interval(measured, Printed.of(1.0))
    assert (p[Asked.INCOMPATIBLE, 0] < 0.05) == (not low <= 1.0 <= high)


def _repeat(estimate: Estimate, times: int) -> Estimate:
    return Estimate(*(np.repeat(part, times) for part in (estimate.value, estimate.standard_error, estimate.df)))


def test_a_rounding_to_hundredths_has_a_smaller_unit() -> None:
    assert list(Printed.of([0.1, 0.1, 0.02], [0.1, 0.01, 0.01]).is_none) == [True, False, False]
    assert Printed.of(78.9 - 78.8).is_none  # 0.10000000000000853


def rule(rows: list[np.ndarray], papers: list[list[float]]) -> list[str]:
    """The rule written a second time, cell by cell, for one simulated table."""
    cells = [(row, arm, papers[index][arm - 1]) for index, row in enumerate(rows) for arm in range(1, len(row))]
    p: dict[str, list[float]] = {"effect": [], "opposite": [], "small": [], "incompatible": []}
    for row, arm, paper in cells:
        arms, n = row.shape
        mean = (row[arm] - row[0]).mean()
        residual = row - row.mean(1, keepdims=True) - row.mean(0, keepdims=True) + row.mean()
        noise = scipy.stats.t((arms - 1) * (n - 1), 0, math.sqrt(2 * (residual**2).sum() / (arms - 1) / (n - 1) / n))
        within = row.var(axis=1, ddof=1).mean()
        squares = [(residual**2).sum(), arms * ((row.mean(0) - row.mean()) ** 2).sum()]
        df = sum(squares) ** 2 / (squares[0] ** 2 / ((arms - 1) * (n - 1)) + squares[1] ** 2 / (n - 1))
        single = scipy.stats.t(df, mean, math.sqrt(2 * within + noise.kwds.get("scale", noise.args[2]) ** 2 + 0.01 / 6))
        has_direction = abs(paper) > 0.1001
        side = math.copysign(1, paper)
        p["effect"].append(noise.sf(side * mean) if has_direction else math.nan)
        p["opposite"].append(noise.sf(-side * mean) if has_direction else math.nan)
        p["small"].append(max(noise.sf(0.5 - mean), noise.sf(0.5 + mean)))
        p["incompatible"].append(2 * min(single.sf(paper), single.cdf(paper)))
    adjusted = {name: holm(values) for name, values in p.items()}
    verdicts = []
    for index, (_, _, paper) in enumerate(cells):
        effect, opposite, small, incompatible = (adjusted[name][index] < 0.05 for name in p)
        if small if abs(paper) < 0.1001 else effect:
            verdicts.append("reproduced" if p["incompatible"][index] >= 0.05 else "partly")
        elif opposite:
            verdicts.append("opposite")
        elif incompatible or (small and abs(paper) > 0.5):
            verdicts.append("not reproduced")
        else:
            verdicts.append("undecided")
    return verdicts


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("seeds", [3, 6])
def test_the_rule_is_the_one_written_a_second_time(seeds: int, scale: float) -> None:
    papers = [[1.0], [-0.9], [-0.6, 0.7, 1.5], [-0.4, 0.1, 1.0], [-0.8, 0.0, 1.0]]
    rng = np.random.default_rng([seeds, int(10 * scale) + 10])
    for _ in range(3):
        rows = []
        for paper in papers:
            rows.append(rng.normal(0, 0.25, (len(paper) + 1, seeds)) + scale * np.array([0.0, *paper])[:, None])
        found = []
        for row, paper in zip(rows, papers, strict=True):
            for arm in range(1, len(paper) + 1):
                others = [index for index in range(1, len(row)) if index != arm]
                found.append(measure(row[[0, arm, *others]]))
        parts = []
        for name in ("pooled", "paired", "single"):
            of_cells = [getattr(cell, name) for cell in found]
            parts.append(Estimate(*np.array([(one.value, one.standard_error, one.df) for one in of_cells]).T))
        measured, printed = Measured(*parts), Printed.of([delta for paper in papers for delta in paper])
        assert list(judge(measured, printed, holm(cell_p(measured, printed)))) == rule(rows, papers)


def test_the_estimate_of_a_cell_with_three_differences_is_not_that_of_another() -> None:
    """A cell without a printed difference is tested from its own differences alone, whatever the row has."""
    row = np.random.default_rng(3).normal(0, 0.3, (4, 5))
    alone, beside = measure(row[:2]), measure(row)
    nothing = Printed.of(math.nan)
    assert cell_p(alone, nothing)[Asked.DIFFERENCE] == cell_p(beside, nothing)[Asked.DIFFERENCE]
    theirs = paired((row[1] - row[0]).mean(), (row[1] - row[0]).std(ddof=1), 5)
    assert float(beside.paired.standard_error) == pytest.approx(float(theirs.standard_error))
    assert float(beside.pooled.standard_error) != float(alone.pooled.standard_error)


def test_every_verdict_has_a_word() -> None:
    assert {case[-1] for case in CASES} == {verdict.value for verdict in Verdict} - {"chance level"}
