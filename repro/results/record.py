"""A run's record, as data and as a sealed JSON file.

The seal is the SHA-256 of the file's bytes before the seal itself, so an edited number is detected.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, Literal, overload

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from repro.errors import DataError, NewerVersion
from repro.experiment.schema import digest
from repro.wording import one_line

SCHEMA_VERSION = 1
_SEAL_KEY = b',\n  "seal": "'
_LINE_ENDINGS = "convert them back (dos2unix), or check out again with `*.json -text` in .gitattributes"

Percent = Annotated[float, Field(ge=0, le=100)]
# As large as float32 goes: sums and squares of such numbers are finite.
Number = Annotated[float, Field(ge=-1e39, le=1e39)]
Positive = Annotated[float, Field(ge=0, le=1e39)]
Seconds = Annotated[float, Field(ge=0, le=1e10)]  # three centuries
Count = Annotated[int, Field(ge=0, le=10**15)]
AtLeastOne = Annotated[int, Field(ge=1, le=10**9)]
# A text of somebody's record is shown on terminals and in lines of documents: control characters become escapes.
Text = Annotated[str, AfterValidator(one_line)]
Printable = Annotated[str, Field(pattern=r"^\P{C}*$")]  # without control characters


class _Strict(BaseModel):
    # A non-finite epoch ends its run and is not recorded, so a record never holds a NaN.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Open(_Strict):
    model_config = ConfigDict(extra="allow")  # compared and shown, but not used


class _Dataset(_Open):
    name: str
    classes: Count | None


class _Recipe(_Open):
    epochs: AtLeastOne
    batch_size: AtLeastOne


class _Configuration(_Open):
    """What is used of ``Run.configuration()`` after the run has ended."""

    dataset: _Dataset
    recipe: _Recipe
    loss: str
    model: str
    options: dict[str, Any]
    execution: dict[str, Any]
    seed: int


class EpochRecord(_Strict):
    """One epoch: losses are batch-weighted means, accuracies in percent, weights are the z of the loss.

    ``feature_correlation`` is between the mean and the variance of each sample's last features, over the training
    images of the epoch; None if the loss measures neither, and in records older than it.
    """

    epoch: AtLeastOne
    learning_rate: Number
    train_loss: Number
    train_top1_percent: Percent
    train_top5_percent: Percent
    weight_mean: Number
    weight_std: Positive
    weight_min: Number
    weight_max: Number
    test_loss: Number
    test_top1_percent: Percent
    test_top5_percent: Percent
    train_seconds: Seconds
    test_seconds: Seconds
    images_per_second: Positive
    feature_correlation: Annotated[float, Field(ge=-1, le=1)] | None = None


_EPOCH_KEYS = tuple(EpochRecord.model_fields)


class Epochs(Sequence[EpochRecord]):
    """The epochs of a run, kept as bare numbers: as objects, those of 2,000 records take 0.7 GB."""

    def __init__(self, epochs: Iterable[EpochRecord] = ()) -> None:
        values = chain.from_iterable(map(attrgetter(*_EPOCH_KEYS), epochs))
        self._numbers = array("d", (math.nan if value is None else value for value in values))

    def column(self, key: str) -> array[float]:
        """The values of ``key`` by epoch."""
        return self._numbers[_EPOCH_KEYS.index(key) :: len(_EPOCH_KEYS)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each epoch as plain data."""
        for start in range(0, len(self._numbers), len(_EPOCH_KEYS)):
            row: dict[str, Any] = dict(zip(_EPOCH_KEYS, self._numbers[start : start + len(_EPOCH_KEYS)], strict=True))
            row["epoch"] = int(row["epoch"])
            row["feature_correlation"] = None if math.isnan(row["feature_correlation"]) else row["feature_correlation"]
            yield row

    def __len__(self) -> int:
        return len(self._numbers) // len(_EPOCH_KEYS)

    def __iter__(self) -> Iterator[EpochRecord]:
        return (EpochRecord.model_construct(**row) for row in self.rows())

    @overload
    def __getitem__(self, index: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EpochRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> EpochRecord | tuple[EpochRecord, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Epochs) and self._numbers.tobytes() == other._numbers.tobytes()

    def __hash__(self) -> int:
        return hash(self._numbers.tobytes())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        objects = handler.generate_schema(tuple[EpochRecord, ...])
        as_objects = core_schema.wrap_serializer_function_ser_schema(
            lambda epochs, write: write(tuple(epochs)), schema=objects
        )
        return core_schema.no_info_after_validator_function(cls, objects, serialization=as_objects)


class Provenance(_Strict):
    """Where, when and with what a run was made.

    ``start_seconds`` are those of the last process: ``imports`` (processor time), ``data`` and ``network``, which
    ``duration_seconds`` leaves out; on a GPU also ``warm_up`` and ``capture`` of the CUDA graphs, which it includes.
    """

    biasrepro: Text
    git_commit: Text | None
    git_dirty: bool | None
    code_hash: Text
    shared_code_hash: Text | None = None  # of the part of that code that runs of every network, loss, data set share
    python: Text
    packages: dict[Text, Text]
    platform: Text
    host: Text
    device: Text
    device_name: Text
    driver: Text | None
    threads: Count
    command: Text
    data_source: Text = ""
    data_fingerprint: Text = ""
    started_at: Text
    finished_at: Text
    duration_seconds: Seconds
    start_seconds: dict[Text, Seconds] = {}
    images_per_second: Positive
    resumptions: Count = 0
    changes_accepted: tuple[Text, ...] = Field(default=(), strict=False)


class RunRecord(_Strict):
    """A finished run: completed, or diverged (a non-finite loss stopped it; ``reason`` names the step).

    ``state_hash`` is the SHA-256 over the final weights, buffers, momentum and loss state: equal for two runs that end
    with the same bits. ``last`` and ``best`` are test accuracies; best is selected on the test set.
    """

    schema_version: Literal[1] = 1
    id: Text
    table: Text
    row: Text
    column: Text
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    status: Literal["completed", "diverged"]
    reason: Text | None = None
    configuration: dict[str, Any]
    configuration_hash: Text
    parameters: Count
    last_top1_percent: Percent | None
    best_top1_percent: Percent | None
    best_epoch: Count | None
    state_hash: Text | None
    execution_in_force: dict[str, Any]
    provenance: Provenance
    epochs: Epochs = Field(strict=False)

    def outcome(self) -> dict[str, Any]:
        """The record as plain data without provenance and times: equal for two runs that computed the same."""
        times = {"train_seconds", "test_seconds", "images_per_second"}
        return self.model_dump(mode="json", exclude={"provenance": True, "epochs": {"__all__": times}})


def to_bytes(record: RunRecord) -> bytes:
    """The sealed JSON of a record, one line a field and one line an epoch."""
    fields = record.model_dump(mode="json")
    epochs = ",\n".join(f"    {_json(epoch)}" for epoch in fields.pop("epochs"))
    lines = [f'  "{key}": {_json(value)}' for key, value in fields.items()]
    lines.append(f'  "epochs": [\n{epochs}\n  ]' if epochs else '  "epochs": []')
    # A command line may hold bytes that are not UTF-8: a question mark in it is better than no record.
    return sealed(("{\n" + ",\n".join(lines)).encode(errors="replace"))


def from_bytes(raw: bytes, *, where: str, epochs: bool = True) -> RunRecord:
    """Read a sealed record, and check all of it; without ``epochs`` it takes little memory.

    Raises DataError if it was edited or damaged, contradicts itself, or is not a record of this version.
    """
    try:
        record = RunRecord.model_validate_json(unsealed(raw, where=where) + b"\n}")
        _Configuration.model_validate(record.configuration)
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
    if (why := _contradiction(record)) is not None:
        raise DataError(f"the record contradicts itself: {why}", where=where)
    return record if epochs else record.model_copy(update={"epochs": Epochs()})


def _contradiction(record: RunRecord) -> str | None:
    """What in a record contradicts itself or its configuration."""
    epochs, planned = record.epochs, record.configuration["recipe"]["epochs"]
    if record.id != f"{record.table}/{record.row}/{record.column}/seed-{record.seed}":
        return f"its id, {record.id}, is not that of its table, row, column and seed"
    if record.configuration["seed"] != record.seed:
        return "its configuration is of another seed"
    if record.configuration_hash != digest(record.configuration):
        return "its hash is not that of its configuration"
    if len(epochs) > planned or (record.status == "completed" and len(epochs) < planned):
        return f"{record.status} with {len(epochs)} of {planned} epochs"
    if list(epochs.column("epoch")) != list(range(1, len(epochs) + 1)):
        return "its epochs are not numbered 1, 2, 3 and so on"
    if record.status == "diverged" and record.last_top1_percent is None:
        return None
    top1 = epochs.column("test_top1_percent")
    if record.last_top1_percent != (top1[-1] if top1 else None):
        return "its last top-1 is not that of its last epoch"
    best = max(top1, default=None)
    if (record.best_top1_percent, record.best_epoch) != (best, None if best is None else top1.index(best) + 1):
        return "its best top-1 is not that of its best epoch"
    return None


def sealed(body: bytes) -> bytes:
    """Close a JSON object, given without its last brace, with the SHA-256 of these bytes as its last key."""
    return body + _SEAL_KEY + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'


def unsealed(raw: bytes, *, where: str, what: str = "record") -> bytes:
    """The bytes of a sealed JSON object before the seal. Raises DataError if the seal does not match them."""
    if (body := _sealed_body(raw)) is not None:
        return body
    # JSON escapes carriage returns within a text: one in the file belongs to a line's end.
    if b"\r" in raw and _sealed_body(raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")) is not None:
        raise DataError(
            f"the line endings of the {what} were converted; with LF its seal holds", where=where, hint=_LINE_ENDINGS
        )
    if _SEAL_KEY not in raw:
        raise DataError(f"no seal: the {what} is incomplete, or was not written by biasrepro", where=where)
    raise DataError(f"the seal is broken: the {what} was edited or damaged after it was written", where=where)


def _sealed_body(raw: bytes) -> bytes | None:
    body, found, seal = raw.rpartition(_SEAL_KEY)
    return body if found and seal == hashlib.sha256(body).hexdigest().encode() + b'"\n}\n' else None


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
