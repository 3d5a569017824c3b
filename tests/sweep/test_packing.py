"""How many runs share a GPU: never more than fit, and only as many as pay."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

from repro.sweep.devices.packing import RESERVE, Kind, Shared, explore, fits, memory_of, pack, seconds_of_all

GIB = 2**30


def kind(rates: Mapping[int, float], *, memory: int = GIB, runs: int = 100, images: float = 1e6) -> Kind:
    return Kind(runs, images, memory, rates)


def test_runs_that_leave_the_gpu_idle_share_it_until_it_does_not_pay() -> None:
    small = kind({1: 100.0, 2: 190.0, 4: 300.0, 8: 305.0})
    assert pack([small], free_bytes=80 * GIB, limit=16).jobs == 4
    assert pack([small], free_bytes=80 * GIB, limit=16).speedup == pytest.approx(3.0)


def test_a_run_that_fills_the_gpu_has_it_alone() -> None:
    assert pack([kind({1: 100.0, 2: 101.0})], free_bytes=80 * GIB, limit=16).jobs == 1


def test_memory_limits_before_speed_does() -> None:
    packing = pack([kind({1: 100.0, 2: 200.0, 4: 400.0, 8: 800.0}, memory=10 * GIB)], free_bytes=24 * GIB, limit=16)
    assert (packing.jobs, packing.memory_bytes) == (2, 20 * GIB)


def test_the_largest_runs_may_meet() -> None:
    large = kind({1: 100.0, 2: 200.0}, memory=15 * GIB, runs=2)
    small = kind({1: 100.0, 2: 200.0, 4: 400.0}, memory=GIB)
    assert memory_of([small, large], 3) == 31 * GIB
    assert pack([small, large], free_bytes=24 * GIB, limit=4).jobs == 1
    assert pack([small, large], free_bytes=34 * GIB, limit=4).jobs == 3


def test_what_does_not_fit_even_alone_is_tried_alone() -> None:
    assert pack([kind({1: 1.0}, memory=30 * GIB)], free_bytes=24 * GIB, limit=4).jobs == 1


def test_kinds_weigh_as_much_as_their_work() -> None:
    shares = kind({1: 100.0, 2: 200.0})
    suffers = kind({1: 100.0, 2: 80.0})
    mostly_shares = [shares, Kind(10, 1e4, GIB, suffers.rates)]
    mostly_suffers = [Kind(10, 1e4, GIB, shares.rates), suffers]
    assert pack(mostly_shares, free_bytes=80 * GIB, limit=2).jobs == 2
    assert pack(mostly_suffers, free_bytes=80 * GIB, limit=2).jobs == 1


def test_rates_between_measured_numbers_are_interpolated() -> None:
    measured = kind({1: 100.0, 2: 200.0, 4: 300.0})
    assert [measured.rate(jobs) for jobs in (1, 2, 3, 4, 9)] == [100, 200, 250, 300, 300]


@pytest.mark.parametrize("seed", range(200))
def test_the_choice_fits_and_is_within_tolerance_of_the_best(seed: int) -> None:
    chance = random.Random(seed)
    kinds = []
    for _ in range(chance.randint(1, 5)):
        rates, rate = {}, chance.uniform(1e3, 1e5)
        for jobs in (1, 2, 4, 8)[: chance.randint(1, 4)]:
            rates[jobs] = rate
            rate *= chance.uniform(0.8, 2)
        kinds.append(Kind(chance.randint(1, 20), chance.uniform(1e6, 1e9), chance.randint(GIB // 2, 20 * GIB), rates))
    free, limit = chance.randint(4 * GIB, 80 * GIB), chance.randint(1, 16)
    packing = pack(kinds, free_bytes=free, limit=limit)
    assert 1 <= packing.jobs <= limit
    assert packing.jobs == 1 or packing.memory_bytes <= (1 - RESERVE) * free
    best = min(seconds_of_all(kinds, jobs) for jobs in range(1, limit + 1) if jobs == 1 or fits(kinds, jobs, free))
    assert seconds_of_all(kinds, packing.jobs) <= 1.05 * best + 1e-9


@pytest.mark.parametrize(
    ("scaling", "memory", "limit", "tried"),
    [
        ({1: 1, 2: 2, 4: 4, 8: 8, 16: 16}, GIB, 64, [1, 2, 4, 8, 16]),
        ({1: 1, 2: 2, 4: 2.05, 8: 9}, GIB, 64, [1, 2, 4]),
        ({1: 1, 2: 0.9}, GIB, 64, [1, 2]),
        ({1: 1, 2: 2, 4: 4}, 10 * GIB, 64, [1, 2]),
        ({1: 1}, 20 * GIB, 64, [1]),
        ({1: 1, 2: 2}, GIB, 3, [1, 2]),
    ],
)
def test_more_is_measured_only_where_it_can_pay_and_fits(
    scaling: Mapping[int, float], memory: int, limit: int, tried: list[int]
) -> None:
    asked = []

    def measure(jobs: int) -> Shared:
        asked.append(jobs)
        return Shared(jobs, 1000.0 * scaling[jobs], memory)

    found, measured = explore(measure, runs=50, images=1e6, free_bytes=24 * GIB, limit=limit)
    assert asked == tried
    assert [shared.jobs for shared in measured] == tried
    assert found.rates[1] == 1000.0


def test_memory_that_grows_when_shared_is_counted() -> None:
    found, _ = explore(
        lambda jobs: Shared(jobs, 1000.0 * jobs, jobs * GIB), runs=50, images=1e6, free_bytes=24 * GIB, limit=64
    )
    assert found.memory_bytes == 4 * GIB  # eight of them would not fit
    assert set(found.rates) == {1, 2, 4}
