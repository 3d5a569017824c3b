from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from repro.analysis.stats.estimates import p_two_sided, paired
from repro.analysis.stats.holm import holm

CELLS_OF_TABLE_1, ROWS_OF_TABLE_2, LOSSES_OF_TABLE_2 = 6, 5, 3


def p_of_both_tables(true_deltas: np.ndarray, draws: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """p-values (draws, 21) of simulated tables; the three losses of a row of Table 2 share its cross-entropy runs."""
    own = rng.normal(0, 0.25, (draws, CELLS_OF_TABLE_1, n)) - rng.normal(0, 0.25, (draws, CELLS_OF_TABLE_1, n))
    shared = rng.normal(0, 0.25, (draws, ROWS_OF_TABLE_2, 1, n))
    losses = rng.normal(0, 0.25, (draws, ROWS_OF_TABLE_2, LOSSES_OF_TABLE_2, n)) - shared
    differences = np.concatenate([own, losses.reshape(draws, -1, n)], axis=1) + true_deltas[:, None]
    return p_two_sided(paired(differences.mean(-1), differences.std(-1, ddof=1), np.full(differences.shape[:-1], n)))


@pytest.mark.parametrize("cells", [1, 2, 21])
def test_it_is_statsmodels_holm(cells: int) -> None:
    rng = np.random.default_rng(cells)
    p = rng.uniform(size=(2, cells)) ** 4  # two: statsmodels takes a tenth of a second for each
    p[1, : cells // 2] = p[1, :1]  # ties
    theirs = np.array([multipletests(row, method="holm")[1] for row in p])
    np.testing.assert_allclose(holm(p), theirs, rtol=1e-12)


def test_the_order_of_cells_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    p = rng.uniform(size=21) ** 3
    order = rng.permutation(21)
    assert (holm(p[order]) == holm(p)[order]).all()


@pytest.mark.parametrize("n", [3, 5])
def test_no_effect_at_all_is_called_one_in_at_most_5_percent_of_reproductions(n: int) -> None:
    draws = 20_000
    p = p_of_both_tables(np.zeros(21), draws, n, np.random.default_rng(n))
    wrong = np.mean((holm(p) < 0.05).any(axis=1))
    error = math.sqrt(0.05 * 0.95 / draws)
    assert wrong < 0.05 + 4 * error
    assert wrong > 0.04  # and it is not bought by never finding anything
    assert np.mean((p < 0.05).any(axis=1)) > 0.5  # what it protects from


def test_nor_when_some_effects_are_real() -> None:
    draws = 20_000
    true_deltas = np.where(np.arange(21) % 2 == 0, 1.5, 0.0)
    found = holm(p_of_both_tables(true_deltas, draws, 8, np.random.default_rng(9))) < 0.05
    absent = true_deltas == 0
    assert np.mean(found[:, absent].any(axis=1)) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / draws)
    assert found[:, ~absent].mean() > 0.99


def test_a_cell_that_was_not_run_changes_no_other() -> None:
    p = np.array([0.001, 0.2, 0.01])
    with_missing = holm([*p, 1.0])
    assert with_missing[3] == 1.0
    # Run later, whatever it shows, it can only lower what stands for the others.
    for later in (0.9, 0.05, 1e-6):
        assert (holm([*p, later])[:3] <= with_missing[:3]).all()


def test_a_cell_that_is_not_asked_is_not_of_the_family() -> None:
    of_three = holm([0.01, 0.03, 0.04])
    with_others = holm([0.01, np.nan, 0.03, np.nan, 0.04])
    assert list(with_others[[0, 2, 4]]) == list(of_three)
    assert np.isnan(with_others[[1, 3]]).all()
