"""Machine, code and packages for a record, and the fingerprint that a resumed run must share with its checkpoint."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import repro
from repro import machine
from repro.data import Dataset
from repro.engine.code_hash import code_hash, shared_code_hash
from repro.environment import settled
from repro.experiment.schema import Run
from repro.wording import shell_line

PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pydantic", "pyyaml", "scipy")


def fingerprint(run: Run, device: torch.device, dataset: Dataset) -> dict[str, str]:
    """What must not change while ``run``, on ``dataset``, is interrupted, for the same bits."""
    shared = {
        "code": hash_of_code(run),
        "torch": str(torch.__version__),  # a str subclass, which weights_only loading would refuse
        "device": device.type,
        "device_name": device_name(device),
        "data": dataset.fingerprint,
    }
    if dataset.content:  # the order of the images decides the batches, and the test images what is best
        shared["images"] = dataset.content
    if device.type == "cuda":  # whose arithmetic depends on neither the CPU nor the number of its threads
        return shared
    # Both decide how a CPU rounds, and several share a name.
    processor = f"{machine.processor_model()}; {torch.backends.cpu.get_cpu_capability()}"
    return {**shared, "threads": str(torch.get_num_threads()), "processor": processor}


def hash_of_code(run: Run) -> str:
    """SHA-256 (hex) of the code that determines the numbers of ``run``."""
    return code_hash(run.cell.row.model, run.cell.column.loss, run.cell.dataset.known_facts)


def facts_of_beginning(run: Run, device: torch.device) -> dict[str, Any]:
    """The fields of the provenance that hold from when ``run`` begins to train: later its files may be others."""
    return {**environment_facts(device), "code_hash": hash_of_code(run), "shared_code_hash": shared_code_hash()}


def environment_facts(device: torch.device) -> dict[str, Any]:
    """The fields of a record's provenance that do not depend on the run: versions, commit, machine, command."""
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no") if commit else None
    return {
        "biasrepro": repro.__version__,
        "git_commit": commit,
        "git_dirty": None if changes is None else bool(changes),  # None: unknown
        "python": platform.python_version(),
        "packages": {**{name: _version(name) for name in PACKAGES}, **_gpu_libraries(device)},
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": device.type,
        "device_name": device_name(device),
        "driver": machine.driver_version() if device.type == "cuda" else None,
        "device_uuid": gpu_uuid(device),
        "threads": torch.get_num_threads(),
        "command": shell_line(["biasrepro", *sys.argv[1:]]),
    }


def machine_facts(device: torch.device) -> dict[str, Any]:
    """The machine and the versions for the record of a benchmark, which has its own command and threads."""
    facts = environment_facts(device)
    for of_a_run in ("command", "threads", "device_uuid"):
        del facts[of_a_run]
    return {**facts, "cores": machine.usable_cores(), "load_average": os.getloadavg()}


def device_name(device: torch.device) -> str:
    """The product name of the device."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else machine.processor_name()


def gpu_uuid(device: torch.device) -> str | None:
    """The driver's name for the GPU, which tells it from others of its kind; None for a CPU, or if torch has none."""
    if device.type != "cuda":
        return None
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    return None if uuid is None else str(uuid)


def peak_memory_bytes(device: torch.device) -> int | None:
    """The most memory of this process so far: on a GPU what torch reserved there, on a CPU what was resident."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else machine.peak_memory_bytes()


def _git(*arguments: str) -> str | None:
    """The output of git in the checkout of this code, whoever owns it; None without a checkout, or if git fails."""
    top = Path(repro.__file__).resolve().parent.parent
    if not (top / ".git").exists():
        return None
    try:
        command = ["git", "--no-optional-locks", "-c", f"safe.directory={top}", "-C", str(top), *arguments]
        environment = settled(os.environ)
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _gpu_libraries(device: torch.device) -> dict[str, str]:
    """The versions of CUDA and cuDNN, or of ROCm and MIOpen, that torch uses; empty for a CPU."""
    if device.type != "cuda":
        return {}
    if torch.version.hip:
        return {"ROCm": str(torch.version.hip), "MIOpen": str(torch.backends.cudnn.version())}
    return {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
