"""Where a run is made: the device with its settings, and what the record says of machine, code and packages."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import socket
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import repro
from repro.errors import UserError
from repro.schema import Execution

DETERMINING = ("losses.py", "data/*.py", "models/*.py", "engine/*.py")
PACKAGES = ("torch", "torchvision", "numpy", "pandas", "pydantic", "pyyaml", "scikit-learn", "scipy")


def choose_device(name: str) -> torch.device:
    """``auto`` (CUDA where it is there), ``cpu``, ``cuda`` or ``cuda:N``. Raises UserError where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"'{name}' is no device", mend="Valid: auto, cpu, cuda, cuda:0, cuda:1, …") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"the device '{name}' is not supported", mend="Valid: auto, cpu, cuda, cuda:0, cuda:1, …")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                "no CUDA device is to be had here", mend="`biasrepro doctor` shows why; --device cpu works."
            )
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise UserError(f"there is no {name}: {torch.cuda.device_count()} CUDA device(s) are visible")
        device = torch.device("cuda", index)
    return device


def prepare(device: torch.device, execution: Execution, threads: int | None) -> dict[str, Any]:
    """Set the process up for ``execution`` on ``device``, and return what is in force as plain data."""
    if threads is not None:
        torch.set_num_threads(threads)
    allow_tf32 = execution.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.benchmark = device.type == "cuda" and not execution.deterministic
    if execution.deterministic and device.type == "cuda":
        # cuBLAS reads this at its first call; it is the documented condition of its determinism.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(execution.deterministic)
    memory_format = "channels_last" if execution.memory_format == "auto" else execution.memory_format
    return {
        "device": device.type,
        "precision": execution.precision,
        "memory_format": memory_format,
        "compile": execution.compile,
        "deterministic": execution.deterministic,
        "recompute": execution.recompute,
        "threads": torch.get_num_threads(),
    }


def device_name(device: torch.device) -> str:
    """The product name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return _processor()


def driver(device: torch.device) -> str | None:
    """The NVIDIA driver's version, None on a CPU or where nvidia-smi does not tell."""
    if device.type != "cuda":
        return None
    told = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return told.splitlines()[0].strip() if told else None


def fingerprint(device: torch.device) -> dict[str, str]:
    """What two halves of one run must share for its bits to be the same."""
    return {
        "code": code_hash(),
        "torch": str(torch.__version__),  # a str subclass, which weights_only loading would refuse
        "device": device.type,
        "device_name": device_name(device),
        "threads": str(torch.get_num_threads()),
    }


def static_provenance(device: torch.device) -> dict[str, Any]:
    """The fields of a record's provenance that are known before the run."""
    commit = _git("rev-parse", "HEAD")
    return {
        "biasrepro": repro.__version__,
        "git_commit": commit,
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no")) if commit else None,
        "code_hash": code_hash(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "device": device.type,
        "device_name": device_name(device),
        "driver": driver(device),
        "threads": torch.get_num_threads(),
        "command": shlex.join(["biasrepro", *sys.argv[1:]]),
    }


@cache
def code_hash() -> str:
    """SHA-256 (hex) over the sources that determine a run's numbers, by path and content."""
    package = Path(repro.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(path for part in DETERMINING for path in package.glob(part)):
        digest.update(f"{path.relative_to(package).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    """What git says of the checkout this code lies in; None where it is installed rather than checked out."""
    top = Path(repro.__file__).resolve().parent.parent
    return _output("git", "-C", str(top), *arguments) if (top / ".git").exists() else None


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
