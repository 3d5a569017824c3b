"""The overhead of thousands of runs: planning them, and ``status`` and ``table`` over their records.

``python benchmarks/scale.py --output benchmarks/records/scale/records.json`` writes a table of 10 rows, 4 columns and
250 seeds and, without training, a sealed record of 200 epochs for each of its 10,000 runs: 1.1 GB in a temporary
folder. Then it times commands as whole processes, in turn. It reports median and range, and the processor time, which
other work on the machine changes least.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from repro.experiment.schema import Run
    from repro.results import RunRecord

MODELS = (
    *("shufflenetv2_x0_5", "shufflenetv2_x1_0", "mobilenetv2_x0_75", "mobilenetv2_x1_0", "squeezenet"),
    *("squeezenet_bn", "nasnet_a", "densenet100_k12", "densenet100_k24", "resnet18"),
)
LOSSES = ("ce", "inverse_bias", "mean_bias", "bias")
EPOCHS = 200


@dataclass(frozen=True)
class Wanted:
    """A command to time: the arguments of ``biasrepro`` and its budget; ``cold``: with no record in the page cache."""

    what: str
    budget_seconds: float | None
    arguments: tuple[str, ...]
    cold: bool = False


@dataclass(frozen=True)
class Timed:
    """A timed command: wall time and processor time of each process, and the peak memory of any."""

    wanted: Wanted
    wall_seconds: list[float]
    processor_seconds: list[float]
    memory_mib: int

    def __str__(self) -> str:
        walls = self.wall_seconds
        wall = f"{statistics.median(walls):.2f} s ({min(walls):.2f}-{max(walls):.2f})"
        budget = f", of {self.wanted.budget_seconds:g} s" if self.wanted.budget_seconds else ""
        processor = f"processor {statistics.median(self.processor_seconds):.2f} s"
        return f"{self.wanted.what:<45} {wall}{budget}; {processor}; {self.memory_mib} MiB"


def main() -> None:
    """Write the records, time the commands, print and write the figures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seeds", type=int, default=250, help="40 runs each")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, help="keep the records in this folder, and reuse those in it")
    options.add_argument("--output", type=Path, help="write the figures here")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        # In another process: a child's peak memory starts at its parent's, so this process must stay small.
        maker = multiprocessing.Process(target=make, args=(folder, given.seeds))
        maker.start()
        maker.join()
        record_bytes = next((folder / "results").glob("*/*/*/seed-*/run.json")).stat().st_size
        runs = len(MODELS) * len(LOSSES) * given.seeds
        print(f"{runs:,} records of {EPOCHS} epochs, {record_bytes:,} bytes each", flush=True)
        timed = in_turns(commands(folder), given.rounds, folder / "results")
    for command in timed:
        print(command)
    if given.output is not None:
        import torch  # not before the commands are timed: this process must stay small

        from repro.engine.provenance import machine_facts

        given.output.parent.mkdir(parents=True, exist_ok=True)
        record = {
            "kind": "scale, records",
            "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": ["python", *sys.argv],
            "records": {"runs": runs, "epochs": EPOCHS, "bytes_each": record_bytes},
            "machine": {**machine_facts(torch.device("cpu")), "niceness": os.nice(0)},
            "timed": [asdict(command) for command in timed],
        }
        given.output.write_text(json.dumps(record, indent=1) + "\n")


def make(folder: Path, seeds: int) -> None:
    """Write ``wide.yaml``, a table of 40 cells, and the missing records of its runs under ``results``."""
    from repro.experiment.config import load_table, runs_of
    from repro.results import RunFolder, write_record

    columns = [f"  - {{id: {loss}, title: {loss}, loss: {loss}}}" for loss in LOSSES]
    rows = [f"  - {{id: {model}, title: {model}, model: {model}}}" for model in MODELS]
    lines = [
        *("table: wide", "label: Wide", "title: Many runs", "kind: study", f"seeds: {seeds}"),
        *("dataset: {name: digits}", f"recipe: {{epochs: {EPOCHS}, learning_rate: 0.1}}"),
        *("columns:", *columns, "rows:", *rows, ""),
    ]
    (folder / "empty").mkdir(parents=True, exist_ok=True)
    (folder / "results").mkdir(exist_ok=True)
    (folder / "wide.yaml").write_text("\n".join(lines))
    for run in runs_of(load_table(folder / "wide.yaml").cells, range(seeds)):
        place = RunFolder.of(folder / "results", run)
        if not place.record.exists():
            write_record(place, record_of(run), write=_write)


def _write(path: Path, data: bytes, /, *, keep_previous_as: Path | None = None, only_new: bool = False) -> None:
    """Write like ``write_durably``, but without waiting for the disk, which is not measured here."""
    path.write_bytes(data)


