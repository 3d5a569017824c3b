"""Facts about this machine: cores, processor, GPUs and their driver. Imports no PyTorch.

NVIDIA's GPUs are found by NVML, a library that comes with every driver of theirs. AMD's are those that torch counts, in
a process of its own, if it is a build for them (ROCm).
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import repro
from repro.errors import UserError

# Starts a module of this very package, wherever it was found, with neither the current folder nor its own on the path.
_START = """\
import runpy, sys
sys.path.insert(0, sys.argv[1])
import repro
del sys.path[0]
module = sys.argv[2]
del sys.argv[1:3]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""

_ASK_TORCH = """
import json, torch
gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
print(json.dumps([[gpu.name, gpu.total_memory] for gpu in gpus]))
"""
_ANSWER_SECONDS = 300  # a first import from a slow file system

# What tells a CPU from others of its product name, by the keys of Linux: on x86, then on ARM.
_CPU_KEYS = (
    *("vendor_id", "cpu family", "model", "stepping"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision"),
)


def python_command(module: str) -> tuple[str, ...]:
    """The command of a Python process that runs ``module`` of this package; its arguments follow."""
    return (sys.executable, "-P", "-c", _START, str(package_path()), module)


def package_path() -> Path:
    """The folder where Python found this package."""
    return Path(repro.__file__).absolute().parents[1]


def memory_bytes() -> int:
    """The main memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_memory_bytes() -> int | None:
    """The most main memory that this process has had at once (resident); None if the system does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("VmHWM:"):  # of this program alone: ru_maxrss begins with that of the parent process
                return int(line.split()[1]) * 1024
    return None


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch calls a CUDA device: a whole GPU, or a MIG slice of one.

    ``uuid`` is the driver's name for it; for AMD's GPUs, its entry in the list of visible ones.
    """

    index: int
    uuid: str
    name: str
    memory_bytes: int | None = None


@dataclass(frozen=True)
class GpuMemory:
    """A GPU's total and free memory in bytes; ``uuid`` is the driver's name for the GPU."""

    uuid: str
    total: int
    free: int


def usable_cores() -> int:
    """The number of cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return cores


@cache
def processor_name() -> str:
    """The product name of the CPU, or at least its architecture."""
    return _cpu_facts().get("model name") or platform.processor() or platform.machine()


def processor_model() -> str:
    """Family, model and stepping of the CPU: virtual machines may give several one name. Empty if not known."""
    facts = _cpu_facts()
    return ", ".join(f"{key} {facts[key]}" for key in _CPU_KEYS if key in facts)


def _cpu_facts() -> dict[str, str]:
    """What Linux says of the first CPU, by its keys; empty on another system."""
    facts: dict[str, str] = {}
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    return facts


def device_name(kind: str) -> str | None:
    """The product name of the CPU (``cpu``) or the first GPU (``cuda``), as in records; None if unknown."""
    if kind == "cpu":
        return processor_name()
    return next((gpu.name for gpu in find_gpus()), None)


def find_gpus() -> tuple[Gpu, ...]:
    """The GPUs of this machine, each MIG slice as one; none if torch is built for the CPU alone.

    A torch for AMD's GPUs is asked, and counts the visible ones. Raises UserError if it does not answer.
    """
    if torch_is_cpu_only():
        return ()
    if torch_is_for_amd():
        return _gpus_of_torch()
    with _nvml() as nvml:
        if nvml is None:
            return _gpus_in_dev(Path("/dev"))
        return tuple(_described(nvml, index, handle) for index, handle in enumerate(_devices(nvml)))


def gpu_memory(entry: str) -> GpuMemory | None:
    """The memory of the GPU that ``entry`` of CUDA_VISIBLE_DEVICES names: an index or a UUID, whole or shortened.

    None if there is no such GPU or the driver does not say.
    """
    with _nvml() as nvml:
        if nvml is None:
            return None
        for index, handle in enumerate(_devices(nvml)):
            uuid = _told(nvml, nvml.nvmlDeviceGetUUID, handle) or ""
            if entry and (entry == str(index) if entry.isdecimal() else uuid.startswith(entry)):
                memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
                return None if memory is None else GpuMemory(uuid, int(memory.total), int(memory.free))
    return None


def energy_of_unshared_gpu(uuid: str) -> float | None:
    """The energy in J that the whole GPU ``uuid`` took since its driver was loaded, if just one process computes on it.

    None if there are more, if MPS may serve several as one, for a MIG slice, and if the driver does not tell.
    """
    with _nvml() as nvml:
        if nvml is None or mps_is_running():
            return None
        for handle in _devices(nvml):
            name = _told(nvml, nvml.nvmlDeviceGetUUID, handle) or ""
            if name.removeprefix("GPU-") == uuid.removeprefix("GPU-"):
                processes = _told(nvml, nvml.nvmlDeviceGetComputeRunningProcesses, handle)
                millijoules = _told(nvml, nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
                return None if processes is None or len(processes) != 1 or millijoules is None else millijoules / 1000
    return None


def visible_variable() -> str:
    """The environment variable that says which GPUs a process sees."""
    return "HIP_VISIBLE_DEVICES" if torch_is_for_amd() else "CUDA_VISIBLE_DEVICES"


def driver_version() -> str | None:
    """The NVIDIA driver's version; None without a driver, or if torch is a build for AMD's GPUs."""
    with _nvml() as nvml:
        return None if nvml is None else _told(nvml, nvml.nvmlSystemGetDriverVersion)


def torch_is_cpu_only() -> bool:
    """Whether the installed torch is a build without CUDA, by its version (``2.15.0+cpu``)."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return True


@cache
def torch_is_for_amd() -> bool:
    """Whether the installed torch is a build for AMD's GPUs (ROCm), as its own file says."""
    text = ""
    with suppress(OSError, ValueError):
        text = _torch_version_file().read_text(encoding="utf-8")
    return re.search(r"^hip\b[^=\n]*= *['\"]", text, flags=re.MULTILINE) is not None


def _torch_version_file() -> Path:
    """The file with the versions that torch is built for. Raises ValueError if torch is not installed."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        raise ValueError("torch is not installed")
    return Path(spec.origin).with_name("version.py")


@cache
def _gpus_of_torch() -> tuple[Gpu, ...]:
    """The GPUs that torch counts, asked in a process of its own. Raises UserError without an answer.

    Their entries are those of the list of visible GPUs that this process inherited, which ROCm takes from either of two
    variables, else their numbers.
    """
    command = [sys.executable, "-P", "-c", _ASK_TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECONDS, check=False)
        found = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        hint = "`biasrepro doctor` checks torch; --device cpu works without GPUs."
        raise UserError("torch, a build for AMD GPUs, does not say which GPUs are here", hint=hint) from error
    inherited = os.environ.get("HIP_VISIBLE_DEVICES") or os.environ.get("CUDA_VISIBLE_DEVICES")
    entries = inherited.split(",") if inherited else [str(index) for index in range(len(found))]
    named = zip(entries, found, strict=False)
    return tuple(Gpu(index, entry.strip(), name, memory) for index, (entry, (name, memory)) in enumerate(named))


def mps_is_running() -> bool:
    """Whether a CUDA MPS control daemon runs where this process's children look for one."""
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    return (folder / "control").exists()


@contextmanager
def _nvml() -> Iterator[Any]:
    """The module ``pynvml``, initialised; None without a driver, or if its library does not start.

    Likewise if torch is a build for AMD's GPUs: it uses no other ones.
    """
    nvml: Any = None
    with suppress(Exception):  # no package, no library, no driver, or a driver that does not match its library
        if not torch_is_for_amd():
            import pynvml

            pynvml.nvmlInit()
            nvml = pynvml
    try:
        yield nvml
    finally:
        if nvml is not None:
            _told(nvml, nvml.nvmlShutdown)


def _devices(nvml: Any) -> Iterator[Any]:
    """The handles of all devices in the driver's order; for a GPU cut into MIG slices, those of the slices."""
    for index in range(_told(nvml, nvml.nvmlDeviceGetCount) or 0):
        gpu = _told(nvml, nvml.nvmlDeviceGetHandleByIndex, index)
        if gpu is None:  # not permitted, or fallen off the bus
            continue
        most = _told(nvml, nvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0
        slices = [_told(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, number) for number in range(most)]
        yield from [part for part in slices if part is not None] or [gpu]


def _described(nvml: Any, index: int, handle: Any) -> Gpu:
    """A device as the driver describes it, with defaults for what it does not say."""
    uuid = _told(nvml, nvml.nvmlDeviceGetUUID, handle) or str(index)
    name = _told(nvml, nvml.nvmlDeviceGetName, handle) or "NVIDIA GPU"
    memory = _told(nvml, nvml.nvmlDeviceGetMemoryInfo, handle)
    return Gpu(index, uuid, name, None if memory is None else int(memory.total))


def _told(nvml: Any, question: Callable[..., Any], *arguments: Any) -> Any:
    """The driver's answer; None if it has none."""
    try:
        return question(*arguments)
    except nvml.NVMLError:
        return None


def _gpus_in_dev(folder: Path) -> tuple[Gpu, ...]:
    """The GPUs by their device files, for containers without the driver's library; named by index."""
    count = sum(1 for path in folder.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal())
    return tuple(Gpu(index, str(index), "NVIDIA GPU") for index in range(count))
