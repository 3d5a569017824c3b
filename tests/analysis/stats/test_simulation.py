"""Simulations run in blocks: bounded memory, and the numbers of a simulation in one piece."""

import tracemalloc

import numpy as np
import pytest

from repro.analysis.stats import simulation
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.simulation import BLOCK_RUNS, expected_course, verdict_chances

DELTAS = [[0.5, -0.8, 1.0], [0.0, 1.2]]


def in_one_piece(rows: list[list[float]], seeds: int, run_std: float, draws: int) -> np.ndarray:
    """The differences as they were simulated before there were blocks: published plans rest on these numbers."""
    rng = np.random.default_rng(0)
    differences = []
    for row in rows:
        losses = rng.normal(0, run_std, (draws, len(row), seeds))
        differences.append(losses - rng.normal(0, run_std, (draws, 1, seeds)))
    return np.concatenate(differences, axis=1)


@pytest.mark.parametrize("block_runs", [1, 100, 10**6])
def test_no_number_depends_on_the_size_of_a_block(block_runs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "BLOCK_RUNS", block_runs)
    blocks = list(simulation._blocks(DELTAS, 4, 0.25, 50))
    assert len(blocks) == {1: 50, 100: 17, 10**6: 1}[block_runs]
    np.testing.assert_array_equal(np.concatenate(blocks), in_one_piece(DELTAS, 4, 0.25, 50))


def test_the_chances_and_the_course_are_those_of_the_published_plans() -> None:
    reproduced, refuted = verdict_chances(DELTAS, 6, run_std=0.25)
    np.testing.assert_array_equal(reproduced, [0.71125, 0.963, 0.9925, 0.7195, 0.99775])
    np.testing.assert_array_equal(refuted, [0.29875, 0.6115, 0.7795, 0.0, 0.90325])
    course = expected_course(DELTAS, Looks((5, 10), "pocock"), family=5, scale=1.0)
    assert (course.runs, course.decided) == (pytest.approx(51.085), pytest.approx(0.967))


@pytest.mark.parametrize("seeds", [400, 2_000])
def test_memory_does_not_grow_with_the_number_of_seeds(seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "VERDICT_DRAWS", 400)
    monkeypatch.setattr(simulation, "COURSE_DRAWS", 400)
    monkeypatch.setattr(simulation, "BLOCK_RUNS", BLOCK_RUNS // 8)
    verdict_chances(DELTAS, 3, run_std=0.25)  # imports SciPy's functions
    tracemalloc.start()
    try:
        verdict_chances(DELTAS, seeds, run_std=0.25)
        expected_course(DELTAS, Looks((5, seeds)), family=5, scale=1.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * BLOCK_RUNS // 8, "in one piece, 400 draws of 2,000 seeds take 12 times as much"
