"""A run's record, as data and as a sealed JSON file.

The seal is the SHA-256 of the file's bytes before the seal itself, so an edited number is detected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from repro.errors import DataError, NewerVersion
from repro.experiment.added_keys import all_differences, with_neutral
from repro.experiment.canonical import digest
from repro.experiment.schema import Run
from repro.results.epochs import Epochs
from repro.results.record_fields import AtLeastOne, Count, Percent, Positive, Seconds, Seed, StrictRecord, Text
from repro.results.weights_file import KeptWeights

SCHEMA_VERSION = 1
_SEAL_KEY = b',\n  "seal": "'
_LINE_ENDINGS = "convert them back (dos2unix), or check out again with `*.json -text` in .gitattributes"


class _Open(StrictRecord):
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
    sources: dict[str, str] = Field({})


class Provenance(StrictRecord):
    """Where, when and with what a run was made.

    ``start_seconds`` are those of the last process: ``imports`` (processor time), ``data`` and ``network``, which
    ``duration_seconds`` leaves out; on a GPU also ``warm_up`` and ``capture`` of the CUDA graphs, which it includes.
    ``device_uuid`` tells a GPU from others of its name; an anonymous record, which names no host, has none.
    ``peak_memory_bytes`` is the most of the last process: reserved on its GPU, or resident in main memory on a CPU.
    ``energy_joules`` is what the GPU took while the run trained and was evaluated, idle power included; None on a CPU,
    if another process was seen on the GPU, for a run that was resumed, and if the driver does not tell. Records older
    than these three have none. ``data_counts``: classes, test_images, and the test images of the class that has the
    most (largest_test_class).
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
    device_uuid: Text | None = None
    threads: Count
    command: Text
    data_source: Text = ""
    data_fingerprint: Text = ""
    data_counts: dict[Text, Count] = Field({})
    plugins: dict[Text, Text] = Field({})
    started_at: Text
    finished_at: Text
    duration_seconds: Seconds
    start_seconds: dict[Text, Seconds] = Field({})
    images_per_second: Positive
    peak_memory_bytes: Count | None = None
    energy_joules: Positive | None = None
    resumptions: Count = 0
    changes_accepted: tuple[Text, ...] = Field(default=(), strict=False)

    @field_validator("device_uuid")
    @classmethod
    def _none_without_a_host(cls, value: str | None, info: ValidationInfo) -> str | None:
        """It would tell whose machine an anonymous record is from."""
        return value if info.data.get("host") else None


class Imported(StrictRecord):
    """Where the accuracies of a run come from that was trained elsewhere; its configuration is claimed, not verified.

    ``file`` and ``sha256`` are the name and the hash of the file, ``line`` where the run begins in it, ``at`` when it
    was read. ``epochs`` and ``top1_percent`` are its curve, test top-1 after these epochs; empty if the file has none.
    """

    file: Text
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    line: AtLeastOne
    at: Text
    epochs: Annotated[tuple[AtLeastOne, ...], Field(strict=False)] = ()
    top1_percent: Annotated[tuple[Percent, ...], Field(strict=False)] = ()


