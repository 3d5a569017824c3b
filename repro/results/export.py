"""Records as plain rows: a line an epoch, or a line a run, with the same columns whatever the experiment. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from repro.errors import UserError
from repro.experiment.catalog import DATASETS
from repro.results import EpochRecord, RunRecord
from repro.results.record import SCHEMA_VERSION

# What a row says of its run: name and type, in the order of the columns.
OF_RUN: dict[str, type] = {
    "run": str,
    "table": str,
    "row": str,
    "column": str,
    "seed": int,
    "status": str,
    "model": str,
    "loss": str,
    "alpha": float,
    "beta": float,
    "normalization": str,
    "dataset": str,
    "classes": int,
    "precision": str,
    "parameters": int,
    "device_name": str,
    "biasrepro": str,
    "git_commit": str,
    "configuration_hash": str,
}
OF_EPOCH: dict[str, type] = {name: int if name == "epoch" else float for name in EpochRecord.model_fields}
OF_END: dict[str, type] = {
    "epochs": int,
    "last_top1_percent": float,
    "best_top1_percent": float,
    "best_epoch": int,
    "reason": str,
    "state_hash": str,
    "started_at": str,
    "finished_at": str,
    "duration_seconds": float,
    "images_per_second": float,
    "resumptions": int,
}

COLUMNS = {"epochs": OF_RUN | OF_EPOCH, "runs": OF_RUN | OF_END}


def rows(records: Iterable[RunRecord], level: str = "epochs") -> Iterator[dict[str, Any]]:
    """A row for every epoch of every record, or (``runs``) for every record; None where there is nothing to say."""
    for record in sorted(records, key=lambda record: (record.table, record.row, record.column, record.seed)):
        of_run = _of_run(record)
        if level == "runs":
            yield of_run | _of_end(record)
        else:
            yield from (of_run | epoch.model_dump() for epoch in record.epochs)


def to_csv(records: Iterable[RunRecord], level: str = "epochs") -> bytes:
    """The rows as UTF-8 CSV with a heading (RFC 4180, but lines end in a newline alone); None is an empty field."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS[level], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows(records, level))
    return text.getvalue().encode()


def to_parquet(records: Iterable[RunRecord], level: str = "epochs") -> bytes:
    """The rows as Parquet, typed: strings, int64, float64, each with nulls. Raises UserError without pyarrow."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow, which is not installed", hint="pip install 'biasrepro[parquet]', or export as .csv"
        ) from error
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS[level].items()])
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows(records, level)), schema=schema), buffer)
    return buffer.getvalue()


def record_schema() -> dict[str, Any]:
    """The JSON Schema of ``run.json``: the record's model, and the seal that closes the file."""
    schema = RunRecord.model_json_schema()
    schema["properties"]["seal"] = {
        "title": "Seal",
        "description": "SHA-256 (hex) of the file's bytes before the comma that precedes this key.",
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
    }
    schema["required"] = [*schema["required"], "seal"]
    heading = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"biasrepro run record, version {SCHEMA_VERSION}",
    }
    return heading | {key: value for key, value in schema.items() if key != "title"}


def schema_to_bytes() -> bytes:
    """The JSON Schema as it is published in ``docs/record.schema.json``."""
    return json.dumps(record_schema(), indent=2, ensure_ascii=False).encode() + b"\n"


def _of_run(record: RunRecord) -> dict[str, Any]:
    configuration, made = record.configuration, record.provenance
    weighting, dataset = configuration.get("weighting") or {}, configuration.get("dataset") or {}
    facts = DATASETS.get(str(dataset.get("name")))
    return {
        "run": record.id,
        "table": record.table,
        "row": record.row,
        "column": record.column,
        "seed": record.seed,
        "status": record.status,
        "model": configuration.get("model"),
        "loss": configuration.get("loss"),
        "alpha": weighting.get("alpha"),
        "beta": weighting.get("beta"),
        "normalization": weighting.get("normalization"),
        "dataset": dataset.get("name"),
        "classes": dataset.get("classes") or (facts and facts.num_classes),
        "precision": record.execution_in_force.get("precision"),
        "parameters": record.parameters,
        "device_name": made.device_name,
        "biasrepro": made.biasrepro,
        "git_commit": made.git_commit,
        "configuration_hash": record.configuration_hash,
    }


def _of_end(record: RunRecord) -> dict[str, Any]:
    made = record.provenance
    return {
        "epochs": len(record.epochs),
        "last_top1_percent": record.last_top1_percent,
        "best_top1_percent": record.best_top1_percent,
        "best_epoch": record.best_epoch,
        "reason": record.reason,
        "state_hash": record.state_hash,
        "started_at": made.started_at,
        "finished_at": made.finished_at,
        "duration_seconds": made.duration_seconds,
        "images_per_second": made.images_per_second,
        "resumptions": made.resumptions,
    }
