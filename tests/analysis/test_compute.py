from __future__ import annotations

from typing import Any

import pytest

from repro.analysis.compute import Spent, compute_of, gpu_hours
from repro.experiment.config import find_table

HOUR = 3600.0


def spent(start: float, end: float, **changes: Any) -> Spent:
    """A run on the GPU A from ``start`` to ``end``, in hours."""
    facts: dict[str, Any] = {
        "table": "table1",
        "host": "node1",
        "device": "cuda",
        "device_name": "NVIDIA H200",
        "gpu": "A",
        "threads": 8,
        "seconds": (end - start) * HOUR,
        "window": (start * HOUR, end * HOUR),
        "is_resumed": False,
        "is_diverged": False,
        "images_per_second": 1000.0,
        "peak_memory_bytes": None,
    }
    return Spent(**{**facts, **changes})


def resumed(start: float, end: float, hours: float, **changes: Any) -> Spent:
    """A run that was interrupted, and trained for so many of these hours."""
    return spent(start, end, seconds=hours * HOUR, is_resumed=True, **changes)


UNKNOWN: dict[str, Any] = {"gpu": ""}
NO_TIME: dict[str, Any] = {"window": (float("-inf"), float("inf"))}


@pytest.mark.parametrize(
    ("runs", "least", "most"),
    [
        ([spent(0, 2)], 2, 2),
        ([spent(0, 2), spent(1, 3), spent(1.5, 2)], 3, 3),
        ([spent(0, 2), spent(2, 3), spent(5, 6)], 4, 4),
        ([spent(0, 2), spent(0, 2, host="node2")], 4, 4),
        ([spent(0, 2), spent(0, 2, gpu="B")], 4, 4),
        ([spent(0, 2), spent(0, 2, device_name="NVIDIA A100")], 4, 4),
        # An interrupted run counts its own time, not the pause.
        ([resumed(0, 10, 2)], 2, 2),
        ([resumed(0, 10, 2), spent(10, 11)], 3, 3),
        # Whether it trained beside the other is not recorded.
        ([resumed(0, 10, 2), spent(4, 5)], 2, 3),
        ([resumed(0, 10, 2), spent(3, 8)], 5, 7),
        # Which GPU of its host a run had is not recorded.
        ([spent(0, 2, **UNKNOWN), spent(3, 4, **UNKNOWN)], 3, 3),
        ([spent(0, 2, **UNKNOWN), spent(1, 3, **UNKNOWN)], 3, 4),
        ([spent(0, 2, **UNKNOWN), spent(1, 3)], 3, 4),
        ([spent(0, 2, **UNKNOWN), spent(0, 2, host="node2", **UNKNOWN)], 4, 4),
        # Neither is when.
        ([spent(0, 2, **NO_TIME)], 2, 2),
        ([spent(0, 2, **NO_TIME), spent(0, 1)], 2, 3),
    ],
)
def test_runs_that_shared_a_gpu_count_once(runs: list[Spent], least: float, most: float) -> None:
    assert gpu_hours(runs) == pytest.approx((least, most))
    assert gpu_hours(reversed(runs)) == pytest.approx((least, most))


def test_core_hours_are_threads_times_hours() -> None:
    cpu: dict[str, Any] = {"device": "cpu", "device_name": "AMD EPYC", "gpu": ""}
    compute = compute_of([spent(0, 2, **cpu), spent(0, 2, **{**cpu, "threads": 1}), spent(0, 1)], ["table1"])
    assert compute is not None
    assert (compute.core_hours, compute.gpu_hours) == (18, (1, 1))
    assert dict(compute.workers) == {"AMD EPYC, 8 threads a run": 1, "AMD EPYC, 1 thread a run": 1, "NVIDIA H200": 1}


def test_borrowed_runs_are_counted_and_nothing_else() -> None:
    own = spent(0, 2, peak_memory_bytes=3, is_diverged=True)
    compute = compute_of([own, spent(0, 5, table="table2", peak_memory_bytes=9)], ["table1"])
    assert compute is not None
    assert (compute.runs, compute.borrowed, compute.diverged, compute.seconds) == (1, 1, 1, (2 * HOUR,))
    assert (compute.gpu_hours, compute.peak_memory_bytes) == ((2, 2), (("cuda", 3),))
    alone = compute_of([spent(0, 5, table="table2")], ["table1"])
    assert alone is not None
    assert (alone.runs, alone.borrowed, alone.gpu_hours, alone.images_per_second) == (0, 1, None, None)


def test_the_time_of_a_run_is_a_median_and_the_memory_the_most() -> None:
    runs = [spent(0, hours, images_per_second=hours, peak_memory_bytes=int(hours)) for hours in (4, 1, 3)]
    compute = compute_of(runs, ["table1"])
    assert compute is not None
    assert compute.seconds == (1 * HOUR, 3 * HOUR, 4 * HOUR)
    assert (compute.median_seconds, compute.images_per_second) == (3 * HOUR, 3)
    assert compute.peak_memory_bytes == (("cuda", 4),)


def test_a_run_that_finished_no_epoch_is_in_no_median_of_speeds() -> None:
    diverged = spent(0, 1, images_per_second=0.0, is_diverged=True)
    compute = compute_of([diverged, spent(1, 2), spent(2, 3, images_per_second=3000.0)], ["table1"])
    assert compute is not None
    assert (compute.images_per_second, compute.gpu_hours) == (2000, (3, 3))
    alone = compute_of([diverged], ["table1"])
    assert alone is not None
    assert alone.images_per_second is None


def test_without_runs_there_is_nothing_to_say() -> None:
    assert compute_of([], ["table1"]) is None


def test_what_a_run_took_is_read_from_its_record(fake_runs: Any) -> None:
    record = fake_runs.of(find_table("table1"), [0])[0].record
    found = Spent.of(record)
    assert found is not None
    assert found.busy == found.window
    assert found.seconds == found.window[1] - found.window[0] == HOUR
    assert (found.table, found.device_name) == ("table1", record.provenance.device_name)
    timeless = record.provenance.model_copy(update={"finished_at": "once"})
    found = Spent.of(record.model_copy(update={"provenance": timeless}))
    assert found is not None
    assert found.busy is None


def test_energy_is_summed_over_the_runs_that_recorded_it() -> None:
    found = compute_of([spent(0, 1, energy_joules=5.0), spent(1, 2, energy_joules=7.0), spent(2, 3)], ["table1"])
    assert found is not None
    assert found.energy == (12.0, 2)
