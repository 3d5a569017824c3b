"""The checks of ``doctor``: what works on this machine, what is missing, what is broken. Never imports torch."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import repro
from repro.environment import not_used
from repro.experiment.catalog import DATASETS, DatasetFacts, fetch_command
from repro.machine import (
    driver_version,
    find_gpus,
    processor_name,
    torch_is_cpu_only,
    torch_is_for_amd,
    usable_cores,
)
from repro.results.disk_space import free_bytes
from repro.sweep.devices.slots import VISIBLE, visible_entries
from repro.wording import counted, readable_size

Level = Literal["ok", "missing", "broken"]

# Nothing works without these.
ESSENTIAL = ("torch", "torchvision", "numpy", "pydantic", "pyyaml", "scipy", "typer", "rich")
LITTLE_DISK_BYTES = 2_000_000_000
AMD_DRIVER = Path("/dev/kfd")

_TORCH_PROBE = """
import json, torch, torchvision
built = f"ROCm {torch.version.hip}" if torch.version.hip else f"CUDA {torch.version.cuda}"
print(json.dumps({"cuda": torch.cuda.is_available(), "built": built}))
"""


@dataclass(frozen=True)
class Finding:
    """The result of one check: a ``missing`` thing is optional, a ``broken`` one prevents training."""

    level: Level
    topic: str
    text: str
    hint: str | None = None


def software() -> list[Finding]:
    """The versions of what is installed."""
    present, absent = [], []
    for name in ESSENTIAL:
        try:
            present.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            absent.append(name)
    ours = f"biasrepro {repro.__version__}, Python {platform.python_version()}, {platform.platform()}"
    findings = [Finding("ok", "software", ours), Finding("ok", "packages", ", ".join(present))]
    if names := not_used(""):
        findings.append(Finding("ok", "environment", f"set, but ignored by biasrepro: {', '.join(names)}"))
    if absent:
        text = f"not installed: {', '.join(absent)}"
        findings.append(Finding("broken", "packages", text, f"pip install {' '.join(absent)}"))
    return findings


def devices() -> list[Finding]:
    """Cores and GPUs, and whether torch can use them."""
    findings = [Finding("ok", "CPU", f"{processor_name()}, {counted(usable_cores(), 'core')} to use here")]
    probe = _probe_torch()
    if isinstance(probe, str):
        hint = "torch and torchvision must be a matching pair, such as the one in requirements.lock."
        return [*findings, Finding("broken", "torch", f"cannot be imported: {probe}", hint)]
    gpus = find_gpus()
    for gpu in gpus:
        memory = f", {readable_size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
        driver = probe["built"] if torch_is_for_amd() else f"driver {driver_version() or 'unknown'}"
        text = f"{gpu.name}{memory}, {driver}"
        findings.append(Finding("ok", f"GPU {gpu.index}", text))
    inherited = os.environ.get(VISIBLE)
    visible = visible_entries(gpus, inherited)
    if inherited is not None:
        findings.append(Finding("ok", "GPUs", f"{VISIBLE}={inherited}: {len(visible)} of them visible here"))
    if not gpus:
        findings.append(Finding("missing", "GPUs", f"none ({_why_no_gpu()}); everything runs on the CPU, slower"))
    elif visible and not probe["cuda"]:
        text = f"torch cannot use the GPU (it is built for {probe['built']})"
        findings.append(Finding("broken", "torch", text, "Update the driver, or install a torch built for it."))
    return findings


def _why_no_gpu() -> str:
    if torch_is_for_amd():
        return "torch, a build for AMD GPUs, counts none"
    why = "torch is a build without CUDA" if torch_is_cpu_only() else "no NVIDIA driver responds"
    if AMD_DRIVER.exists():
        why += f"; {AMD_DRIVER} is here: an AMD GPU needs a torch that is built for ROCm"
    return why


def storage(results: Path, root: Path) -> list[Finding]:
    """Free disk space, and whether results can be written."""
    findings = []
    for topic, folder in (("results", results), ("data", root)):
        free = free_bytes(folder)
        hint = "Free disk space, or give a folder on another disk."
        level: Level = "ok" if free > LITTLE_DISK_BYTES else "missing"
        findings.append(Finding(level, topic, f"{folder}: {readable_size(free)} free", hint))
    if not _can_be_written(results):
        hint = "Change its permissions, or give another folder with --results."
        findings.append(Finding("broken", "results", f"{results} cannot be written to", hint))
    return findings


def data_sets(root: Path) -> list[Finding]:
    """Which data sets are here, and the commands that fetch the others."""
    return [_data_set(facts, root) for facts in DATASETS.values()]


def _data_set(facts: DatasetFacts, root: Path) -> Finding:
    from repro.data.cache import DamagedCache, read_manifest
    from repro.data.prepare import cache_path, find_source

    if facts.included:
        return Finding("ok", facts.name, "included in biasrepro")
    fetch = fetch_command(facts, root)
    try:
        read_manifest(cache_path(facts, root))
    except FileNotFoundError:
        if (source := find_source(facts, root)) is not None:
            return Finding("ok", facts.name, f"{source}, to be decoded at first use")
        archive = facts.download
        volume = readable_size(archive.size_bytes) if archive and archive.size_bytes else "an unknown size"
        text = f"not here: {volume} to download, {readable_size(facts.decoded_bytes)} decoded"
        return Finding("missing", facts.name, text, fetch)
    except DamagedCache as error:
        return Finding("missing", facts.name, f"damaged: {error.what}", fetch)
    return Finding("ok", facts.name, str(cache_path(facts, root)))


def _probe_torch() -> dict[str, Any] | str:
    """What torch says of CUDA, in a process of its own; or the last line of the error if it cannot be imported."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _TORCH_PROBE], capture_output=True, text=True, timeout=300, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except subprocess.TimeoutExpired:
        return "the import takes longer than five minutes"
    except (ValueError, IndexError):
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _can_be_written(folder: Path) -> bool:
    """Whether files can be created in ``folder``, or in the folder where it will be created."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
