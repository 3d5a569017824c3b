"""Four sweeps over one results folder, their workers and they themselves killed at random: every run exactly once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commits import a_record

from repro.experiment.config import load_table
from repro.results import load_records
from repro.results.inspection import inspect
from repro.results.record import to_bytes
from repro.sweep.selection import selected_runs

SWEEPS, RUNS, KILLS = 4, 50, 40
EXPERIMENT = """\
table: many
label: Many
title: Fifty runs that do nothing
kind: study
seeds: 5
dataset: {name: digits}
recipe: {epochs: 1, learning_rate: 0.1}
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: a, title: A, model: squeezenet}
  - {id: b, title: B, model: squeezenet}
  - {id: c, title: C, model: squeezenet}
  - {id: d, title: D, model: squeezenet}
  - {id: e, title: E, model: squeezenet}
"""


class Sweep:
    """A sweep that is begun again, as its user would, until it says that all is done."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.number = number
        self.process = self._begin()
        self.starts = 1

    def _begin(self) -> subprocess.Popen[bytes]:
        script = Path(__file__).with_name("sweep_with_quick_workers.py")
        command = [sys.executable, str(script), "sweep", str(self.folder / "many.yaml"), "--jobs", "2"]
        command += ["--results", str(self.folder / "results"), "--root", str(self.folder), "--progress", "plain"]
        with (self.folder / f"sweep-{self.number}.log").open("ab") as log:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def is_done(self) -> bool:
        """Whether it ended well; begins again where it did not."""
        status = self.process.poll()
        if status not in (None, 0):
            self.process = self._begin()
            self.starts += 1
        return status == 0

    def workers(self) -> list[int]:
        """The process numbers of its workers."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            return [int(pid) for pid in task.read_text().split()]
        except OSError:
            return []


@pytest.mark.slow
def test_each_run_is_trained_to_its_end_exactly_once(tmp_path: Path, proved: Callable[[str], None]) -> None:
    (tmp_path / "many.yaml").write_text(EXPERIMENT)
    (tmp_path / "witness").mkdir()
    runs = selected_runs(load_table(tmp_path / "many.yaml"), range(5))
    assert len(runs) == RUNS
    prepared = {run.id.partition("/")[2]: to_bytes(a_record(run)).decode() for run in runs}
    (tmp_path / "prepared.json").write_text(json.dumps(prepared))
    sweeps = [Sweep(tmp_path, number) for number in range(SWEEPS)]
    kills = kill_at_random(sweeps, tmp_path)

    events = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    happened = Counter(event["event"] for event in events)
    assert not happened["two owners"]
    assert not [event for event in happened if "torn" in event]
    found = inspect(tmp_path / "results")
    assert (found.records, found.in_training, found.of_kind("damaged")) == (RUNS, 0, [])
    assert {one.record.id for one in load_records(tmp_path / "results") if one.record} == {run.id for run in runs}
    assert max(Counter(event["run"] for event in events if event["event"] == "recorded").values()) == 1
    for run in runs:
        check_order([event for event in events if event["run"] == run.id])
    proved(
        f"{SWEEPS} concurrent sweeps over {RUNS} runs: {kills['workers']} workers and {kills['sweeps']} sweeps killed, "
        f"{found.records} runs recorded once each, {happened['left to its owner']} left to their owners, 0 torn files"
    )
    assert kills.total() >= KILLS


def kill_at_random(sweeps: list[Sweep], folder: Path) -> Counter[str]:
    """Kill workers, and now and then a sweep, until enough died and all sweeps ended well."""
    chance = random.Random(0)
    kills: Counter[str] = Counter()
    deadline = time.monotonic() + 240
    while sum(sweep.is_done() for sweep in sweeps) < SWEEPS:  # each is asked, and begun again where it died
        assert time.monotonic() < deadline, "\n".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
        time.sleep(chance.uniform(0.05, 0.3))
        if kills.total() >= KILLS:
            continue
        victim = chance.choice(sweeps)
        if chance.random() < 0.1 and victim.process.poll() is None:
            victim.process.kill()
            kills["sweeps"] += 1
        elif workers := victim.workers():
            with_luck = chance.choice(workers)
            try:
                os.kill(with_luck, signal.SIGKILL)
                kills["workers"] += 1
            except ProcessLookupError:
                pass
    return kills


def check_order(events: list[dict[str, Any]]) -> None:
    """Each owner resumes from the last commit before it, and nobody trains after the record."""
    events.sort(key=lambda event: event["at"])
    reached = 0
    recorded = False
    for event in events:
        if event["event"] in ("begins", "step"):
            assert not recorded
        if event["event"] == "begins":
            # A step may be committed by a process that was killed before it noted that.
            assert reached <= event["step"] <= reached + 1
            reached = event["step"]
        elif event["event"] == "step":
            assert event["step"] == reached + 1
            reached += 1
        recorded |= event["event"] == "recorded"
