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


READING = """
import sys
for name in ("torch", "torchvision"):
    sys.modules[name] = None  # as if it were not installed
from repro.cli import run
for command in (
    ["table", "demo"], ["status", "demo"], ["plan", "table1"], ["verify", "results"], ["cite"], ["config", "demo"],
    ["report", "demo", "-o", "r.html"], ["figure", "deltas", "demo", "-o", "f.svg"], ["export", "-o", "e.csv"],
):
    print(command[0], run(command), file=sys.stderr)
print("train", run(["train", "demo"]), file=sys.stderr)
"""


def test_what_reads_records_works_where_torch_is_not_installed(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", READING], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    codes = dict(
        line.split() for line in done.stderr.splitlines() if line.split()[-1].isdigit() and len(line.split()) == 2
    )
    assert codes.pop("train") == "2"
    assert codes.pop("figure") == "1"  # there are no runs to draw
    assert set(codes.values()) == {"0"}
    assert len(codes) == 8
    assert "nothing is drawn" in done.stderr
    assert "this needs torch, which is not installed here" in done.stderr
    assert "pip install torch torchvision" in done.stderr


def test_on_windows_the_way_out_is_said() -> None:
    program = "import sys; sys.modules['fcntl'] = None; from repro.cli import main; sys.platform = 'win32'; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "error: biasrepro does not run on Windows itself."
    assert "WSL" in done.stderr


def test_ctrl_c_while_the_command_line_is_loaded_leaves_no_traceback() -> None:
    program = """
import sys
class PressingCtrlC:
    def find_spec(self, name, *_):
        if name == "repro.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, PressingCtrlC())
from repro.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")
