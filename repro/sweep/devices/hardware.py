"""What this machine has: GPUs, cores. Asked of the system, never of torch."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from repro.sweep.devices.packing import GpuMemory
from repro.sweep.devices.slots import Gpu

_GPU_LINE = re.compile(r"GPU (\d+): (.+) \(UUID: (GPU-[^)]+)\)")
_MIG_LINE = re.compile(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")


@dataclass(frozen=True)
class Memory:
    """A GPU's driver version and memory in bytes."""

    driver: str
    bytes: int


def find_gpus() -> tuple[Gpu, ...]:
    """The CUDA devices of this machine; none where torch is built without CUDA."""
    if torch_is_cpu_only():
        return ()
    listed = _output("nvidia-smi", "-L")
    if listed is None:
        return _gpus_in_dev(Path("/dev"))
    memory = parse_memory(
        _output("nvidia-smi", "--query-gpu=uuid,driver_version,memory.total", "--format=csv,noheader")
    )
    return parse_gpus(listed, memory)


def parse_gpus(listed: str, memory: dict[str, Memory] | None = None) -> tuple[Gpu, ...]:
    """The devices in what ``nvidia-smi -L`` prints; a GPU cut into MIG slices is its slices."""
    found: list[Gpu] = []
    cut = False
    for line in listed.splitlines():
        if whole := _GPU_LINE.match(line):
            _, name, uuid = whole.groups()
            known = (memory or {}).get(uuid)
            found.append(Gpu(len(found), uuid, name, known.bytes if known else None))
            cut = False
        elif (part := _MIG_LINE.match(line)) and found:
            name = found[-1].name if cut else f"{found[-1].name} MIG"
            if not cut:
                found.pop()
            found.append(Gpu(len(found), part.group(2), name))
            cut = True
    return tuple(found)


def parse_memory(table: str | None) -> dict[str, Memory]:
    """Memory and driver by UUID, from nvidia-smi's CSV of uuid, driver_version, memory.total (``81559 MiB``)."""
    found = {}
    for line in (table or "").splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and fields[2].removesuffix(" MiB").isdecimal():
            found[fields[0]] = Memory(fields[1], int(fields[2].removesuffix(" MiB")) * 2**20)
    return found


def gpu_memory(entry: str) -> GpuMemory | None:
    """The memory of the GPU that CUDA_VISIBLE_DEVICES calls ``entry``; None where nvidia-smi does not tell (MIG)."""
    what = "--query-gpu=uuid,memory.total,memory.free"
    return parse_gpu_memory(_output("nvidia-smi", f"--id={entry}", what, "--format=csv,noheader,nounits"))


def parse_gpu_memory(line: str | None) -> GpuMemory | None:
    """What nvidia-smi says of one GPU: ``GPU-..., 81559, 80000``, in MiB; None for anything else."""
    fields = [field.strip() for field in (line or "").split(",")]
    if len(fields) != 3 or not (fields[1].isdecimal() and fields[2].isdecimal()):
        return None
    return GpuMemory(fields[0], *(int(field) * 2**20 for field in fields[1:]))


def driver_version() -> str | None:
    """The NVIDIA driver's version, None where there is none."""
    told = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return told.splitlines()[0].strip() if told else None


def device_name(kind: str) -> str | None:
    """The product name of this machine's ``cpu`` or (first) ``cuda`` device, as records call it; None where unknown."""
    if kind == "cuda":
        return next((gpu.name for gpu in find_gpus()), None)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def torch_is_cpu_only() -> bool:
    """Whether the torch installed here is a build without CUDA, by its version (``2.15.0+cpu``)."""
    try:
        return metadata.version("torch").endswith("+cpu")
    except metadata.PackageNotFoundError:
        return True


def mps_is_running() -> bool:
    """Whether a CUDA MPS control daemon listens, where this process's children will look for one."""
    folder = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    return (folder / "control").exists()


def usable_cores() -> int:
    """The cores that this process may use: its affinity, and a container's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or "max": no quota
        return cores


def _gpus_in_dev(folder: Path) -> tuple[Gpu, ...]:
    """The GPUs whose device files are here, for containers without nvidia-smi; named by index."""
    count = sum(1 for path in folder.glob("nvidia*") if path.name.removeprefix("nvidia").isdecimal())
    return tuple(Gpu(index, str(index), "NVIDIA GPU") for index in range(count))


def _output(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
