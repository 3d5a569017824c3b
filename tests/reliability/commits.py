"""What is committed in the proofs: small states of a run that count up, and its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from repro.engine import checkpoint
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import Provenance, RunFolder, RunRecord, find_record, write_record, write_weights
from repro.results.checkpoint_file import Header
from repro.results.durable import Writer, write_durably
from repro.results.weights_file import read_weights


def a_run(seed: int = 0, column: str = "bias") -> Run:
    """A run of the demo."""
    table = find_table("demo")
    return Run(cell=table.cell(table.rows[0], next(one for one in table.columns if one.id == column)), seed=seed)


RUN = a_run()


def folder_in(results: Path, run: Run = RUN) -> RunFolder:
    """Where the run's files are under ``results``."""
    return RunFolder.of(results, run)


def state(number: int) -> dict[str, Any]:
    """A state that can be told from any other."""
    return {"number": number, "weights": torch.full((300,), float(number))}


def commit(folder: RunFolder, number: int, write: Writer = write_durably, run: Run = RUN) -> None:
    """Commit the state of this number as the run's newest."""
    if not folder.path.exists():
        folder.path.mkdir(parents=True)
    checkpoint.save(folder, Header(run.id, number, epoch=number, step=0), state(number), write)


def newest(folder: RunFolder, run: Run = RUN) -> int:
    """The number of the state that a resumed run would go on from; 0 for none."""
    loaded = checkpoint.load(folder, run.id).state
    if loaded is None:
        return 0
    assert torch.equal(loaded["weights"], state(loaded["number"])["weights"])
    return int(loaded["number"])


def a_record(run: Run = RUN, top1_percent: float = 61.25) -> RunRecord:
    """A record of the run."""
    return RunRecord(
        id=run.id,
        table=run.cell.table,
        row=run.cell.row.id,
        column=run.cell.column.id,
        seed=run.seed,
        status="completed",
        configuration=run.configuration(),
        configuration_hash=run.hash,
        parameters=1000,
        last_top1_percent=top1_percent,
        best_top1_percent=top1_percent,
        best_epoch=1,
        state_hash="0" * 64,
        execution_in_force={"device": "cpu", "threads": 1},
        provenance=Provenance(
            biasrepro="0",
            git_commit=None,
            git_dirty=None,
            code_hash="c",
            python="3.11",
            packages={},
            platform="linux",
            host="h",
            device="cpu",
            device_name="d",
            driver=None,
            threads=1,
            command="biasrepro train",
            started_at="2026-01-01T00:00:00+00:00",
            finished_at="2026-01-01T00:00:01+00:00",
            duration_seconds=1.0,
            images_per_second=1.0,
        ),
        epochs=tuple(
            {
                "epoch": epoch,
                "learning_rate": 0.1,
                "train_loss": 1.5,
                "train_top1_percent": 50.0,
                "train_top5_percent": 90.0,
                "weight_mean": 0.9,
                "weight_std": 0.05,
                "weight_min": 0.7,
                "weight_max": 1.05,
                "test_loss": 1.25,
                "test_top1_percent": top1_percent,
                "test_top5_percent": 95.5,
                "train_seconds": 0.5,
                "test_seconds": 0.25,
                "images_per_second": 100.0,
            }
            for epoch in range(1, run.cell.recipe.epochs + 1)
        ),
    )


def conclude(folder: RunFolder, write: Writer = write_durably, weights: bytes = b"final weights") -> None:
    """Commit the run's weights, then the record that names them, as a run that keeps its weights does."""
    kept = write_weights(folder, weights, write)
    write_record(folder, a_record().model_copy(update={"weights": kept}), write)


def found_whole(folder: RunFolder) -> RunRecord | None:
    """The run's record, None without one; the weights that it names are there and whole."""
    record = find_record(folder)
    if record is not None and record.weights is not None:
        read_weights(folder.weights, record.weights)
    return record
