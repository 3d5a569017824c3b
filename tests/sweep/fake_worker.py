"""Takes the place of ``biasrepro train`` in tests of the sweep: same arguments, same messages, nothing trained.

``behaviour.json`` in the results folder says what a run does, by its id; the others complete at once. Each start is
noted in ``started.jsonl`` there. The records that it leaves were made by ``prepare``: a worker that knows nothing of
tables starts in a moment.
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
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repro.progress import Progress

if TYPE_CHECKING:
    from repro.experiment.schema import Run
    from repro.results import EpochRecord, RunRecord


def record_of(run: Run, **fields: Any) -> RunRecord:
    """A record of ``run`` whose epochs are all alike, with fields replaced."""
    from repro.results import Provenance, RunRecord

    cell = run.cell
    provenance = Provenance(
        biasrepro="0.1.0",
        git_commit="0" * 40,
        git_dirty=False,
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
        "state_hash": "0" * 64,
        "execution_in_force": {},
        "provenance": provenance,
    }
    values |= fields
    last = values["last_top1_percent"]
    planned = values["configuration"]["recipe"]["epochs"]
    count = planned if values["status"] == "completed" else int(last is not None)
    epochs = tuple(epoch_of(number, last) for number in range(1, count + 1))
    best = {"best_top1_percent": last, "best_epoch": 1 if count else None}
    return RunRecord(**{"epochs": epochs} | best | values)


def epoch_of(number: int, top1_percent: float) -> EpochRecord:
    """An epoch with this test top-1."""
    from repro.results import EpochRecord

    rest = set(EpochRecord.model_fields) - {"epoch", "test_top1_percent"}
    return EpochRecord(epoch=number, test_top1_percent=top1_percent, **dict.fromkeys(rest, 1.0))


def prepare(
    results: Path,
    runs: Iterable[Run],
    reference: str | None = None,
    top1: Callable[[Run], float] = lambda run: 90.0,
) -> None:
    """Lets workers know ``runs``, whose table is called ``reference`` on the command line, and what they come to."""
    from repro.results.record import to_bytes

    file = results / "prepared.json"
    known = json.loads(file.read_text()) if file.exists() else {}
    for run in runs:
        cell = run.cell
        diverged = record_of(run, status="diverged", reason="not finite at step 3", last_top1_percent=None)
        known[f"{reference or cell.table}/{cell.row.id}/{cell.column.id}/seed-{run.seed}"] = {
            "id": run.id,
            "epochs": cell.recipe.epochs,
            "completed": to_bytes(record_of(run, last_top1_percent=top1(run))).decode(),
            "diverged": to_bytes(diverged).decode(),
        }
    file.write_text(json.dumps(known))


class Worker:
    """A run as the worker knows it."""

    def __init__(self, known: dict[str, Any], results: Path) -> None:
        self.id: str = known["id"]
        self.epochs: int = known["epochs"]
        self.records = known
        self.results = results
        self.folder = results / self.id

    def tell(self, phase: Any, epoch: int = 0, message: str | None = None) -> None:
        progress = Progress(
            self.id,
            phase,
            epoch=epoch,
            epochs=self.epochs,
            step=2 if epoch else 0,
            steps=2 if epoch else 0,
            train_loss=0.5,
            test_top1_percent=90.0 if epoch else None,
            images_per_second=1234.0 if epoch else None,
            eta_seconds=float(self.epochs - epoch) if epoch else None,
            message=message,
        )
        print(progress.to_line(), flush=True)

    def record(self, status: str = "completed") -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "run.json").write_text(self.records[status])
        (self.folder / "failure.json").unlink(missing_ok=True)

    def complete(self) -> int:
        for epoch in range(1, self.epochs + 1):
            self.tell("epoch_done", epoch=epoch)
        self.record()
        self.tell("completed", epoch=self.epochs)
        return 0

    def wait(self, *, stubborn: bool) -> int:
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
        self.tell("training", epoch=1)
        self.note_start()
        while not told.wait(0.02):
            pass
        (self.folder / "checkpoint.pt").write_text("committed")
        return 143

    def note_start(self) -> None:
        """Signals find this worker ready from now on."""
        (self.folder / "ready").touch()

    def behave(self, does: str) -> int:
        self.tell("starting", message="a fake processor")
        if does == "noise":
            print("not a message\nnor {this}", flush=True)
            print("a warning on standard error", file=sys.stderr, flush=True)
        elif does == "note":
            print(Progress(self.id, "starting", steps=2, message="read from the shared file").to_line(), flush=True)
        elif does in ("fail", "fail beside another"):
            while does == "fail beside another" and not any(self.results.glob("**/ready")):
                time.sleep(0.02)
            self.tell("failed", message="the pixels ran out\n  Buy more pixels.")
            return 1
        elif does == "diverge":
            self.record("diverged")
            self.tell("diverged", epoch=1, message="not finite at step 3")
            return 1
        elif does == "misuse":
            print("error: --pixels is no option", file=sys.stderr)
            return 2
        elif does == "traceback":
            raise RuntimeError("a defect")
        elif does == "elsewhere":
            return 75
        elif does in ("SIGKILL", "SIGSEGV", "SIGTERM"):
            os.kill(os.getpid(), signal.Signals[does])
        elif does == "grandchild":
            child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
            (self.results / "grandchild.pid").write_text(str(child.pid))
        elif does == "mute":
            os.close(1)
            time.sleep(0.4)
            self.record()
            return 0
        elif does in ("hang", "hang once"):
            hung = self.folder / "hung"
            if does == "hang" or not hung.exists():
                hung.touch()
                hang(self.folder)
        elif does == "slow":
            time.sleep(1.0)
        elif does in ("wait", "stubborn"):
            return self.wait(stubborn=does == "stubborn")
        else:
            assert does == "complete", does
        return self.complete()


def hang(path: Path) -> None:
    """Own the run, and stand still."""
    from repro.results import RunFolder
    from repro.results.ownership import own

    with own(RunFolder(path)):
        os.kill(os.getpid(), signal.SIGSTOP)


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
    parser.add_argument("--anonymous", action="store_true")
    parser.add_argument("--keep-weights", action="store_true")
    given = parser.parse_args()
    known = json.loads((given.results / "prepared.json").read_text())
    worker = Worker(known[f"{given.reference}/seed-{given.seed}"], given.results)
    note = {
        "run": worker.id,
        "pid": os.getpid(),
        "device": given.device,
        "threads": given.threads,
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "allow_changed": given.allow_changed,
        "anonymous": given.anonymous,
        "keep_weights": given.keep_weights,
    }
    with (given.results / "started.jsonl").open("a") as file:
        file.write(json.dumps(note) + "\n")
    behaviours = given.results / "behaviour.json"
    does = json.loads(behaviours.read_text()) if behaviours.exists() else {}
    return worker.behave(does.get(worker.id, "complete"))


if __name__ == "__main__":
    sys.exit(main())
