from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from repro.experiment.canonical import digest
from repro.experiment.config import find_table, runs_of
from repro.experiment.schema import Run
from repro.results import EpochRecord, Provenance, RunRecord


@pytest.fixture
def run() -> Run:
    return runs_of(find_table("demo").cells, [0])[1]


@pytest.fixture
def make_record(run: Run) -> Callable[..., RunRecord]:
    """A record of two epochs of ``run``, or of another, with fields replaced."""

    def make(of: Run = run, **fields: Any) -> RunRecord:
        cell = of.cell
        configuration = of.configuration()
        configuration["recipe"] |= {"epochs": 2}
        configuration = fields.get("configuration", configuration)
        values: dict[str, Any] = {
            "id": of.id,
            "table": cell.table,
            "row": cell.row.id,
            "column": cell.column.id,
            "seed": of.seed,
            "status": "completed",
            "configuration": configuration,
            "configuration_hash": digest(configuration),
            "parameters": 352_042,
            "last_top1_percent": 61.25,
            "best_top1_percent": 62.5,
            "best_epoch": 1,
            "state_hash": "0" * 64,
            "execution_in_force": {"precision": "fp32", "threads": 1},
            "provenance": provenance(),
            "epochs": (epoch(1, 62.5), epoch(2, 61.25)),
        }
        return RunRecord(**values | fields)

    return make


def epoch(number: int, top1: float) -> EpochRecord:
    return EpochRecord(
        epoch=number,
        learning_rate=0.1,
        train_loss=1 / 3,
        train_top1_percent=60.1,
        train_top5_percent=90.2,
        weight_mean=0.85,
        weight_std=0.1,
        weight_min=0.7,
        weight_max=1.0498588075760031,
        test_loss=1.5,
        test_top1_percent=top1,
        test_top5_percent=95.0,
        train_seconds=1.5 * number,
        test_seconds=0.25,
        images_per_second=957.3,
    )


def provenance(**fields: Any) -> Provenance:
    values: dict[str, Any] = {
        "biasrepro": "0.1.0",
        "git_commit": "a" * 40,
        "git_dirty": False,
        "code_hash": "b" * 64,
        "python": "3.11.7",
        "packages": {"torch": "2.15.0"},
        "platform": "Linux",
        "host": "maschine-ü",
        "device": "cpu",
        "device_name": "a processor",
        "driver": None,
        "threads": 1,
        "command": 'biasrepro sweep demo --set "recipe.epochs=2"',
        "started_at": "2026-01-01T00:00:00+00:00",
        "finished_at": "2026-01-01T00:00:05+00:00",
        "duration_seconds": 4.5,
        "images_per_second": 957.3,
    }
    return Provenance(**values | fields)
