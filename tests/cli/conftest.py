from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro import cli
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record
from repro.sweep.selection import selected_runs

FAKE_WORKER = Path(__file__).parents[1] / "sweep" / "fake_worker.py"


@dataclass(frozen=True)
class Reported:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Reported]:
    """Runs a command in this process."""

    def run(*arguments: object) -> Reported:
        code = cli.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Reported(code, out, err)

    return run


@pytest.fixture(scope="session")
def fake_worker(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(FAKE_WORKER)


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps in this process start fake workers, two at a time."""
    monkeypatch.setattr("repro.sweep.local.executor.WORKER_COMMAND", (sys.executable, str(FAKE_WORKER)))
    monkeypatch.setattr("repro.machine.usable_cores", lambda: 2)
    monkeypatch.setattr("repro.machine.find_gpus", lambda: ())


@pytest.fixture
def results(tmp_path: Path, fake_worker: ModuleType) -> Path:
    """An empty results folder; fake workers know the demo's first three seeds in it."""
    folder = tmp_path / "results"
    folder.mkdir()
    fake_worker.prepare(folder, selected_runs(find_table("demo"), (0, 1, 2)))
    return folder


@pytest.fixture
def finish(results: Path, fake_worker: ModuleType) -> Callable[..., None]:
    """Records a run as finished, with fields of its record replaced."""

    def record(run: Run, **fields: Any) -> None:
        write_record(RunFolder.of(results, run), fake_worker.record_of(run, **fields))

    return record


@pytest.fixture
def behave(results: Path) -> Callable[[dict[str, str]], None]:
    """Says what the fake worker does, by run id."""

    def write(behaviours: dict[str, str]) -> None:
        (results / "behaviour.json").write_text(json.dumps(behaviours))

    return write


@pytest.fixture
def started(results: Path) -> Callable[[], list[dict[str, Any]]]:
    """What the fake workers noted at their starts."""

    def read() -> list[dict[str, Any]]:
        file = results / "started.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return read
