"""Takes the place of ``biasrepro train``: nothing is trained, but the run is owned, committed and recorded as always.

``prepared.json`` beside the results holds the record of each run. What happens is noted in ``audit.jsonl`` there, and
an flock that this kernel alone vouches for says whether two processes ever had a run at the same time. Where there is a
``misfortunes.json``, it says what befalls the first attempts at a run, by its id.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from repro.errors import DataError
from repro.progress import Progress
from repro.results import RunFolder, RunRecord, find_record, write_record
from repro.results.checkpoint_file import Header, seal, unseal
from repro.results.ownership import OwnedElsewhere, Ownership, own
from repro.results.record import from_bytes

STEPS = 6


def newest_step(folder: RunFolder) -> int:
    """The step that the newest good checkpoint comes to."""
    for path in (folder.checkpoint, folder.previous_checkpoint):
        try:
            return unseal(path.read_bytes(), where=str(path))[0].step
        except FileNotFoundError:
            continue
    return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["train"])
    parser.add_argument("reference")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--results", type=Path)
    for option in ("--root", "--device", "--threads", "--progress"):
        parser.add_argument(option)
    parser.add_argument("--stop-at-eof", action="store_true")
    given, _ = parser.parse_known_args()
    beside: Path = given.results.parent
    prepared = json.loads((beside / "prepared.json").read_text())
    row, column = given.reference.split("/")[-2:]
    record = from_bytes(prepared[f"{row}/{column}/seed-{given.seed}"].encode(), where="prepared.json")
    folder = RunFolder(given.results / record.id)
    audit = os.open(beside / "audit.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(event: str, step: int = 0, where: str = "", command: Sequence[str] = ()) -> None:
        line = {"run": record.id, "pid": os.getpid(), "event": event, "step": step, "at": time.monotonic()}
        line |= {"where": where, "command": list(command)}
        os.write(audit, json.dumps(line).encode() + b"\n")

    witness = os.open(beside / "witness" / record.id.replace("/", "_"), os.O_RDWR | os.O_CREAT)
    try:
        with own(folder) as ownership:
            try:
                fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                note("two owners")
                return 1
            note("on", where=os.environ.get("CUDA_VISIBLE_DEVICES", ""), command=sys.argv[1:])
            if code := misfortune(beside, record, folder, ownership):
                note("off")
                return code
            train(folder, record, ownership, note)
            note("off")
            fcntl.flock(witness, fcntl.LOCK_UN)
    except OwnedElsewhere as error:
        note("left to its owner")
        return error.exit_code
    except DataError as error:
        note(f"torn file: {error}")
        return 1
    return 0


def misfortune(beside: Path, record: RunRecord, folder: RunFolder, ownership: Ownership) -> int:
    """What befalls this attempt at the run; returns the exit code that it ends with, 0 where nothing does."""
    if not (beside / "misfortunes.json").exists():
        return 0
    planned = json.loads((beside / "misfortunes.json").read_text()).get(record.id, [])
    lines = (beside / "audit.jsonl").read_text().splitlines()
    attempts = sum(event["run"] == record.id and event["event"] == "on" for event in map(json.loads, lines))
    if attempts > len(planned):
        return 0
    what = planned[attempts - 1]
    if what in ("SIGKILL", "SIGTERM", "SIGABRT", "SIGBUS"):
        os.kill(os.getpid(), signal.Signals[what])
    elif what == "native crash":
        ctypes.string_at(0)
    elif what == "defect":
        raise RuntimeError("a defect of ours")
    elif what == "preempted":
        return 143
    time.sleep(0.3)
    phase: Any = "failed"
    if what == "diverged":  # the one misfortune that ends a run with a record
        phase = "diverged"
        changed = {"status": "diverged", "reason": f"the cause: {what}", "last_top1_percent": None}
        write_record(folder, record.model_copy(update=changed), ownership.write)
    trouble: Any = what if what in ("out_of_memory", "device_lost") else None
    print(Progress(record.id, phase, message=f"the cause: {what}", trouble=trouble).to_line(), flush=True)
    return 1


def train(folder: RunFolder, record: RunRecord, ownership: Ownership, note: Callable[..., None]) -> None:
    """The steps that are left, and the record."""
    if find_record(folder) is not None:
        note("found finished")
        return
    began = newest_step(folder)
    note("begins", began)
    for step in range(began + 1, STEPS + 1):
        time.sleep(random.uniform(0.0, 0.03))
        state = seal(Header(record.id, step, epoch=1, step=step), os.urandom(50_000))
        ownership.write(folder.checkpoint, state, keep_previous_as=folder.previous_checkpoint)
        note("step", step)
    write_record(folder, record, ownership.write)
    note("recorded")


if __name__ == "__main__":
    sys.exit(main())
