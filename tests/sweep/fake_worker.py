"""Takes the place of ``biasrepro train`` in tests of the sweep: same arguments, same messages, nothing trained.

``behaviour.json`` in the results folder says what a run does, by its id; the others complete at once. Each start is
noted in ``started.jsonl`` there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from repro.config import find_cell
from repro.progress import Progress
from repro.results import Provenance, RunFolder, RunRecord, write_record
from repro.schema import Run


def record_of(run: Run, **fields: Any) -> RunRecord:
    """A record of ``run`` without epochs, with fields replaced."""
    cell = run.cell
    provenance = Provenance(
        biasrepro="0.1.0",
        git_commit=None,
        git_dirty=None,
        code_hash="0" * 64,
        python="3.11",
        packages={},
        platform="a platform",
        host="a host",
        device="cpu",
        device_name="a processor",
        driver=None,
        threads=1,
        command="biasrepro train",
        started_at="2026-01-01T00:00:00+00:00",
        finished_at="2026-01-01T00:01:00+00:00",
        duration_seconds=60.0,
        images_per_second=1000.0,
    )
    values: dict[str, Any] = {
        "id": run.id,
        "table": cell.table,
        "row": cell.row.id,
        "column": cell.column.id,
        "seed": run.seed,
        "status": "completed",
        "configuration": run.configuration(),
        "configuration_hash": run.hash,
        "parameters": 1_000_000,
        "last_top1_percent": 90.0,
        "best_top1_percent": 91.0,
        "best_epoch": 2,
        "state_hash": "0" * 64,
        "execution_in_force": {},
        "provenance": provenance,
        "epochs": (),
    }
    return RunRecord(**values | fields)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["train"])
    parser.add_argument("reference")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--root", type=Path)
    parser.add_argument("--device")
    parser.add_argument("--threads")
    parser.add_argument("--progress", choices=["json"])
    parser.add_argument("--stop-at-eof", action="store_true")
    parser.add_argument("--allow-changed", action="store_true")
    given = parser.parse_args()
    run = Run(cell=find_cell(given.reference), seed=given.seed)
    note_start(given, run)
    behaviours = given.results / "behaviour.json"
    does = json.loads(behaviours.read_text()).get(run.id, "complete") if behaviours.exists() else "complete"
    return behave(does, run, RunFolder.of(given.results, run), given.results)


def note_start(given: argparse.Namespace, run: Run) -> None:
    note = {
        "run": run.id,
        "pid": os.getpid(),
        "parent": os.getppid(),
        "device": given.device,
        "threads": given.threads,
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "allow_changed": given.allow_changed,
    }
    with (given.results / "started.jsonl").open("a") as file:
        file.write(json.dumps(note) + "\n")


def tell(run: Run, phase: Any, epoch: int = 0, message: str | None = None) -> None:
    progress = Progress(
        run.id,
        phase,
        epoch=epoch,
        epochs=run.cell.recipe.epochs,
        step=2 if epoch else 0,
        steps=2 if epoch else 0,
        train_loss=0.5,
        test_top1_percent=90.0 if epoch else None,
        images_per_second=1234.0 if epoch else None,
        eta_seconds=float(run.cell.recipe.epochs - epoch) if epoch else None,
        message=message,
    )
    print(progress.to_line(), flush=True)


def behave(does: str, run: Run, folder: RunFolder, results: Path) -> int:
    tell(run, "starting", message="a fake processor")
    if does == "complete":
        return complete(run, folder)
    if does == "noise":
        print("not a message\nnor {this}", flush=True)
        print("a warning on standard error", file=sys.stderr, flush=True)
        return complete(run, folder)
    if does == "fail":
        tell(run, "failed", message="the pixels ran out\n  Buy more pixels.")
        return 1
    if does == "diverge":
        write_record(folder, record_of(run, status="diverged", reason="not finite at step 3", last_top1_percent=None))
        tell(run, "diverged", epoch=1, message="not finite at step 3")
        return 1
    if does == "misuse":
        print("error: --pixels is no option", file=sys.stderr)
        return 2
    if does == "traceback":
        raise RuntimeError("a defect")
    if does == "elsewhere":
        return 75
    if does in ("SIGKILL", "SIGSEGV", "SIGTERM"):
        os.kill(os.getpid(), signal.Signals[does])
    if does == "grandchild":
        child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        (results / "grandchild.pid").write_text(str(child.pid))
        return complete(run, folder)
    if does == "mute":
        os.close(1)
        time.sleep(0.4)
        write_record(folder, record_of(run))
        return 0
    if does == "slow":
        time.sleep(1.0)
        return complete(run, folder)
    assert does in ("wait", "stubborn"), does
    return wait(run, folder, stubborn=does == "stubborn")


def complete(run: Run, folder: RunFolder) -> int:
    for epoch in range(1, run.cell.recipe.epochs + 1):
        tell(run, "epoch_done", epoch=epoch)
    write_record(folder, record_of(run))
    tell(run, "completed", epoch=run.cell.recipe.epochs)
    return 0


def wait(run: Run, folder: RunFolder, *, stubborn: bool) -> int:
    """Train on and on until told to stop; a stubborn one is deaf to SIGTERM."""
    told = threading.Event()

    def note(*_: object) -> None:
        told.set()

    signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else note)

    def until_the_sweep_is_gone() -> None:
        while os.read(0, 4096):
            pass
        told.set()

    threading.Thread(target=until_the_sweep_is_gone, daemon=True).start()
    tell(run, "training", epoch=1)
    while not told.wait(0.02):
        pass
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.checkpoint.write_text("committed")
    return 143


if __name__ == "__main__":
    sys.exit(main())
