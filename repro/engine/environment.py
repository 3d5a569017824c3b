"""Where a run is made: the device with its settings, and what the record says of machine, code and packages."""

from __future__ import annotations

import ctypes
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
from repro import machine
from repro.engine import defaults
from repro.errors import ConfigError, UserError
from repro.experiment.catalog import NETWORKS
from repro.experiment.schema import Execution

DETERMINING = ("losses.py", "data/*.py", "models/*.py", "engine/*.py")
PACKAGES = ("torch", "torchvision", "numpy", "pillow", "pandas", "pydantic", "pyyaml", "scikit-learn", "scipy")

# glibc's names for these, in malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 * 2**20


def choose_device(name: str) -> torch.device:
    """``auto`` (CUDA where it is there), ``cpu``, ``cuda`` or ``cuda:N``. Raises UserError where there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"'{name}' is no device", hint="Valid: auto, cpu, cuda, cuda:0, cuda:1, …") from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"the device '{name}' is not supported", hint="Valid: auto, cpu, cuda, cuda:0, cuda:1, …")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UserError(
                "no CUDA device is to be had here", hint="`biasrepro doctor` shows why; --device cpu works."
            )
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise UserError(f"there is no {name}: {torch.cuda.device_count()} CUDA device(s) are visible")
        device = torch.device("cuda", index)
    return device


def prepare(device: torch.device, execution: Execution, threads: int | None, model: str) -> dict[str, Any]:
    """Set the process up to train ``model`` by ``execution`` on ``device``, and return what is in force as plain data.

    Raises ConfigError for what would not be deterministic although it is declared so.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(device)  # streams, graphs and events are made on the current device
    memory_format = defaults.memory_format(execution, model, device.type)
    if on_cuda and execution.deterministic and memory_format == "channels_last":
        raise ConfigError(
            "execution.deterministic does not hold with execution.memory_format channels_last on a GPU: "
            "the gradient of max-pooling adds up in no fixed order there",
            hint="Leave memory_format at auto, or set it to contiguous.",
        )
    allow_tf32 = execution.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = allow_tf32
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.backends.cudnn.benchmark = on_cuda and not execution.deterministic
    if execution.deterministic and on_cuda:
        # cuBLAS reads this at its first call; it is the documented condition of its determinism.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(execution.deterministic)
    # Nothing here reads memory before it is written; filling all of it, which that mode does besides, only costs.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # made at run time
    return {
        "device": device.type,
        "precision": "fp32" if execution.precision == "tf32" and not on_cuda else execution.precision,
        "memory_format": memory_format,
        "compile": execution.compile,
        "cuda_graph": on_cuda and execution.cuda_graph,
        "deterministic": execution.deterministic,
        "recompute": execution.recompute and "recompute" in NETWORKS[model].options,
        "threads": torch.get_num_threads(),
    }


def keep_freed_memory() -> bool:
    """Have the C library keep what a training step frees, for the next step; returns whether it will.

    By default glibc returns large blocks to the system at once, and every step waits for the same pages to be mapped
    and zeroed again: a third of SqueezeNet's step on a CPU. Only for a process that trains.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_TOP_PAD, _TOP_PAD_BYTES))


def device_name(device: torch.device) -> str:
    """The product name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return machine.processor_name()


def driver(device: torch.device) -> str | None:
    """The NVIDIA driver's version, None on a CPU or where the driver does not tell."""
    return machine.driver_version() if device.type == "cuda" else None


def fingerprint(device: torch.device, data: str) -> dict[str, str]:
    """What two halves of one run must share for its bits to be the same; ``data`` is the data set's fingerprint."""
    shared = {
        "code": code_hash(),
        "torch": str(torch.__version__),  # a str subclass, which weights_only loading would refuse
        "device": device.type,
        "device_name": device_name(device),
        "data": data,
    }
    # A GPU's arithmetic does not depend on how many of the host's cores wait for it.
    return shared if device.type == "cuda" else {**shared, "threads": str(torch.get_num_threads())}


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


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"