def record_of(run: Run) -> RunRecord:
    """A record with the fields and the size of a real one; its figures mean nothing."""
    from repro.results import Provenance, RunRecord

    moved = run.seed % 97 / 97 + len(run.cell.column.id) / 10
    epochs = tuple(_epoch(number, moved) for number in range(1, EPOCHS + 1))
    last, best = epochs[-1], max(epochs, key=lambda epoch: epoch.test_top1_percent)
    packages = dict.fromkeys(("torch", "torchvision", "numpy", "pillow", "pandas", "pydantic", "scipy"), "2.15.0")
    return RunRecord(
        id=run.id,
        table=run.cell.table,
        row=run.cell.row.id,
        column=run.cell.column.id,
        seed=run.seed,
        status="completed",
        configuration=run.configuration(),
        configuration_hash=run.hash,
        parameters=352_042,
        last_top1_percent=last.test_top1_percent,
        best_top1_percent=best.test_top1_percent,
        best_epoch=best.epoch,
        state_hash="0123456789abcdef" * 4,
        execution_in_force={"precision": "fp32", "memory_format": "contiguous", "compile": False, "threads": 1},
        provenance=Provenance(
            biasrepro="0.1.0",
            git_commit="0123456789" * 4,
            git_dirty=False,
            code_hash="0123456789abcdef" * 4,
            python="3.11.7",
            packages=packages,
            platform="Linux-6.1.0-x86_64-with-glibc2.36",
            host="node017",
            device="cuda",
            device_name="NVIDIA H100 80GB HBM3",
            driver="550.54.15",
            threads=1,
            command="biasrepro sweep wide.yaml --results results --root data",
            data_source="biasrepro",
            data_fingerprint="0123456789abcdef" * 4,
            started_at="2026-01-01T00:00:00+00:00",
            finished_at="2026-01-01T01:00:00+00:00",
            duration_seconds=3600.0 + run.seed,
            images_per_second=20_000.0 + run.seed,
        ),
        epochs=epochs,
    )


def _epoch(number: int, moved: float) -> Any:
    from repro.results import EpochRecord

    way = number / EPOCHS + moved / 1000
    return EpochRecord(
        epoch=number,
        learning_rate=0.1,
        train_loss=4.6 / (1 + 3 * way),
        train_top1_percent=70 * way / 1.01,
        train_top5_percent=90 * way / 1.01,
        weight_mean=0.85 - way / 17,
        weight_std=0.1 + way / 31,
        weight_min=0.7 - way / 13,
        weight_max=1.05 + way / 7,
        test_loss=4.7 / (1 + 2 * way),
        test_top1_percent=61 * way / 1.01 + moved,
        test_top5_percent=85 * way / 1.01 + moved,
        train_seconds=17.5 + way / 3,
        test_seconds=0.25 + way / 11,
        images_per_second=20_000 + way / 9,
    )


def commands(folder: Path) -> list[Wanted]:
    """The commands to time over the table and the records in ``folder``."""
    table, results, empty = str(folder / "wide.yaml"), str(folder / "results"), str(folder / "empty")
    dry = ("sweep", table, "--device", "cpu", "--dry-run", "--no-measure", "--results")
    return [
        Wanted("biasrepro --help", 0.5, ("--help",)),
        Wanted("biasrepro table, of no record", None, ("table", "--results", empty)),
        Wanted("planning: sweep --dry-run, nothing there yet", 2.0, (*dry, empty)),
        Wanted("planning: sweep --dry-run, all finished", None, (*dry, results)),
        Wanted("status TABLE", 5.0, ("status", table, "--results", results)),
        Wanted("status TABLE, no record in the page cache", 5.0, ("status", table, "--results", results), cold=True),
        Wanted("status, without a name", 5.0, ("status", "--results", results)),
        Wanted("table TABLE", 5.0, ("table", table, "--results", results)),
        Wanted("table TABLE, no record in the page cache", 5.0, ("table", table, "--results", results), cold=True),
    ]


def in_turns(wanted: Sequence[Wanted], rounds: int, results: Path) -> list[Timed]:
    """Time each command once per round, so that other work affects all of them; a first round is not counted."""
    measured: dict[Wanted, list[tuple[float, float, int]]] = {command: [] for command in wanted}
    for _ in range(rounds + 1):
        for command, times in measured.items():
            if command.cold:
                forget(results)
            times.append(once(command.arguments))
    timed = []
    for command, times in measured.items():
        walls, processor, memory = zip(*times[1:], strict=True)
        timed.append(Timed(command, list(walls), list(processor), max(memory)))
    return timed


def forget(results: Path) -> None:
    """Drop the records from the kernel's page cache."""
    for record in results.glob("*/*/*/seed-*/run.json"):
        with record.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def once(arguments: Sequence[str]) -> tuple[float, float, int]:
    """Run ``biasrepro`` once: wall time and processor time in seconds, and peak memory in MiB."""
    began = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-m", "repro", *arguments], **quiet)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, arguments
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024


if __name__ == "__main__":
    main()
