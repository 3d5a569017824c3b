"""Thousands of records of hundreds of epochs need little memory: as numbers when loaded, one by one when exported."""

from __future__ import annotations

import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table, runs_of
from repro.results import RunFolder, RunRecord, load_records, read_record, write_record
from repro.results.record import Epochs, to_bytes
from repro.results.rows import to_csv, to_parquet
from repro.results.store import each_record, record_paths

EPOCHS = 200


@pytest.fixture(scope="module")
def records(fake_runs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with 60 records of 200 epochs."""
    results = tmp_path_factory.mktemp("results")
    for run in runs_of(find_table(f"demo+recipe.epochs={EPOCHS}").cells[:2], range(30)):
        record: RunRecord = fake_runs.record(run)
        write_record(RunFolder.of(results, run), record, write=lambda path, data, **_: path.write_bytes(data))
    return results


def peak_bytes(work: Callable[[], object]) -> int:
    work()  # imports and caches do not count
    tracemalloc.start()
    try:
        kept = work()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak


def test_the_epochs_of_a_record_are_as_they_were_written(records: Path) -> None:
    path = next(record_paths(records))
    record = read_record(path)
    assert isinstance(record.epochs, Epochs)
    assert to_bytes(record) == path.read_bytes()
    first, *_, last = record.epochs
    assert (first.epoch, last.epoch, len(record.epochs)) == (1, EPOCHS, EPOCHS)
    assert last == record.epochs[-1] == type(last)(**list(record.epochs.rows())[-1])
    assert list(record.epochs.column("test_loss")) == [epoch.test_loss for epoch in record.epochs]
    assert pickle.loads(pickle.dumps(record)) == record
    assert hash(RunRecord.model_validate(record.model_dump()).epochs) == hash(record.epochs)
    assert "train_seconds" not in record.outcome()["epochs"][0]


def test_loaded_records_take_little_more_than_their_numbers(records: Path) -> None:
    # 15 numbers of 8 bytes an epoch; as objects, ten times as much
    assert peak_bytes(lambda: load_records(records)) < 60 * EPOCHS * 15 * 8 * 3


@pytest.mark.parametrize("write", [to_csv, to_parquet])
def test_an_export_holds_a_few_records_at_a_time(
    records: Path, write: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if write is to_parquet:
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    monkeypatch.setattr("repro.results.rows._ROWS_AT_ONCE", EPOCHS)
    monkeypatch.setattr("repro.results.files.ITEMS_AT_ONCE", 1)
    monkeypatch.setattr("repro.results.files.READERS", 1)

    def export(paths: list[Path]) -> None:
        for _ in write(found.record for found in each_record(paths) if found.record):
            pass

    paths = list(record_paths(records))
    assert peak_bytes(lambda: export(paths)) < 1.5 * peak_bytes(lambda: export(paths[:6]))
