from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table
from repro.machine import Gpu
from repro.sweep.devices import diagnostics as checkup
from repro.sweep.devices.diagnostics import Finding
from repro.wording import duration

Say = Callable[..., Any]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, no GPU, a torch that imports."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for where in ("repro.sweep.devices.diagnostics", "repro.machine"):
        monkeypatch.setattr(f"{where}.find_gpus", lambda: ())
        monkeypatch.setattr(f"{where}.usable_cores", lambda: 2)
    monkeypatch.setattr(checkup, "_probe_torch", lambda: {"cuda": False, "built": "13.0"})


def test_variables_that_are_not_obeyed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_QOS", "low")
    (found,) = (finding for finding in checkup.software() if finding.topic == "environment")
    assert found.level == "ok"
    assert "SBATCH_QOS" in found.text.removeprefix("set, but ignored by biasrepro: ").split(", ")


def test_a_bare_machine_is_well_and_told_what_to_fetch(say: Say, tmp_path: Path) -> None:
    said = say("doctor", "--no-measure", "--results", tmp_path / "r", "--root", tmp_path / "d")
    assert said.code == 0
    assert "Python 3." in said.out
    assert "torch 2." in said.out
    assert "2 cores to use" in said.out
    assert "missing  GPUs" in said.out
    assert f"biasrepro data fetch cifar100 --root {tmp_path / 'd'}" in said.out
    assert "168.5 MB to download" in said.out
    assert "ok       digits" in said.out
    assert "unknown for 100 of 100 runs" in said.out
    assert "biasrepro sweep demo" in said.out
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "d").exists()


def test_what_a_table_would_take_is_told(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.sweep.cost.estimate import Cost

    def measure(cells: list[Any], slot: Any, seconds: float) -> list[Cost]:
        return [Cost(18.0, 1_000, "measured") for _ in cells]

    monkeypatch.setattr("repro.cli.sweep.dry_run.measure", measure)
    said = say("doctor", "--results", tmp_path, "--root", tmp_path)
    demo = duration(18 * find_table("demo").recipe.epochs * 12 / 2)
    assert f"time     demo           about {demo} for 12 runs, 2 at a time on cpu" in said.out
    assert "time     table2         about 2 d 2 h for 100 runs, 2 at a time on cpu" in said.out


def test_a_torch_that_does_not_import_is_broken(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "_probe_torch", lambda: "RuntimeError: operator torchvision::nms does not exist")
    said = say("doctor", "--results", tmp_path, "--root", tmp_path)
    assert said.code == 1
    assert "broken   torch" in said.out
    assert "torchvision::nms" in said.out
    assert "matching pair" in said.out


def test_gpus_are_listed_and_a_torch_that_cannot_use_them_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "find_gpus", lambda: (Gpu(0, "GPU-aaaa", "NVIDIA H200", 150_754_820_096),))
    monkeypatch.setattr(checkup, "driver_version", lambda: "570.86")
    found = {finding.topic: finding for finding in checkup.devices()}
    assert found["GPU 0"].text == "NVIDIA H200, 150.8 GB, driver 570.86"
    assert found["torch"].level == "broken"
    monkeypatch.setattr(checkup, "_probe_torch", lambda: {"cuda": True, "built": "13.0"})
    assert {finding.level for finding in checkup.devices()} == {"ok"}


def test_hidden_gpus_are_no_fault_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "find_gpus", lambda: (Gpu(0, "GPU-aaaa", "NVIDIA H200"),))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = checkup.devices()
    assert {finding.level for finding in found} == {"ok"}
    assert found[-1].text == "CUDA_VISIBLE_DEVICES=: 0 of them visible here"


def test_a_package_that_is_not_installed_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup, "ESSENTIAL", ("torch", "no-such-package"))
    assert checkup.software()[-1] == Finding(
        "broken", "packages", "not installed: no-such-package", "pip install no-such-package"
    )


def test_results_that_cannot_be_written_are_broken(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    levels = [finding.level for finding in checkup.storage(tmp_path / "file", tmp_path)]
    assert "broken" in levels


def test_data_are_found_decoded_or_as_an_archive(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-python.tar.gz").touch()
    found = {finding.topic: finding for finding in checkup.data_sets(tmp_path)}
    assert found["cifar100"] == Finding(
        "ok", "cifar100", f"{tmp_path / 'cifar-100-python.tar.gz'}, to be decoded at first use"
    )
    assert found["tiny_imagenet"].level == "missing"


@pytest.mark.slow
def test_torch_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    probe = checkup._probe_torch()
    assert isinstance(probe, dict), probe
    assert set(probe) == {"cuda", "built"}
