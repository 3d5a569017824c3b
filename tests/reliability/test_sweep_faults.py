"""A sweep whose workers die, crash, run out of memory and lose their GPU: each is dealt with, and the rest goes on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commits import a_record

import repro.cli
from repro.experiment.config import load_table
from repro.experiment.schema import Run
from repro.machine import Gpu
from repro.results import RunFolder, read_failure
from repro.results.record import to_bytes
from repro.sweep.selection import selected_runs

EXPERIMENT = """\
table: few
label: Few
title: Runs that do nothing
kind: study
seeds: 3
dataset: {name: digits}
recipe: {epochs: 1, learning_rate: 0.1}
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: a, title: A, model: squeezenet}
"""
GPUS = (Gpu(0, "GPU-aaaa", "A"), Gpu(1, "GPU-bbbb", "B"))


class Scene:
    """A sweep of six runs, the first of which is unlucky."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capfd = capfd
        (folder / "few.yaml").write_text(EXPERIMENT)
        (folder / "witness").mkdir()
        self.runs = selected_runs(load_table(folder / "few.yaml"), range(3))
        prepared = {run.id.partition("/")[2]: to_bytes(a_record(run)).decode() for run in self.runs}
        (folder / "prepared.json").write_text(json.dumps(prepared))
        self.code = -1
        self.said = ""

    def sweep(self, misfortunes: dict[Run, list[str]], *options: str) -> None:
        planned = {run.id: befalls for run, befalls in misfortunes.items()}
        (self.folder / "misfortunes.json").write_text(json.dumps(planned))
        shared = ["--results", str(self.folder / "results"), "--root", str(self.folder), "--progress", "plain"]
        self.code = repro.cli.run(["sweep", str(self.folder / "few.yaml"), *shared, *options])
        self.said = "".join(self._capfd.readouterr())

    def files(self, run: Run) -> RunFolder:
        return RunFolder.of(self.folder / "results", run)

    def recorded(self) -> set[Run]:
        return {run for run in self.runs if self.files(run).record.exists()}

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]

    def attempts(self, run: Run) -> int:
        return sum(event["run"] == run.id and event["event"] == "on" for event in self.events())

    def commands(self, run: Run) -> list[list[str]]:
        """The command of each attempt at the run."""
        return [event["command"] for event in self.events() if event["run"] == run.id and event["event"] == "on"]

    def log(self, run: Run) -> str:
        return self.files(run).log.read_text()