class RunRecord(StrictRecord):
    """A finished run: completed, or diverged (a non-finite loss stopped it; ``reason`` names the step).

    ``state_hash`` is the SHA-256 over the final weights, buffers, optimizer and loss state: equal for two runs that end
    with the same bits. ``weights`` is the hash of the file beside the record, if the run keeps one. ``last`` and
    ``best`` are test accuracies; best is selected on the test set. An ``imported`` run was not trained
    by biasrepro: it has accuracies, and nothing else is known of it.
    """

    schema_version: Literal[1] = 1
    id: Text
    table: Text
    row: Text
    column: Text
    seed: Seed
    status: Literal["completed", "diverged"]
    reason: Text | None = None
    configuration: dict[str, Any]
    configuration_hash: Text
    parameters: Count | None
    last_top1_percent: Percent | None
    best_top1_percent: Percent | None
    best_epoch: Count | None
    state_hash: Text | None
    weights: KeptWeights | None = None
    execution_in_force: dict[str, Any]
    provenance: Provenance
    imported: Imported | None = None
    epochs: Epochs = Field(strict=False)

    @property
    def sources(self) -> dict[str, str]:
        """What the run used that only a machine which has it knows, by name: the SHA-256 of each plugin."""
        sources: dict[str, str] = self.configuration.get("sources", {})
        return sources

    def is_of(self, run: Run) -> bool:
        """Whether this is a record of the configuration of ``run``.

        What of ``run`` is not known on this machine, such as the code of a plugin that is not loaded, is taken from the
        record.
        """
        return self.configuration_hash == digest(run.configuration(self.sources))

    def unlike(self, run: Run) -> str:
        """Every key in which the configuration differs from that of ``run``: ``recipe.epochs is 2 there, 200 here``."""
        return all_differences(with_neutral(self.configuration), with_neutral(run.configuration(self.sources)))

    def curve(self) -> tuple[Sequence[float], Sequence[float]]:
        """Epochs, and the test top-1 in percent after each of them; both empty if none is known."""
        if self.imported is not None:
            return self.imported.epochs, self.imported.top1_percent
        return self.epochs.column("epoch"), self.epochs.column("test_top1_percent")

    def outcome(self) -> dict[str, Any]:
        """The record without provenance, times and what was kept: equal for two runs that computed the same."""
        times = {"train_seconds", "test_seconds", "images_per_second"}
        return self.model_dump(mode="json", exclude={"provenance": True, "weights": True, "epochs": {"__all__": times}})


def to_bytes(record: RunRecord) -> bytes:
    """The sealed JSON of a record, one line a field and one line an epoch."""
    # A trained run that keeps no weights has the record that it had before there were any.
    unsaid = {key for key in ("weights", "imported") if getattr(record, key) is None}
    fields = record.model_dump(mode="json", exclude=unsaid)
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
    planned = record.configuration["recipe"]["epochs"]
    if record.id != f"{record.table}/{record.row}/{record.column}/seed-{record.seed}":
        return f"its id, {record.id}, is not that of its table, row, column and seed"
    if record.configuration["seed"] != record.seed:
        return "its configuration is of another seed"
    if record.configuration_hash != digest(record.configuration):
        return "its hash is not that of its configuration"
    if record.imported is not None:
        return _contradiction_of_import(record, record.imported, planned)
    epochs = record.epochs
    if record.parameters is None:
        return "it was trained, and has no number of parameters"
    if len(epochs) > planned or (record.status == "completed" and len(epochs) < planned):
        return f"{record.status} with {len(epochs)} of {planned} epochs"
    if list(epochs.column("epoch")) != list(range(1, len(epochs) + 1)):
        return "its epochs are not numbered 1, 2, 3 and so on"
    if record.status == "diverged" and record.last_top1_percent is None:
        return None
    return _wrong_ends(record, epochs.column("epoch"), epochs.column("test_top1_percent"))


def _contradiction_of_import(record: RunRecord, imported: Imported, planned: int) -> str | None:
    """What in an imported record contradicts itself: it has accuracies alone."""
    epochs, top1 = imported.epochs, imported.top1_percent
    if record.status != "completed" or record.last_top1_percent is None:
        return "it is imported without an accuracy"
    if record.epochs or record.state_hash is not None or record.parameters is not None:
        return "it is imported, and has what only a trained run has"
    if len(epochs) != len(top1) or list(epochs) != sorted(set(epochs)):
        return "the epochs of its curve are not rising, or not as many as its accuracies"
    if not epochs:
        return "a best top-1 without a curve" if record.best_epoch or record.best_top1_percent is not None else None
    if epochs[-1] != planned:
        return f"its curve ends with epoch {epochs[-1]} of {planned}"
    return _wrong_ends(record, epochs, top1)


def _wrong_ends(record: RunRecord, epochs: Sequence[float], top1: Sequence[float]) -> str | None:
    """Whether the last and the best top-1 are others than those of the epochs."""
    if record.last_top1_percent != (top1[-1] if top1 else None):
        return "its last top-1 is not that of its last epoch"
    best = max(top1, default=None)
    best_epoch = None if best is None else int(epochs[top1.index(best)])
    if (record.best_top1_percent, record.best_epoch) != (best, best_epoch):
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
