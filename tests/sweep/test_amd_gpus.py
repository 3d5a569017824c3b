"""AMD's GPUs, as a torch built for them counts them: found, listed, shared, and never passed over in silence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repro.machine import package_path

FAKE = Path(__file__).parents[1] / "fake_rocm"
VARIABLES = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")

SLOTS = """
import json, os, sys
from repro.machine import device_name, driver_version, find_gpus, usable_cores
from repro.sweep.devices.slots import VISIBLE, choose_slots

slots = choose_slots(device="auto", gpus=find_gpus(), inherited=os.environ.get(VISIBLE), wanted=None, jobs_per_gpu=1,
                     jobs=None, cores=8, threads=1)
print(json.dumps({"slots": [[slot.label, slot.device, slot.environment.get(VISIBLE)] for slot in slots],
                  "variable": VISIBLE, "name": device_name("cuda"), "memory": [gpu.memory_bytes for gpu in find_gpus()],
                  "driver": driver_version(), "torch": "torch" in sys.modules}))
"""


def on_amd(*command: str, gpus: str = "AMD Instinct MI300X,AMD Instinct MI250", **visible: str) -> Any:
    """A Python process on a machine with ``gpus`` of AMD and a torch for them; ``visible`` are its variables."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"PYTHONPATH": f"{FAKE}{os.pathsep}{package_path()}", "FAKE_AMD_GPUS": gpus, **visible}
    return subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=120)


def slots(**changed: str) -> dict[str, Any]:
    done = on_amd("-c", SLOTS, **changed)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_each_gpu_gets_a_job_that_sees_it_alone() -> None:
    found = slots()
    assert found["variable"] == "HIP_VISIBLE_DEVICES"
    assert found["slots"] == [["cuda:0", "cuda", "0"], ["cuda:1", "cuda", "1"]]
    assert found["name"] == "AMD Instinct MI300X"
    assert found["memory"] == [192 * 2**30] * 2
    assert found["driver"] is None
    assert not found["torch"], "torch is asked in a process of its own"


@pytest.mark.parametrize(
    ("visible", "entries", "name"),
    [
        ({"HIP_VISIBLE_DEVICES": "1"}, ["1"], "AMD Instinct MI250"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["1"], "AMD Instinct MI250"),
        ({"HIP_VISIBLE_DEVICES": "1,0", "CUDA_VISIBLE_DEVICES": "0"}, ["1", "0"], "AMD Instinct MI250"),
        ({"ROCR_VISIBLE_DEVICES": "1"}, ["0"], "AMD Instinct MI250"),
        ({"ROCR_VISIBLE_DEVICES": "1,0", "HIP_VISIBLE_DEVICES": "1"}, ["1"], "AMD Instinct MI300X"),
    ],
)
def test_the_reservations_of_others_are_kept(visible: dict[str, str], entries: list[str], name: str) -> None:
    found = slots(**visible)
    assert [entry for _, _, entry in found["slots"]] == entries
    assert found["name"] == name


def test_without_gpus_runs_use_the_cpu() -> None:
    assert {device for _, device, _ in slots(gpus="")["slots"]} == {"cpu"}


def test_a_torch_that_does_not_answer_is_an_error_and_not_a_cpu(tmp_path: Path) -> None:
    sweep = ("-m", "repro", "sweep", "demo", "--dry-run", "--results", str(tmp_path))
    done = on_amd(*sweep, gpus="broken")
    assert done.returncode == 2
    assert "does not say which GPUs are here" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("gpus", "line"),
    [
        ("AMD Instinct MI300X", "ok       GPU 0          AMD Instinct MI300X, 206.2 GB, ROCm 7.2.53211"),
        ("", "missing  GPUs           none (torch, a build for AMD GPUs, counts none)"),
    ],
)
def test_doctor_lists_them(gpus: str, line: str, tmp_path: Path) -> None:
    done = on_amd("-m", "repro", "doctor", "--no-measure", "--results", str(tmp_path), gpus=gpus)
    assert line in done.stdout, done.stdout + done.stderr


def test_a_job_of_a_cluster_takes_the_gpus_that_it_was_given() -> None:
    program = """
import json
from repro.sweep.cluster_node import NodeSettings, slots_here
from repro.sweep.devices.slots import VISIBLE
slots = slots_here(NodeSettings("sweep", "results", "auto", 1, 1))
print(json.dumps([[slot.device, slot.environment.get(VISIBLE)] for slot in slots]))
"""
    for visible, entry in (({"HIP_VISIBLE_DEVICES": "1"}, "1"), ({"ROCR_VISIBLE_DEVICES": "1"}, "0")):
        done = on_amd("-c", program, **visible)
        assert json.loads(done.stdout) == [["cuda", entry]], done.stderr
