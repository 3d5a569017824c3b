from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

import pytest

from repro import machine
from repro.machine import Gpu, GpuMemory

H200: dict[str, Any] = {"uuid": "GPU-11111111-aaaa", "name": "NVIDIA H200", "memory": [143771 * 2**20, 1000]}
RTX_4090: dict[str, Any] = {"uuid": "GPU-22222222-bbbb", "name": "NVIDIA GeForce RTX 4090"}
SLICED: dict[str, Any] = {
    "uuid": "GPU-33333333-cccc",
    "name": "NVIDIA A100-SXM4-80GB",
    "slices": [
        {"uuid": "MIG-33333333-cccc", "name": "NVIDIA A100-SXM4-80GB MIG 3g.40gb", "memory": [40 * 2**30, 39 * 2**30]},
        {"uuid": "MIG-44444444-dddd", "name": "NVIDIA A100-SXM4-80GB MIG 2g.20gb"},
    ],
}


@pytest.fixture(autouse=True)
def _fake(fake_driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata, "version", lambda name: "2.15.0+cu130")
    fake_driver(H200, RTX_4090)


def test_gpus_are_found_with_name_uuid_and_memory() -> None:
    assert machine.find_gpus() == (
        Gpu(0, "GPU-11111111-aaaa", "NVIDIA H200", 143771 * 2**20),
        Gpu(1, "GPU-22222222-bbbb", "NVIDIA GeForce RTX 4090"),
    )
    assert machine.device_name("cuda") == "NVIDIA H200"
    assert machine.driver_version() == "570.86.10"


def test_a_sliced_gpu_is_its_slices(fake_driver: Any) -> None:
    fake_driver(SLICED, RTX_4090)
    found = machine.find_gpus()
    assert [gpu.uuid for gpu in found] == ["MIG-33333333-cccc", "MIG-44444444-dddd", "GPU-22222222-bbbb"]
    assert [gpu.index for gpu in found] == [0, 1, 2]
    assert [gpu.memory_bytes for gpu in found] == [40 * 2**30, None, None]
    assert machine.gpu_memory("MIG-33333333-cccc") == GpuMemory("MIG-33333333-cccc", 40 * 2**30, 39 * 2**30)


@pytest.mark.parametrize("entry", ["0", "GPU-11111111-aaaa", "GPU-1111"])
def test_the_memory_of_a_gpu_is_asked_by_index_or_uuid(entry: str) -> None:
    assert machine.gpu_memory(entry) == GpuMemory("GPU-11111111-aaaa", 143771 * 2**20, 1000)


@pytest.mark.parametrize("entry", ["1", "GPU-22222222-bbbb", "2", "GPU-9", ""])
def test_memory_that_the_driver_does_not_tell_is_unknown(entry: str) -> None:
    assert machine.gpu_memory(entry) is None


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_NVML")
    monkeypatch.setattr(machine, "_gpus_in_dev", lambda folder: ())
    assert machine.find_gpus() == ()
    assert machine.device_name("cuda") is None
    assert machine.driver_version() is None
    assert machine.gpu_memory("0") is None


def test_a_torch_without_cuda_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata, "version", lambda name: "2.15.0+cpu")
    assert machine.find_gpus() == ()


def test_device_files_are_counted_where_nobody_can_be_asked(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert [gpu.uuid for gpu in machine._gpus_in_dev(tmp_path)] == ["0", "1"]


def test_the_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2, 5}, raising=False)
    assert 1 <= machine.usable_cores() <= 3


def test_the_stand_in_answers_what_the_real_library_does() -> None:
    spec = PathFinder.find_spec("pynvml")
    assert spec is not None
    assert spec.loader is not None
    real = module_from_spec(spec)
    spec.loader.exec_module(real)
    answered = [name for name in vars(sys.modules["pynvml"]) if name.lower().startswith("nvml")]
    assert len(answered) == 13
    assert [name for name in answered if not hasattr(real, name)] == []


def test_a_child_finds_this_package_and_nothing_in_the_current_folder(tmp_path: Path) -> None:
    package = tmp_path / "a checkout" / "repro"
    package.mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "machine.py"):
        shutil.copy(Path(machine.__file__).with_name(name), package / name)
    (package / "child.py").write_text("import random, repro, sys\nprint(repro.__file__, *sys.argv[1:], sys.path)\n")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("random", "repro", "runpy", "child"):
        (here / f"{name}.py").write_text("raise SystemExit('the current folder is on the path')\n")
    parent = "import sys, subprocess; sys.path.insert(0, sys.argv[1]); from repro.machine import python_command; "
    parent += "sys.exit(subprocess.run([*python_command('repro.child'), '--a', 'b']).returncode)"
    command = [sys.executable, "-P", "-c", parent, str(package.parent)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, _, path = done.stdout.partition(" [")
    assert said == f"{package / '__init__.py'} --a b"
    assert f"'{here}'" not in path
    assert "''" not in path
    assert f"'{package.parent}'" not in path


INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: {model}
model name\t: A Xeon
stepping\t: 1
"""
ARM = """processor\t: 0
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x3
CPU part\t: {model}
"""


@pytest.mark.parametrize(
    ("told", "first", "second"), [(INTEL, "143", "207"), (ARM, "0xd0c", "0xd40")], ids=["x86", "ARM"]
)
def test_processors_of_one_name_are_told_apart(
    monkeypatch: pytest.MonkeyPatch, told: str, first: str, second: str
) -> None:
    found = []
    for model in (first, second):
        cores = [told.format(model=model), told.format(model="another core's")]
        monkeypatch.setattr(machine.Path, "read_text", lambda self, cores=cores, **_: "\n".join(cores))
        found.append((machine.processor_name.__wrapped__(), machine.processor_model()))
    (name, model), (other_name, other_model) = found
    assert name == other_name
    assert model != other_model
    assert model.replace(first, second) == other_model
    assert "another core" not in model


def test_a_processor_without_a_file_of_facts_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(machine.Path, "read_text", none)
    assert machine.processor_name.__wrapped__()
    assert machine.processor_model() == ""
