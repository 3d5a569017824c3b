"""A run that is killed at any moment ends, once resumed, byte for byte as if never interrupted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from killing import kill_and_compare

KILLS = 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_a_run_ends_the_same(seed: int, tmp_path: Path, proved: Callable[[str], None]) -> None:
    tally = kill_and_compare(tmp_path, KILLS, seed)
    proved(f"exact resume: {tally}")
    assert tally.kills.total() >= KILLS
    assert tally.half_written > 0  # else no kill struck where it hurts most
    assert tally.differing == 0
