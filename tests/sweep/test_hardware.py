from __future__ import annotations

import os
from pathlib import Path

import pytest

from repro.sweep.devices import hardware
from repro.sweep.devices.slots import Gpu

TWO_GPUS = """\
GPU 0: NVIDIA H200 (UUID: GPU-11111111-aaaa)
GPU 1: NVIDIA GeForce RTX 4090 (UUID: GPU-22222222-bbbb)
"""
SLICED = """\
GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-11111111-aaaa)
  MIG 3g.40gb     Device  0: (UUID: MIG-33333333-cccc)
  MIG 2g.20gb     Device  1: (UUID: MIG-44444444-dddd)
GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-22222222-bbbb)
"""


def test_gpus_are_read_with_name_uuid_and_memory() -> None:
    memory = hardware.parse_memory("GPU-11111111-aaaa, 570.86.10, 143771 MiB\nGPU-22222222-bbbb, 570.86.10, [N/A]\n")
    assert hardware.parse_gpus(TWO_GPUS, memory) == (
        Gpu(0, "GPU-11111111-aaaa", "NVIDIA H200", 143771 * 2**20),
        Gpu(1, "GPU-22222222-bbbb", "NVIDIA GeForce RTX 4090"),
    )


def test_a_sliced_gpu_is_its_slices() -> None:
    found = hardware.parse_gpus(SLICED)
    assert [gpu.uuid for gpu in found] == ["MIG-33333333-cccc", "MIG-44444444-dddd", "GPU-22222222-bbbb"]
    assert [gpu.index for gpu in found] == [0, 1, 2]


@pytest.mark.parametrize("printed", ["", "No devices found.\n", "NVIDIA-SMI has failed because …\n"])
def test_no_gpu_is_read_from_a_complaint(printed: str) -> None:
    assert hardware.parse_gpus(printed) == ()


def make_program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = f"""case "$1" in
-L) printf '%s' '{TWO_GPUS}';;
--query-gpu=uuid*) echo 'GPU-11111111-aaaa, 570.1, 1000 MiB';;
*) echo 570.1;;
esac"""
    make_program(tmp_path / "bin", "nvidia-smi", answers)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(hardware, "torch_is_cpu_only", lambda: False)
    assert [gpu.memory_bytes for gpu in hardware.find_gpus()] == [1000 * 2**20, None]
    assert hardware.device_name("cuda") == "NVIDIA H200"
    assert hardware.driver_version() == "570.1"


def test_a_torch_without_cuda_has_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_program(tmp_path / "bin", "nvidia-smi", f"printf '%s' '{TWO_GPUS}'")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setattr(hardware.metadata, "version", lambda name: "2.15.0+cpu")
    assert hardware.find_gpus() == ()


def test_device_files_are_counted_where_nobody_can_be_asked(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert [gpu.uuid for gpu in hardware._gpus_in_dev(tmp_path)] == ["0", "1"]


def test_the_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert 1 <= hardware.usable_cores() <= 3
