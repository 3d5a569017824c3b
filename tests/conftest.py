from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Callable, Iterable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro.errors import UserError
from repro.experiment.config import load_table, runs_of
from repro.experiment.schema import Run, Table
from repro.results import EpochRecord, Found, Provenance, RunRecord

OWN = """\
table: mine
label: Mine
title: A study of my own
kind: study
dataset: {name: digits}
recipe:
  epochs: 4
  learning_rate: 1e-1
  decay_epochs: [2, 3]
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: squeezenet, title: SqueezeNet, model: squeezenet, published: {top1_percent: {ce: 90, bias: 91}}}
"""


LoadFile = Callable[[Path], ModuleType]


@pytest.fixture(scope="session")
def load_file() -> LoadFile:
    """A function that runs a Python file as a module of its name, which nothing else can import."""

    def load(path: Path) -> ModuleType:
        spec = spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def fake_driver(monkeypatch: pytest.MonkeyPatch, load_file: LoadFile) -> Callable[..., None]:
    """A function that gives this machine an NVIDIA driver with the GPUs it is called with."""
    module = load_file(Path(__file__).parent / "fake_driver" / "pynvml.py")
    monkeypatch.setitem(sys.modules, "pynvml", module)

    def install(*gpus: dict[str, Any]) -> None:
        monkeypatch.setenv("FAKE_NVML", json.dumps({"driver": "570.86.10", "gpus": gpus}))

    return install


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's own experiment file, small and right."""
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    return file


@pytest.fixture
def own_text() -> str:
    """What is in it."""
    return OWN


@pytest.fixture
def refusal(own: Path) -> Callable[..., str]:
    """Puts a text into the user's file, and returns what a person reads when it is refused."""

    def refuse(text: str, *overrides: str) -> str:
        own.write_text(text)
        with pytest.raises(UserError) as caught:
            load_table(own, overrides)
        return str(caught.value).replace(str(own), "own.yaml")

    return refuse


class FakeRuns:
    """Runs as if trained: around what is printed (else 60 %), learning like networks do, reproducible by formula."""

    def record(self, run: Run, **changes: Any) -> RunRecord:
        """A completed run of ``run``; ``changes`` replace fields of the record, or of its provenance."""
        epochs = changes.pop("epochs", None) or self.epochs_of(run)
        provenance = {
            "biasrepro": "0.1.0",
            "git_commit": "0123456789abcdef0123456789abcdef01234567",
            "git_dirty": False,
            "code_hash": "c" * 64,
            "python": "3.11.2",
            "packages": {"torch": "2.15.0", "torchvision": "0.29.2"},
            "platform": "Linux",
            "host": "node-a",
            "device": "cuda",
            "device_name": "NVIDIA H200",
            "driver": "570.1",
            "threads": 1,
            "command": f"biasrepro sweep {run.cell.table}",
            "started_at": "2026-01-01T00:00:00+00:00",
            "finished_at": "2026-01-01T01:00:00+00:00",
            "duration_seconds": 3600.0,
            "images_per_second": 20_000.0,
        }
        provenance |= {key: changes.pop(key) for key in list(changes) if key in Provenance.model_fields}
        best = max(epochs, key=lambda epoch: epoch.test_top1_percent)
        fields = {
            "id": run.id,
            "table": run.cell.table,
            "row": run.cell.row.id,
            "column": run.cell.column.id,
            "seed": run.seed,
            "status": "completed",
            "configuration": run.configuration(),
            "configuration_hash": run.hash,
            "parameters": 444_000 + 100_000 * len(run.cell.row.id),
            "last_top1_percent": epochs[-1].test_top1_percent,
            "best_top1_percent": best.test_top1_percent,
            "best_epoch": best.epoch,
            "state_hash": "5" * 64,
            "execution_in_force": run.cell.execution.model_dump(mode="json"),
            "provenance": Provenance(**provenance),
            "epochs": epochs,
        }
        return RunRecord(**(fields | changes))

    def epochs_of(self, run: Run, until: int | None = None) -> tuple[EpochRecord, ...]:
        """Its epochs, all or the first ``until``."""
        row, column, recipe = run.cell.row, run.cell.column, run.cell.recipe
        printed = row.published.top1_percent if row.published else {}
        noise = random.Random(run.id)
        last = printed.get(column.id, 60.0 + len(column.id) / 10) + noise.gauss(0, 0.25)
        low, high = {"ce": (1.0, 1.0), "inverse_bias": (0.95, 1.43)}.get(column.loss, (0.7, 1.05))
        epochs = []
        for epoch in range(1, (until or recipe.epochs) + 1):
            drops = sum(epoch > decay for decay in recipe.decay_epochs) + 1
            reached = 1 - 0.45 * math.exp(-5 * epoch / recipe.epochs) - 0.12 / drops
            plateau = last * reached / (1 - 0.12 / (len(recipe.decay_epochs) + 1))
            top1 = min(plateau + noise.gauss(0, 0.6 / drops**2), 99)
            top1 = last if epoch == recipe.epochs else top1
            middle = (low + high) / 2 - 0.1 * (high - low) * epoch / recipe.epochs
            epochs.append(
                EpochRecord(
                    epoch=epoch,
                    learning_rate=recipe.learning_rate * recipe.decay_factor ** (drops - 1),
                    train_loss=4.6 * math.exp(-3 * epoch / recipe.epochs),
                    train_top1_percent=round(min(top1 + 5, 100), 2),
                    train_top5_percent=round(min(top1 + 25, 100), 2),
                    weight_mean=middle,
                    weight_std=(high - low) / 6,
                    weight_min=low,
                    weight_max=high,
                    test_loss=4.6 * math.exp(-2 * epoch / recipe.epochs),
                    test_top1_percent=round(top1, 2),
                    test_top5_percent=round(min(top1 + 20, 100), 2),
                    train_seconds=17.0,
                    test_seconds=1.0,
                    images_per_second=20_000.0,
                )
            )
        return tuple(epochs)

    def of(self, table: Table, seeds: Iterable[int], **changes: Any) -> list[Found]:
        """Every cell of ``table`` with every seed, as if read from ``results``."""
        return [self.found(self.record(run, **changes)) for run in runs_of(table.cells, seeds)]

    def found(self, record: RunRecord) -> Found:
        """``record`` as if read from its place."""
        return Found(Path("results") / record.id / "run.json", record, None)


@pytest.fixture(scope="session")
def fake_runs() -> FakeRuns:
    """Makes runs that were never trained."""
    return FakeRuns()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", action="store_true", help="print the figures of docs/reliability-tests.md at the end")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m cuda``, collect only the files with such tests: a GPU machine need not have what the others import."""
    if config.option.markexpr != "cuda":
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any("mark.cuda" in file.read_text(encoding="utf-8") for file in files) else True


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """With ``--figures``: the figures that the reliability tests noted (``proved``), how often and with what result."""
    if not config.getoption("--figures"):
        return
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    figures = [text for report in reports for name, text in report.user_properties if name == "proved"]
    if figures:
        terminalreporter.section("proved")
        for figure in sorted(figures):
            terminalreporter.line(str(figure))
