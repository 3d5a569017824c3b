"""Simulations run in blocks: bounded memory, and the numbers of a simulation in one piece."""

import tracemalloc

import numpy as np
import pytest

from repro.analysis.stats import simulation
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import Printed
from repro.analysis.stats.simulation import BLOCK_RUNS, blocks, expected_course, verdict_chances

DELTAS = [[0.5, -0.8, 1.0], [0.0, 1.2]]


@pytest.mark.parametrize("block_runs", [1, 100])
def test_no_number_depends_on_the_size_of_a_block(block_runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = blocks(DELTAS, 4, 0.25, 50)
    monkeypatch.setattr(simulation, "BLOCK_RUNS", block_runs)
    parts = list(blocks(DELTAS, 4, 0.25, 50))
    assert len(parts) == {1: 50, 100: 17}[block_runs]
    for row, of_parts in zip(whole, zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(np.concatenate(of_parts), row)


def test_the_chances_and_the_course_are_the_same_at_every_call() -> None:
    first, again = (verdict_chances(DELTAS, 6, run_std=0.25) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    reproduced, refuted = first
    assert reproduced.min() > 0.3
    assert max(refuted[0], refuted[3]) < 0.01  # none is printed, or no more than what matters
    courses = [expected_course(DELTAS, Looks((5, 10), "pocock"), others=Printed.of([]), scale=1.0) for _ in range(2)]
    assert courses[0] == courses[1]
    assert 5 * 7 <= courses[0].runs <= 10 * 7


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_for_a_spread_decide_nothing(seeds: int) -> None:
    assert not np.any(verdict_chances(DELTAS, seeds, run_std=0.25))


@pytest.mark.parametrize("seeds", [400, 2_000])
def test_memory_does_not_grow_with_the_number_of_seeds(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "VERDICT_DRAWS", 400)
    monkeypatch.setattr(simulation, "COURSE_DRAWS", 400)
    monkeypatch.setattr(simulation, "BLOCK_RUNS", BLOCK_RUNS // 8)
    verdict_chances(DELTAS, 3, run_std=0.25)  # imports SciPy's functions
    tracemalloc.start()
    try:
        verdict_chances(DELTAS, seeds, run_std=0.25)
        expected_course(DELTAS, Looks((5, seeds)), others=Printed.of([]), scale=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 9 * 8 * BLOCK_RUNS // 8, "in one piece, 400 draws of 2,000 seeds take 9 times as much"


def test_what_the_paper_rounds_to_is_that_of_each_cell() -> None:
    """A difference of 0.08 is none where the paper prints one decimal, and one where it prints two."""
    rows, looks, others = [[0.08], [0.45]], Looks((5, 10, 20), "pocock"), Printed.of([])
    coarse, fine, mixed = (
        expected_course(rows, looks, others=others, scale=1.0, unit=unit) for unit in (0.1, 0.01, (0.1, 0.01))
    )
    assert coarse.cell_seeds[0] < fine.cell_seeds[0]
    assert fine.decided < coarse.decided - 0.2
    assert mixed.decided > fine.decided + 0.2
