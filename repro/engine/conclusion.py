"""The record of a run that has ended."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from repro.data import Dataset
from repro.engine.device import DeviceSettings
from repro.engine.recording import Recording
from repro.engine.state import TrainingState
from repro.experiment.plugins import PLUGINS
from repro.experiment.schema import Run
from repro.results import Provenance, RunRecord
from repro.results.weights_file import KeptWeights


def conclude(
    run: Run,
    state: TrainingState,
    settings: DeviceSettings,
    reason: str | None,
    dataset: Dataset,
    facts: Mapping[str, Any],
    recording: Recording,
    weights: KeptWeights | None,
) -> RunRecord:
    """The record of ``run``; ``reason`` says why it diverged, None if it completed. ``weights`` is the file kept.

    ``facts`` are the other fields of the provenance, from when it began to train and from its process.
    """
    if recording.anonymous:
        facts = {**facts, "host": "", "command": ""}
    cell, history = run.cell, state.history
    best = max(history, key=lambda epoch: epoch.test_top1_percent) if history else None
    train_seconds = sum(epoch.train_seconds for epoch in history)
    images = sum(epoch.images_per_second * epoch.train_seconds for epoch in history)
    return RunRecord(
        id=run.id,
        table=cell.table,
        row=cell.row.id,
        column=cell.column.id,
        seed=run.seed,
        status="diverged" if reason else "completed",
        reason=reason,
        configuration=run.configuration(),
        configuration_hash=run.hash,
        parameters=sum(parameter.numel() for parameter in state.model.parameters()),
        last_top1_percent=history[-1].test_top1_percent if history else None,
        best_top1_percent=best.test_top1_percent if best else None,
        best_epoch=best.epoch if best else None,
        state_hash=None if reason else state.hash(),
        weights=weights,
        execution_in_force=settings.to_record(),
        provenance=Provenance(
            **facts,
            data_source=dataset.source,
            data_fingerprint=dataset.fingerprint,
            data_counts=_counts(dataset),
            plugins={PLUGINS[name].file.name: PLUGINS[name].sha256 for name in cell.sources if name in PLUGINS},
            started_at=state.started_at,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            duration_seconds=state.run_seconds,
            images_per_second=images / train_seconds if train_seconds else 0.0,
            resumptions=state.resumptions,
            changes_accepted=tuple(state.changes_accepted),
        ),
        epochs=tuple(history),
    )


def _counts(dataset: Dataset) -> dict[str, int]:
    """What chance level depends on: the classes, the test images, and those of the class that has the most."""
    largest = int(dataset.test_labels.bincount().max())
    return {
        "classes": dataset.num_classes,
        "test_images": len(dataset.test_labels),
        "largest_test_class": largest,
    }
