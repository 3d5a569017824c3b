"""Several runs measured at once, on the CPU, where it can be tried."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from repro.cli.sweep.placement import choose_jobs_per_gpu
from repro.cli.sweep.request import parse_jobs_per_gpu
from repro.errors import UserError
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run
from repro.machine import GpuMemory, mps_is_running
from repro.sweep.cost.gpu_sharing import FULL_STEPS, _images_per_second, measure_together
from repro.sweep.devices.packing import Shared
from repro.sweep.devices.slots import Slot

CPU = Slot("cpu", "cpu", 1, {"OMP_NUM_THREADS": "1"})
GPU = Slot("cuda:0", "cuda", 1)
GPU_MEMORY = GpuMemory("GPU-a", 80 * 10**9, 80 * 10**9)


@pytest.mark.slow
def test_two_runs_are_measured_together() -> None:
    shared = measure_together(find_table("demo").cells[0], CPU, jobs=2, seconds=0.3)
    assert shared.jobs == 2
    assert shared.images_per_second > 0
    assert shared.memory_bytes == 0  # of a GPU


@pytest.mark.slow
def test_a_run_that_cannot_be_measured_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = Slot("cuda:9", "cuda:9", 1)
    with pytest.raises(UserError, match="the measurement failed: "):
        measure_together(find_table("demo").cells[0], nowhere, jobs=1, seconds=0.1)


def test_auto_or_a_number() -> None:
    assert parse_jobs_per_gpu("auto") is None
    assert parse_jobs_per_gpu("3") == 3


@pytest.mark.parametrize("text", ["0", "65", "-1", "many", "1.5", ""])
def test_neither_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="neither auto nor a number"):
        parse_jobs_per_gpu(text)


def test_auto_measures_each_kind_once_and_says_what_it_chose(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, int]] = []

    def fake(cell: Cell, slot: Slot, jobs: int) -> Shared:
        asked.append((cell.row.id, jobs))
        return Shared(jobs, 1000.0 * min(jobs, 2), 10**9)

    monkeypatch.setattr("repro.sweep.cost.gpu_sharing.measure_together", fake)
    monkeypatch.setattr("repro.sweep.cost.gpu_sharing.memory_by_torch", lambda slot: GPU_MEMORY)
    table = find_table("table2")
    runs = [Run(cell=cell, seed=seed) for seed in range(2) for cell in table.cells if cell.row.id != "nasnet_a"]
    assert choose_jobs_per_gpu(runs, [GPU], cores=16) == 2
    assert asked == [(row.id, jobs) for row in table.rows if row.id != "nasnet_a" for jobs in (1, 2, 4)]
    said = capsys.readouterr().err
    assert "2 runs at a time on each GPU: 2.00 times as fast" in said
    assert "2.0 GB of 80.0 GB" in said


def test_cores_limit_what_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "repro.sweep.cost.gpu_sharing.measure_together", lambda cell, slot, jobs: Shared(jobs, 1000.0 * jobs, 10**9)
    )
    monkeypatch.setattr("repro.sweep.cost.gpu_sharing.memory_by_torch", lambda slot: GPU_MEMORY)
    runs = [Run(cell=find_table("demo").cells[0], seed=seed) for seed in range(20)]
    assert choose_jobs_per_gpu(runs, [GPU, GPU], cores=6) == 2  # two measured of the three that the cores allow
    assert choose_jobs_per_gpu(runs, [CPU], cores=6) == 1


def test_mps_is_found_where_its_daemon_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not mps_is_running()
    (tmp_path / "control").touch()
    assert mps_is_running()


def test_the_speed_is_that_of_full_batches() -> None:
    """A short batch, once an epoch, is slower an image."""
    taken: list[int] = []
    training = SimpleNamespace(
        learner=SimpleNamespace(train_on_batch=taken.append),
        feed=SimpleNamespace(begin_epoch=lambda _epoch: None),
        recipe=SimpleNamespace(batch_size=128),
        device=SimpleNamespace(type="cpu"),
    )
    assert _images_per_second(training, 1e-9, FULL_STEPS) > 0
    assert taken == list(range(FULL_STEPS))
