"""A run's record, as data and as a sealed JSON file.

The seal is the SHA-256 of the file's bytes before the seal itself, so an edited number is detected.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repro.errors import DataError, NewerVersion

SCHEMA_VERSION = 1
_SEAL_KEY = b',\n  "seal": "'
_EPOCHS_KEY = b',\n  "epochs": ['

# These depend on the machine and the moment, not on the mathematics: left out when two runs are compared.
_TIMING_OF_AN_EPOCH = ("train_seconds", "test_seconds", "images_per_second")

Percent = Annotated[float, Field(ge=0, le=100)]
Printable = Annotated[str, Field(pattern=r"^\P{C}*$")]  # without control characters


class _Strict(BaseModel):
    # A non-finite epoch ends its run and is not recorded, so a record never holds a NaN.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class EpochRecord(_Strict):
    """One epoch: losses are batch-weighted means, accuracies in percent, weights are the z of the loss."""

    epoch: Annotated[int, Field(ge=1)]
    learning_rate: float
    train_loss: float
    train_top1_percent: Percent
    train_top5_percent: Percent
    weight_mean: float
    weight_std: float
    weight_min: float
    weight_max: float
    test_loss: float
    test_top1_percent: Percent
    test_top5_percent: Percent
    train_seconds: float
    test_seconds: float
    images_per_second: float


class Provenance(_Strict):
    """Where, when and with what a run was made."""

    biasrepro: str
    git_commit: str | None
    git_dirty: bool | None
    code_hash: str
    python: str
    packages: dict[str, str]
    platform: str
    host: str
    device: str
    device_name: str
    driver: str | None
    threads: int
    command: str
    data_source: str = ""
    data_fingerprint: str = ""
    started_at: str
    finished_at: str
    duration_seconds: float
    images_per_second: float
    resumptions: int = 0
    changes_accepted: tuple[str, ...] = Field(default=(), strict=False)


class RunRecord(_Strict):
    """A finished run: completed, or diverged (a non-finite loss stopped it; ``reason`` names the step).

    ``state_hash`` is the SHA-256 over the final weights, buffers, momentum and loss state: equal for two runs that end
    with the same bits. ``last`` and ``best`` are test accuracies; best is selected on the test set.
    """

    schema_version: Literal[1] = 1
    id: str
    table: str
    row: str
    column: str
    seed: int
    status: Literal["completed", "diverged"]
    reason: str | None = None
    configuration: dict[str, Any]
    configuration_hash: str
    parameters: int
    last_top1_percent: Percent | None
    best_top1_percent: Percent | None
    best_epoch: int | None
    state_hash: str | None
    execution_in_force: dict[str, Any]
    provenance: Provenance
    epochs: tuple[EpochRecord, ...] = Field(strict=False)

    def outcome(self) -> dict[str, Any]:
        """The record as plain data without provenance and times: equal for two runs that computed the same."""
        data = self.model_dump(mode="json", exclude={"provenance"})
        for epoch in data["epochs"]:
            for key in _TIMING_OF_AN_EPOCH:
                del epoch[key]
        return data


def to_bytes(record: RunRecord) -> bytes:
    """The sealed JSON of a record, one line a field and one line an epoch."""
    fields = record.model_dump(mode="json")
    epochs = ",\n".join(f"    {_json(epoch)}" for epoch in fields.pop("epochs"))
    lines = [f'  "{key}": {_json(value)}' for key, value in fields.items()]
    lines.append(f'  "epochs": [\n{epochs}\n  ]' if epochs else '  "epochs": []')
    # A command line may hold bytes that are not UTF-8: a question mark in it is better than no record.
    return sealed(("{\n" + ",\n".join(lines)).encode(errors="replace"))


def from_bytes(raw: bytes, *, where: str, epochs: bool = True) -> RunRecord:
    """Read a sealed record; leaving out its ``epochs`` saves most of the time.

    Raises DataError if it was edited or damaged, or is not a record of this version.
    """
    body = unsealed(raw, where=where)
    if not epochs:
        head, found, _ = body.partition(_EPOCHS_KEY)
        body = head + _EPOCHS_KEY + b"]" if found else body
    try:
        return RunRecord.model_validate_json(body + b"\n}")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        version = first["input"] if first["loc"] == ("schema_version",) else None
        if isinstance(version, int) and version > SCHEMA_VERSION:
            raise NewerVersion(
                f"a newer biasrepro wrote this record: schema version {version}, this one reads {SCHEMA_VERSION}",
                where=where,
                hint="Update biasrepro. The record is left as it is.",
            ) from error
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise DataError(f"not a record of this version: {key}: {first['msg']}", where=where) from error


def sealed(body: bytes) -> bytes:
    """Close a JSON object, given without its last brace, with the SHA-256 of these bytes as its last key."""
    return body + _SEAL_KEY + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def unsealed(raw: bytes, *, where: str, what: str = "record") -> bytes:
    """The bytes of a sealed JSON object before the seal. Raises DataError if the seal does not match them."""
    body, found, seal = raw.rpartition(_SEAL_KEY)
    if not found:
        raise DataError(f"no seal: the {what} is incomplete, or was not written by biasrepro", where=where)
    if seal != hashlib.sha256(body).hexdigest().encode() + b'"\n}\n':
        raise DataError(f"the seal is broken: the {what} was edited or damaged after it was written", where=where)
    return body


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
