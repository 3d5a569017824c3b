from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record
from repro.sweep.executor import Job
from repro.sweep.selection import selected_runs

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


@pytest.fixture(scope="session")
def fake_worker(load_file: Callable[[Path], ModuleType]) -> ModuleType:
    return load_file(FAKE_WORKER)


@pytest.fixture
def worker_command() -> tuple[str, ...]:
    return (sys.executable, str(FAKE_WORKER))


@pytest.fixture
def results(tmp_path: Path, fake_worker: ModuleType) -> Path:
    """An empty results folder; fake workers know the demo's first three seeds in it."""
    folder = tmp_path / "results"
    folder.mkdir()
    fake_worker.prepare(folder, selected_runs(find_table("demo"), (0, 1, 2)))
    return folder


@pytest.fixture
def demo_runs() -> list[Run]:
    """The demo's four cells with seeds 0 and 1, seed by seed."""
    return selected_runs(find_table("demo"), (0, 1))


@pytest.fixture
def make_job(results: Path) -> Callable[[Run], Job]:
    def make(run: Run) -> Job:
        arguments = ("train", run.cell.id, "--seed", str(run.seed), "--results", str(results), "--root", "data")
        return Job(run, RunFolder.of(results, run), arguments)

    return make


@pytest.fixture
def finish(results: Path, fake_worker: ModuleType) -> Callable[..., None]:
    """Records a run as finished, with fields of its record replaced."""

    def record(run: Run, **fields: Any) -> None:
        write_record(RunFolder.of(results, run), fake_worker.record_of(run, **fields))

    return record


@pytest.fixture
def behave(results: Path) -> Callable[[dict[str, str]], None]:
    """Says what the fake worker does, by run id."""

    def say(behaviours: dict[str, str]) -> None:
        (results / "behaviour.json").write_text(json.dumps(behaviours))

    return say


@pytest.fixture
def started(results: Path) -> Callable[[], list[dict[str, Any]]]:
    """What the fake workers noted at their starts."""

    def read() -> list[dict[str, Any]]:
        file = results / "started.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return read