@pytest.fixture
def scene(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Scene:
    worker = str(Path(__file__).with_name("quick_worker.py"))
    monkeypatch.setattr("repro.sweep.local.executor.WORKER_COMMAND", (sys.executable, worker))
    monkeypatch.setattr("repro.machine.usable_cores", lambda: 2)
    monkeypatch.setattr("repro.machine.find_gpus", lambda: ())
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    return Scene(tmp_path, capfd)


FAULTS = {
    "a worker killed twice": (["SIGKILL", "SIGKILL"], 3, True, "killed by SIGKILL"),
    "a worker killed again and again": (["SIGKILL"] * 9, 3, False, "killed by SIGKILL"),
    "a crash in native code": (["native crash"] * 9, 3, False, "killed by SIGSEGV"),
    "an abort in native code": (["SIGABRT"], 2, True, "killed by SIGABRT"),
    "a file that shrank under its mapping": (["SIGBUS"], 2, True, "killed by SIGBUS"),
    "a worker that is pre-empted alone": (["preempted", "preempted"], 3, True, "stopped by a SIGTERM from outside"),
    "a lost GPU that comes back": (["device_lost"], 2, True, "the cause: device_lost"),
    "a lost GPU that stays lost": (["device_lost"] * 9, 3, False, "the cause: device_lost"),
    "no memory on a device of its own": (["out_of_memory"] * 9, 1, False, "the cause: out_of_memory"),
    "a loss that is not finite": (["diverged"] * 9, 1, False, "the cause: diverged"),
    "a defect": (["defect"] * 9, 1, False, "RuntimeError: a defect of ours"),
    "a failure of the run's own": (["its own"] * 9, 1, False, "the cause: its own"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_in_a_worker_is_dealt_with_and_the_rest_goes_on(
    what: str, scene: Scene, proved: Callable[[str], None]
) -> None:
    befalls, attempts, ends_well, cause = FAULTS[what]
    unlucky = scene.runs[0]
    alone = ["--jobs", "1"] if "own" in what and "memory" in what else ["--jobs", "2"]
    scene.sweep({unlucky: befalls}, *alone)
    assert scene.attempts(unlucky) == attempts
    is_recorded = ends_well or what == "a loss that is not finite"
    assert scene.recorded() == set(scene.runs) - (set() if is_recorded else {unlucky})
    assert all(scene.attempts(run) == 1 for run in scene.runs[1:])
    first, *others = scene.commands(unlucky)
    assert all(again == first for again in others)  # word for word: no other batch size, nor anything else
    assert scene.code == (0 if ends_well else 1)
    assert cause in scene.said
    if attempts > 1:
        assert f"later  {unlucky.id}: " in scene.said
        assert "tried again from its last checkpoint" in scene.said
    if not ends_well:
        fate = "diverged" if what == "a loss that is not finite" else "failed"
        assert f"6 runs: 5 done, 1 {fate}" in scene.said
        assert f"log: {scene.files(unlucky).log}" in scene.said
        noted = read_failure(scene.files(unlucky))
        if fate == "failed":
            assert noted is not None
            assert (noted.attempts, cause in noted.cause) == (attempts, True)
    if what == "a crash in native code":
        assert "Segmentation fault" in scene.log(unlucky)
        assert "quick_worker.py" in scene.log(unlucky)  # where it crashed
    kept = "tried again, done" if ends_well else "shown with its log"
    proved(f"fault in a sweep: {what}: {attempts} attempts, {kept}, the other 5 runs done")


@pytest.mark.slow
def test_a_run_without_memory_on_a_shared_gpu_gets_it_to_itself_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, proved: Callable[[str], None]
) -> None:
    monkeypatch.setattr("repro.machine.find_gpus", lambda: GPUS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    first, second = scene.runs[:2]
    scene.sweep({first: ["out_of_memory"], second: ["out_of_memory"] * 9}, "--jobs-per-gpu", "3", "--gpus", "0,1")
    assert scene.code == 1
    for run in (first, second):
        once, again = scene.commands(run)
        assert again == once  # nothing is made smaller to fit: not the batch either
    assert scene.recorded() == set(scene.runs) - {second}
    spans = spans_by_attempt(scene.events())
    for run in (first, second):
        (place, began, ended) = spans[run.id][1]
        beside = [
            other
            for other, attempts in spans.items()
            for where, start, end in attempts
            if other != run.id and where == place and start < ended and end > began
        ]
        assert not beside
    shared = Counter(place for attempts in spans.values() for place, _, _ in attempts)
    assert set(shared) == {"GPU-aaaa", "GPU-bbbb"}
    proved("fault in a sweep: no memory on a shared GPU: tried once more with the GPU to itself, then shown")


def spans_by_attempt(events: list[dict[str, Any]]) -> dict[str, list[tuple[str, float, float]]]:
    """By run, its attempts: the GPU, and from when to when."""
    spans: dict[str, list[tuple[str, float, float]]] = {}
    open_since: dict[str, tuple[str, float]] = {}
    for event in sorted(events, key=lambda event: event["at"]):
        if event["event"] == "on":
            open_since[event["run"]] = event["where"], event["at"]
        elif event["event"] == "off":
            place, began = open_since.pop(event["run"])
            spans.setdefault(event["run"], []).append((place, began, event["at"]))
    return spans


def test_workers_that_cannot_be_started_fail_one_by_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, proved: Callable[[str], None]
) -> None:
    monkeypatch.setattr("repro.sweep.local.executor.WORKER_COMMAND", ("/no/such/python",))
    scene.sweep({})
    assert scene.code == 1
    assert "6 runs: 0 done, 6 failed" in scene.said
    assert "no process could be started" in scene.said
    proved("fault in a sweep: no process can be started: each run shown as failed, exit 1")


def test_too_little_space_for_a_sweep_is_said_before_anything_starts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, proved: Callable[[str], None]
) -> None:
    monkeypatch.setattr("repro.results.disk_space.free_bytes", lambda folder: 10_000)
    scene.sweep({})
    assert scene.code == 2
    assert "not enough disk space: 6 runs may need" in scene.said
    assert not scene.recorded()
    assert not (scene.folder / "audit.jsonl").exists()
    proved("fault in a sweep: too little space: said before anything starts, exit 2")
