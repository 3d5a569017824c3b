from __future__ import annotations

from dataclasses import replace

import pytest

from repro.analysis.compute import Compute
from repro.tables.compute_words import compute_paragraph, compute_parts, compute_text

COMPUTE = Compute(
    seconds=(3600.0, 4800.0, 7200.0),
    diverged=1,
    gpu_hours=(4.0, 4.0),
    core_hours=None,
    workers=(("NVIDIA H200", 3),),
    images_per_second=2140.4,
    peak_memory_bytes=(("cuda", 3_200_000_000),),
    energy=None,
    borrowed=0,
)


def test_a_footnote_says_time_total_and_speed_of_the_runs() -> None:
    assert compute_text(COMPUTE) == (
        "Compute: 3 runs (1 diverged), each 1 h 20 min (median; 1 h to 2 h); 4.0 GPU-hours in all on NVIDIA H200; "
        "2,140 images/s (median), up to 3.2 GB of GPU memory."
    )


def test_one_run_has_no_median() -> None:
    one = replace(COMPUTE, seconds=(360.0,), diverged=0, gpu_hours=(0.1, 0.1), peak_memory_bytes=())
    assert compute_parts(one) == ["1 run, 6 min", "0.1 GPU-hours in all on NVIDIA H200", "2,140 images/s"]


def test_runs_that_finished_no_epoch_have_no_speed() -> None:
    unknown = replace(COMPUTE, images_per_second=None)
    assert compute_parts(unknown)[2] == "up to 3.2 GB of GPU memory"
    assert len(compute_parts(replace(unknown, peak_memory_bytes=()))) == 2
    assert "A run took 1 h 20 min (median; 1 h to 2 h), at 2,140 images/s (median). " in compute_paragraph(COMPUTE)
    assert "A run took 1 h 20 min (median; 1 h to 2 h). " in compute_paragraph(unknown)


def test_an_unknown_sharing_is_a_range() -> None:
    shared = replace(COMPUTE, gpu_hours=(1.0, 4.0))
    why = "the records do not say which runs shared a GPU"
    assert f"1.0 to 4.0 GPU-hours in all on NVIDIA H200 ({why})" in compute_text(shared)
    assert f"Together they took 1.0 to 4.0 GPU-hours: {why}." in compute_paragraph(shared)


def test_several_kinds_of_device_have_their_numbers_of_runs() -> None:
    mixed = replace(COMPUTE, workers=(("NVIDIA H200", 2), ("AMD EPYC, 1 thread a run", 1)), core_hours=0.5)
    assert "4.0 GPU-hours and 0.5 core-hours in all on NVIDIA H200 (2 runs) and AMD EPYC, 1 thread a run (1 run);" in (
        compute_text(mixed)
    )


@pytest.mark.parametrize("core_hours", [None, 2.0])
def test_the_paragraph_answers_a_checklist(core_hours: float | None) -> None:
    said = compute_paragraph(replace(COMPUTE, core_hours=core_hours))
    for answer in ("on NVIDIA H200", "took 1 h 20 min (median; 1 h to 2 h)", "3.2 GB of GPU memory", "4.0 GPU-hours"):
        assert answer in said
    assert ("Core-hours are the threads of a run times its hours." in said) is (core_hours is not None)
    assert "Energy was not recorded." in said
    assert "Peak memory was not recorded." in compute_paragraph(replace(COMPUTE, peak_memory_bytes=()))


def test_energy_says_of_how_many_runs_it_is() -> None:
    all_runs, some = replace(COMPUTE, energy=(1.8e6, 3)), replace(COMPUTE, energy=(9e5, 2))
    assert compute_text(all_runs).endswith("up to 3.2 GB of GPU memory, 0.5 kWh of GPU energy.")
    assert "By the driver's counter this is 0.25 kWh of GPU energy for 2 of 3 runs." in compute_paragraph(some)


def test_borrowed_runs_are_said_once_and_have_no_figures() -> None:
    assert compute_text(replace(COMPUTE, borrowed=2)).count("2 borrowed runs not included") == 1
    alone = Compute((), 0, None, None, (), None, (), None, 2)
    assert (
        compute_text(alone) == "Compute: 2 borrowed runs not included: the table that recorded them has their figures."
    )
