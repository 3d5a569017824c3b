"""What answers without training never imports torch; ``--help`` imports nothing slow at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from repro.experiment.config import find_table
from repro.machine import device_name
from repro.sweep.selection import selected_runs

WATCHED = ("torch", "torchvision", "pandas", "scipy", "matplotlib", "numpy")
PROGRAM = """
import json, sys
from repro.cli import run
code = run(sys.argv[2:])
print("imported", json.dumps([code, [name for name in sys.argv[1].split(",") if name in sys.modules]]))
"""


def imported_by(*arguments: str) -> list[str]:
    """Which of the watched packages a command imports, in a fresh interpreter."""
    command = [sys.executable, "-c", PROGRAM, ",".join(WATCHED), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    code, found = json.loads(done.stdout.rpartition("imported ")[2])
    assert code == 0, done.stderr
    return list(found)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("cite",), ("sweep", "--help"), ("train", "--help")]
)
def test_help_imports_nothing_slow(arguments: tuple[str, ...]) -> None:
    assert imported_by(*arguments) == []


@pytest.mark.parametrize("command", ["table", "status", "sweep"])
def test_what_reads_records_does_without_torch(
    results: Path, finish: Callable[..., None], fake_worker: ModuleType, command: str
) -> None:
    run = selected_runs(find_table("demo"), (0,))[0]
    provenance = fake_worker.record_of(run).provenance.model_copy(update={"device_name": device_name("cpu")})
    finish(run, provenance=provenance)
    dry = ["--dry-run", "--device", "cpu", "--threads", "1"] if command == "sweep" else []
    found = imported_by(command, "demo", "--results", str(results), *dry)
    assert "torch" not in found
    assert "torchvision" not in found


def test_the_watch_can_see_an_import() -> None:
    assert "numpy" in imported_by("data", "info")
