"""Stands for ``biasrepro train``: saves a checkpoint after each step, writes a record at the end, stops when asked.

``prepared.json`` beside the results folder holds the record of each run; ``audit.jsonl`` there gets a line per step.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path

from repro.interruption import StopRequests
from repro.results import RunFolder, write_record
from repro.results import ownership as ownership_module
from repro.results.checkpoint_file import Header, seal, unseal
from repro.results.ownership import OwnedElsewhere, own
from repro.results.record import from_bytes

STEP_SECONDS = 0.2


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int)
    parser.add_argument("--commits-nothing", action="store_true")
    parser.add_argument("--steps-a-life", type=int, help="after so many, wait to be asked to stop")
    parser.add_argument("--elsewhere", action="store_true", help="be a process of a machine that nobody else knows")
    parser.add_argument("command")
    parser.add_argument("reference")
    parser.add_argument("--seed")
    parser.add_argument("--results", type=Path)
    for option in ("--root", "--device", "--threads", "--progress"):
        parser.add_argument(option)
    parser.add_argument("--stop-at-eof", action="store_true")
    given = parser.parse_args()
    if given.elsewhere:
        ownership_module.this_place = lambda: f"the machine of {os.getpid()}"
    beside: Path = given.results.parent
    row, column = given.reference.split("/")[-2:]
    prepared = json.loads((beside / "prepared.json").read_text())
    record = from_bytes(prepared[f"{row}/{column}/seed-{given.seed}"].encode(), where="prepared.json")
    folder = RunFolder(given.results / record.id)
    with StopRequests() as stop, own(folder) as ownership:
        stop.stop_at_eof()
        begun = 0
        if folder.checkpoint.exists():
            begun = unseal(folder.checkpoint.read_bytes(), where="here")[0].step
        for step in range(begun + 1, given.steps + 1):
            time.sleep(STEP_SECONDS)
            while step - begun > (given.steps_a_life or given.steps) and not stop.asked():
                time.sleep(STEP_SECONDS)
            if stop.asked():
                return stop.exit_code
            if given.commits_nothing:
                continue
            ownership.write(folder.checkpoint, seal(Header(record.id, step, 1, step), b"state"))
            note = {"run": record.id, "step": step, "pid": os.getpid(), "task": os.environ.get("SLURM_JOB_ID")}
            note["by"] = "slurm" if note["task"] else "ray" if "RAY_RAYLET_PID" in os.environ else "local"
            audit = os.open(beside / "audit.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(audit, json.dumps(note | {"at": time.monotonic()}).encode() + b"\n")
            os.close(audit)
        write_record(folder, record, ownership.write)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    try:
        sys.exit(main())
    except OwnedElsewhere as error:
        sys.exit(error.exit_code)
