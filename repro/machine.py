"""Facts about this machine: cores, processor, NVIDIA GPUs and their driver. Needs no PyTorch.

GPUs are found by NVML, a library that comes with every NVIDIA driver.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import repro

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


def python_command(module: str) -> tuple[str, ...]:
    """The command of a Python process that runs ``module`` of this package; its arguments follow."""
    return (sys.executable, "-P", "-c", _START, str(package_path()), module)


def package_path() -> Path:
    """The folder where Python found this package."""
    return Path(repro.__file__).absolute().parents[1]


def memory_bytes() -> int:
    """The main memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Gpu:
    """A CUDA device of this machine: a whole GPU, or a MIG slice of one. ``uuid`` is the driver's name for it."""

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
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(kind: str) -> str | None:
    """The product name of the CPU (``cpu``) or the first GPU (``cuda``), as in records; None if unknown."""
    if kind == "cpu":
        return processor_name()
    return next((gpu.name for gpu in find_gpus()), None)


def find_gpus() -> tuple[Gpu, ...]:
    """The CUDA devices of this machine, each MIG slice as one; none if torch is built without CUDA."""
    if torch_is_cpu_only():
        return ()
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


def driver_version() -> str | None:
    """The NVIDIA driver's version; None without a driver."""
    with _nvml() as nvml:
        return None if nvml is None else _told(nvml, nvml.nvmlSystemGetDriverVersion)


def torch_is_cpu_only() -> bool:
    """Whether the installed torch is a build without CUDA, by its version (``2.15.0+cpu``)."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return True


def mps_is_running() -> bool:
    """Whether a CUDA MPS control daemon runs where this process's children look for one."""
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    return (folder / "control").exists()


@contextmanager
def _nvml() -> Iterator[Any]:
    """The module ``pynvml``, initialised; None without a driver, or if its library does not start."""
    nvml: Any = None
    with suppress(Exception):  # no package, no library, no driver, or a driver that does not match its library
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
