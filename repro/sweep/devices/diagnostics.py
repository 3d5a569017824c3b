"""Findings about this machine, for ``doctor``: what works, what is missing, what is broken. Never imports torch."""

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
from repro.experiment.catalog import DATASETS, DatasetFacts, fetch_command
from repro.machine import driver_version, find_gpus, processor_name, readable_size, torch_is_cpu_only, usable_cores
from repro.results.disk_space import free_bytes
from repro.sweep.devices.slots import VISIBLE, visible_entries

Level = Literal["ok", "missing", "broken"]

# Without these nothing trains or shows; the first must also import.
ESSENTIAL = ("torch", "torchvision", "numpy", "pydantic", "pyyaml", "scipy", "typer", "rich")
LITTLE_DISK_BYTES = 2_000_000_000

_TORCH_PROBE = """
import json, torch, torchvision
cuda = torch.cuda.is_available()
print(json.dumps({"cuda": cuda, "built": torch.version.cuda, "count": torch.cuda.device_count() if cuda else 0}))
"""


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``missing`` is a thing one can do without, ``broken`` stops the program's work."""

    level: Level
    topic: str
    text: str
    hint: str | None = None


def software() -> list[Finding]:
    """Versions of what is installed, and whether torch imports."""
    versions = {name: _version(name) for name in ESSENTIAL}
    present = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    ours = f"biasrepro {repro.__version__}, Python {platform.python_version()}, {platform.platform()}"
    findings = [Finding("ok", "software", ours), Finding("ok", "packages", present)]
    if absent := [name for name, version in versions.items() if not version]:
        text = f"not installed: {', '.join(absent)}"
        findings.append(Finding("broken", "packages", text, f"pip install {' '.join(absent)}"))
    return findings


def devices() -> list[Finding]:
    """Cores and GPUs, and whether torch can use them."""
    threads = usable_cores()
    findings = [Finding("ok", "CPU", f"{processor_name()}, {threads} core(s) to use here")]
    probe = _probe_torch()
    if isinstance(probe, str):
        hint = "torch and torchvision must be a matching pair: requirements.lock names one."
        return [*findings, Finding("broken", "torch", f"does not import: {probe}", hint)]
    gpus = find_gpus()
    inherited = os.environ.get(VISIBLE)
    for gpu in gpus:
        memory = f", {readable_size(gpu.memory_bytes)}" if gpu.memory_bytes else ""
        findings.append(
            Finding("ok", f"GPU {gpu.index}", f"{gpu.name}{memory}, driver {driver_version() or 'unknown'}")
        )
    if inherited is not None:
        text = f"{VISIBLE}={inherited}: {len(visible_entries(gpus, inherited))} of them visible here"
        findings.append(Finding("ok", "GPUs", text))
    if not gpus:
        why = "torch is a build without CUDA" if torch_is_cpu_only() else "no NVIDIA driver answers"
        findings.append(Finding("missing", "GPUs", f"none ({why}); everything runs on the CPU, slower"))
    elif visible_entries(gpus, inherited) and not probe["cuda"]:
        text = f"torch cannot use the GPU (it is built for CUDA {probe['built']})"
        findings.append(Finding("broken", "torch", text, "Update the driver, or install the torch built for it."))
    return findings


def storage(results: Path, root: Path) -> list[Finding]:
    """Free disk, and whether results can be written."""
    findings = []
    for topic, folder in (("results", results), ("data", root)):
        free = free_bytes(folder)
        text = f"{folder}: {readable_size(free)} free"
        hint = "Make room, or name a folder on another disk."
        findings.append(Finding("ok" if free > LITTLE_DISK_BYTES else "missing", topic, text, hint))
    if not _can_be_written(results):
        hint = "Mend its permissions, or give another --results folder."
        findings.append(Finding("broken", "results", f"{results} cannot be written to", hint))
    return findings


def data_sets(root: Path) -> list[Finding]:
    """Which data sets are here, and how the others are got."""
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
    """What torch says of CUDA, asked in a process of its own; or the last line of why it cannot be imported."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TORCH_PROBE], capture_output=True, text=True, timeout=300, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except subprocess.TimeoutExpired:
        return "it takes longer than five minutes"
    except (ValueError, IndexError):
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in ``folder``, or where it will be made; leaves nothing behind."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
