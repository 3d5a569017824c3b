"""Records as plain rows: a line an epoch, or a line a run, with the same columns whatever the experiment. Pure."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from repro.errors import UserError
from repro.experiment.catalog import DATASETS
from repro.results import EpochRecord, RunRecord
from repro.results.record import SCHEMA_VERSION
from repro.wording import spreadsheet_text

# The columns that describe a run, then its end: type, and where the value is in the record.
_OF_RUN: dict[str, tuple[type, str]] = {
    "run": (str, "id"),
    "table": (str, "table"),
    "row": (str, "row"),
    "column": (str, "column"),
    "seed": (int, "seed"),
    "status": (str, "status"),
    "model": (str, "configuration.model"),
    "loss": (str, "configuration.loss"),
    "alpha": (float, "configuration.weighting.alpha"),
    "beta": (float, "configuration.weighting.beta"),
    "normalization": (str, "configuration.weighting.normalization"),
    "dataset": (str, "configuration.dataset.name"),
    "classes": (int, "configuration.dataset.classes"),  # all of the data set's if the configuration says none
    "precision": (str, "execution_in_force.precision"),
    "parameters": (int, "parameters"),
    "device_name": (str, "provenance.device_name"),
    "biasrepro": (str, "provenance.biasrepro"),
    "git_commit": (str, "provenance.git_commit"),
    "configuration_hash": (str, "configuration_hash"),
    "imported": (str, "imported.file"),
}
_OF_END: dict[str, tuple[type, str]] = {
    "epochs": (int, "epochs"),  # their number
    "last_top1_percent": (float, "last_top1_percent"),
    "best_top1_percent": (float, "best_top1_percent"),
    "best_epoch": (int, "best_epoch"),
    "reason": (str, "reason"),
    "state_hash": (str, "state_hash"),
    "started_at": (str, "provenance.started_at"),
    "finished_at": (str, "provenance.finished_at"),
    "duration_seconds": (float, "provenance.duration_seconds"),
    "images_per_second": (float, "provenance.images_per_second"),
    "resumptions": (int, "provenance.resumptions"),
}
_ROWS_AT_ONCE = 5_000
_OF_EPOCH: dict[str, type] = {name: int if name == "epoch" else float for name in EpochRecord.model_fields}
_UNKNOWN_EPOCH = dict.fromkeys(_OF_EPOCH)
_UNKNOWN_OF_IMPORTED = dict.fromkeys(("device_name", "biasrepro"))
_UNKNOWN_END_OF_IMPORTED = dict.fromkeys(("started_at", "finished_at", "resumptions"))
_OF_RUN_TYPES = {name: kind for name, (kind, _) in _OF_RUN.items()}

COLUMNS: dict[str, dict[str, type]] = {
    "epochs": _OF_RUN_TYPES | _OF_EPOCH,
    "runs": _OF_RUN_TYPES | {name: kind for name, (kind, _) in _OF_END.items()},
}


def rows(records: Iterable[RunRecord], level: str = "epochs") -> Iterator[dict[str, Any]]:
    """A row for every epoch of every record, or (``runs``) for every record; None if there is nothing to say.

    Of the epochs of an imported run only the test top-1 is known.
    """
    for record in records:
        fields = record.model_dump(exclude={"epochs"})
        facts = DATASETS.get(record.configuration["dataset"]["name"])
        of_run = {name: _value(fields, path, kind) for name, (kind, path) in _OF_RUN.items()}
        counted = record.provenance.data_counts.get("classes")  # the plugin here may be a later version
        of_run["classes"] = of_run["classes"] or counted or (facts.num_classes if facts else None)
        if record.imported is not None:  # the record says where it was imported, which is not where the run was trained
            of_run |= _UNKNOWN_OF_IMPORTED
        if level == "runs":
            of_end = {name: _value(fields, path, kind) for name, (kind, path) in _OF_END.items()}
            # A record has 0 for an imported run, and for the speed of one that finished no epoch.
            times = {name: of_end[name] or None for name in ("duration_seconds", "images_per_second")}
            if record.imported is not None:
                of_end |= _UNKNOWN_END_OF_IMPORTED
            yield of_run | of_end | times | {"epochs": len(record.curve()[0])}
        elif record.imported is not None:
            for epoch, top1 in zip(*record.curve(), strict=True):
                yield of_run | _UNKNOWN_EPOCH | {"epoch": epoch, "test_top1_percent": top1}
        else:
            yield from (of_run | epoch for epoch in record.epochs.rows())


def to_csv(records: Iterable[RunRecord], level: str = "epochs") -> Iterator[bytes]:
    """The rows as UTF-8 CSV with a heading (RFC 4180, but lines end in a newline alone), in parts of whole lines.

    None is an empty field.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS[level], lineterminator="\n")
    writer.writeheader()
    for batch in _batches(rows(records, level)):
        for row in batch:
            writer.writerow({name: spreadsheet_text(value) for name, value in row.items()})
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def to_parquet(records: Iterable[RunRecord], level: str = "epochs") -> Iterator[bytes]:
    """The rows as Parquet in parts, typed: strings, int64, float64, with nulls. Raises UserError without pyarrow."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs pyarrow, which is not installed", hint="pip install 'biasrepro[parquet]', or export as .csv"
        ) from error
    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS[level].items()])
    parts = _Parts()
    with parquet.ParquetWriter(parts, schema) as writer:
        for batch in _batches(rows(records, level)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            yield parts.take()
    yield parts.take()


class _Parts(io.RawIOBase):
    """A file whose content is taken away while it is written."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """What was written since the last call."""
        taken = b"".join(self._parts)
        self._parts.clear()
        return taken


def _batches(found: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(found, _ROWS_AT_ONCE)):
        yield batch


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


def _value(fields: Any, path: str, kind: type) -> Any:
    """The value at a dotted path, None if it ends early or is of another kind."""
    for key in path.split("."):
        fields = fields.get(key) if isinstance(fields, dict) else None
    return fields if type(fields) is kind else None
