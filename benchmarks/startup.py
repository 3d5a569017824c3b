"""Start-up times of whole commands, in turn, in several rounds.

    python benchmarks/startup.py --root data -o benchmarks/records/startup/NAME.json

``first step`` is the time from the command to the end of the first training step, with a warm cache; it includes
reading and verifying the data set. ``opening`` is the time to open the decoded Tiny ImageNet in a process that has
imported PyTorch. What needs Tiny ImageNet is left out if it is not decoded under --root.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from repro.data import load_dataset
from repro.engine.device import choose_device
from repro.engine.provenance import machine_facts
from repro.errors import DataError
from repro.progress import Progress

BIASREPRO = (sys.executable, "-m", "repro")


def whole_command(*arguments: str) -> float:
    """Seconds that ``biasrepro`` with ``arguments`` takes."""
    began = time.perf_counter()
    subprocess.run([*BIASREPRO, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_step(cell: str, root: Path, results: Path) -> float:
    """Seconds until the first step of ``cell`` is reported; then the run is killed."""
    command = [*BIASREPRO, "train", cell, "--root", str(root), "--results", str(results), "--progress", "json"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            told = Progress.from_line(line)
            if told.phase == "training" and told.step > 0:
                seconds = time.perf_counter() - began
                process.kill()
                return seconds
    raise SystemExit(f"{cell} ended before its first step")


def opening(root: Path) -> float:
    """Seconds to open and verify the decoded Tiny ImageNet."""
    began = time.perf_counter()
    load_dataset("tiny_imagenet", root)
    return time.perf_counter() - began


def measure(root: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds by what was timed: ``rounds`` times in turn, after one round to warm up."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = iter(Path(folder) / str(number) for number in range(10_000))
        arms: dict[str, Callable[[], float]] = {
            "biasrepro --help": lambda: whole_command("--help"),
            "biasrepro table": lambda: whole_command("table", "--results", "results"),
            "first step, demo/shufflenetv2/bias": lambda: first_step("demo/shufflenetv2/bias", root, next(fresh)),
        }
        try:
            opening(root)
        except DataError as error:
            print(f"without Tiny ImageNet: {error}", file=sys.stderr)
        else:
            cell = "table1/shufflenetv2/bias"
            arms[f"first step, {cell}"] = lambda: first_step(cell, root, next(fresh))
            arms["opening, Tiny ImageNet"] = lambda: opening(root)
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(rounds + 1):
            for name, arm in arms.items():
                seconds[name].append(arm())
    return {name: times[1:] for name, times in seconds.items()}


def main() -> None:
    """Measure, print, and write the record if --output is given."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", type=Path, default=Path("data"))
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("-o", "--output", type=Path)
    chosen = options.parse_args()
    seconds = measure(chosen.root, chosen.rounds)
    for name, times in seconds.items():
        print(f"{name:<40} {statistics.median(times):5.2f} s  ({min(times):.2f}-{max(times):.2f})")
    record = {
        "kind": "startup",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", *sys.argv],
        "machine": machine_facts(choose_device("auto")),
        "seconds": seconds,
    }
    if chosen.output is not None:
        chosen.output.parent.mkdir(parents=True, exist_ok=True)
        chosen.output.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
