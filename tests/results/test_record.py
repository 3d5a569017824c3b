from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest

from repro.errors import DataError, NewerVersion
from repro.results import RunRecord
from repro.results.record import Epochs, from_bytes, sealed, to_bytes


def test_a_record_survives_being_written(make_record: Callable[..., RunRecord]) -> None:
    for record in (
        make_record(),
        make_record(
            status="diverged", reason="", last_top1_percent=None, best_top1_percent=None, best_epoch=None, epochs=()
        ),
    ):
        assert from_bytes(to_bytes(record), where="run.json") == record


def test_accepted_changes_survive_being_written(make_record: Callable[..., RunRecord]) -> None:
    record = make_record()
    made = record.provenance.model_copy(
        update={"changes_accepted": ("torch was 2.14.0, is 2.15.0", "threads was 1, is 2")}
    )
    record = record.model_copy(update={"provenance": made})
    assert from_bytes(to_bytes(record), where="run.json") == record


def test_a_record_is_json_that_anything_can_read(make_record: Callable[..., RunRecord]) -> None:
    record = make_record()
    text = to_bytes(record).decode()
    data = json.loads(text)
    assert data["epochs"][1]["test_top1_percent"] == 61.25
    assert data["provenance"]["host"] == "maschine-ü"
    assert sum('"epoch": ' in line for line in text.splitlines()) == len(record.epochs), "one line an epoch"


def test_the_seal_is_the_digest_of_what_stands_before_it(make_record: Callable[..., RunRecord]) -> None:
    raw = to_bytes(make_record())
    body = raw[: raw.index(b',\n  "seal"')]
    assert json.loads(raw)["seal"] == hashlib.sha256(body).hexdigest()


def test_one_changed_bit_anywhere_shows(make_record: Callable[..., RunRecord]) -> None:
    raw = to_bytes(make_record())
    draw = random.Random(0)
    for _ in range(1000):
        damaged = bytearray(raw)
        damaged[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
        for epochs in (True, False):
            with pytest.raises(DataError):
                from_bytes(bytes(damaged), where="run.json", epochs=epochs)


@pytest.mark.parametrize(
    ("edit", "what"),
    [
        (lambda raw: raw.replace(b"61.25", b"71.25"), "the seal is broken"),
        (lambda raw: raw[:-1], "the seal is broken"),
        (lambda raw: raw + b"\n", "the seal is broken"),
        (lambda raw: raw[: len(raw) // 2], "no seal"),
        (lambda raw: b"", "no seal"),
        (lambda raw: b"{}", "no seal"),
    ],
)
def test_what_was_edited_or_cut_is_refused(
    make_record: Callable[..., RunRecord], edit: Callable[[bytes], bytes], what: str
) -> None:
    with pytest.raises(DataError, match=what) as caught:
        from_bytes(edit(to_bytes(make_record())), where="results/run.json")
    assert caught.value.where == "results/run.json"


@pytest.mark.parametrize("ending", [b"\r\n", b"\r"])
def test_converted_line_endings_are_told_from_an_edit(make_record: Callable[..., RunRecord], ending: bytes) -> None:
    converted = to_bytes(make_record()).replace(b"\n", ending)
    with pytest.raises(DataError, match="line endings of the record were converted; with LF its seal holds") as caught:
        from_bytes(converted, where="run.json")
    assert "dos2unix" in str(caught.value)
    with pytest.raises(DataError, match=r"edited or damaged|no seal"):
        from_bytes(converted.replace(b"61.25", b"71.25"), where="run.json")


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[",
        b"",
        b'{\n  "schema_version": 0',
        b'{\n  "schema_version": "2"',
        b'{\n  "id": 3',
        b'{"a": ' * 2_000,
        b'{\n  "schema_version": 1',
    ],
)
def test_what_is_sealed_but_none_of_ours_is_refused(body: bytes) -> None:
    raw = body + b',\n  "seal": "' + hashlib.sha256(body).hexdigest().encode() + b'"\n}\n'
    for epochs in (True, False):
        with pytest.raises(DataError, match="not a record of this version"):
            from_bytes(raw, where="run.json", epochs=epochs)


@pytest.mark.parametrize("epochs", [True, False])
def test_an_intact_record_of_a_newer_schema_is_newer_and_not_damaged(
    make_record: Callable[..., RunRecord], epochs: bool
) -> None:
    body = to_bytes(make_record()).rpartition(b',\n  "seal"')[0]
    raw = sealed(body.replace(b'"schema_version": 1,', b'"schema_version": 2,\n  "more": [],'))
    with pytest.raises(NewerVersion, match="schema version 2, this one reads 1") as caught:
        from_bytes(raw, where="run.json", epochs=epochs)
    assert "Update biasrepro" in str(caught.value)
    with pytest.raises(DataError, match="the seal is broken") as damaged:
        from_bytes(raw.replace(b"61.25", b"71.25"), where="run.json", epochs=epochs)
    assert damaged.value.kind == "damaged"


@pytest.mark.parametrize("epochs", [True, False])
@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"seed": 1}, "is not that of its table, row, column and seed"),
        ({"row": "other"}, "is not that of its table, row, column and seed"),
        ({"configuration": {"seed": 1}}, "its configuration is of another seed"),
        ({"configuration": {"recipe": {"epochs": 8, "batch_size": 1}}}, "completed with 2 of 8 epochs"),
        ({"configuration": {"recipe": {"epochs": 1, "batch_size": 1}}}, "completed with 2 of 1 epochs"),
        ({"configuration_hash": "0" * 64}, "its hash is not that of its configuration"),
        ({"last_top1_percent": 99.0}, "its last top-1 is not that of its last epoch"),
        ({"last_top1_percent": None}, "its last top-1 is not that of its last epoch"),
        ({"best_top1_percent": 99.0}, "its best top-1 is not that of its best epoch"),
        ({"best_top1_percent": None}, "its best top-1 is not that of its best epoch"),
        ({"best_epoch": 2}, "its best top-1 is not that of its best epoch"),
        ({"status": "diverged", "epochs": ()}, "its last top-1 is not that of its last epoch"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(
    make_record: Callable[..., RunRecord], fields: dict[str, Any], why: str, epochs: bool
) -> None:
    if "configuration" in fields:
        fields = {"configuration": make_record().configuration | fields["configuration"]}
    with pytest.raises(DataError, match="contradicts itself") as caught:
        from_bytes(to_bytes(make_record(**fields)), where="run.json", epochs=epochs)
    assert why in caught.value.what


def test_epochs_that_are_not_numbered_in_order_contradict_themselves(make_record: Callable[..., RunRecord]) -> None:
    first, second = make_record().epochs
    for epochs in ((second, first), (first, first)):
        raw = to_bytes(make_record(epochs=epochs, last_top1_percent=epochs[-1].test_top1_percent))
        with pytest.raises(DataError, match="not numbered 1, 2, 3 and so on"):
            from_bytes(raw, where="run.json", epochs=False)


@pytest.mark.parametrize("epochs", [True, False])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"parameters": 352042', b'"parameters": 1' + 400 * b"0"),
        (b'"seed": 0,', b'"seed": -1,'),
        (b'"threads": 1,', b'"threads": -1,'),
        (b'"duration_seconds": 4.5', b'"duration_seconds": 1e30'),
        (b'"epochs": 2,', b'"epochs": 1' + 30 * b"0" + b","),
        (b'"batch_size": 32, ', b""),
        (b'"dataset": {"name": "digits", ', b'"dataset": {"name": 3, '),
        (b'"execution": {', b'"execution": 3, "was": {'),
        (b'"resumptions": 0', b'"resumptions": 1' + 30 * b"0"),
        (b'{"epoch": 2, "learning_rate": 0.1', b'{"epoch": 2, "learning_rate": 1e308'),
        (b'{"epoch": 2,', b'{"epoch": 1' + 30 * b"0" + b","),
    ],
)
def test_numbers_have_bounds(make_record: Callable[..., RunRecord], old: bytes, new: bytes, epochs: bool) -> None:
    body = to_bytes(make_record()).rpartition(b',\n  "seal"')[0]
    assert old in body
    with pytest.raises(DataError, match="not a record of this version"):
        from_bytes(sealed(body.replace(old, new)), where="run.json", epochs=epochs)


def test_a_record_may_be_read_without_its_epochs(make_record: Callable[..., RunRecord]) -> None:
    record = make_record()
    assert from_bytes(to_bytes(record), where="run.json", epochs=False) == record.model_copy(
        update={"epochs": Epochs()}
    )


def test_a_text_that_holds_a_seal_does_not_end_the_record(make_record: Callable[..., RunRecord]) -> None:
    record = make_record(reason=',\n  "seal": "0",\n  "epochs": [', status="diverged")
    assert from_bytes(to_bytes(record), where="run.json") == record
    assert from_bytes(to_bytes(record), where="run.json", epochs=False).reason == record.reason


def test_a_command_line_that_is_no_utf_8_costs_no_record(make_record: Callable[..., RunRecord]) -> None:
    record = make_record()
    odd = record.provenance.model_copy(update={"command": "biasrepro train caf\udce9.yaml"})
    written = to_bytes(record.model_copy(update={"provenance": odd}))
    assert from_bytes(written, where="run.json").provenance.command == "biasrepro train caf?.yaml"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 100.5, -0.5, "61", True])
def test_an_accuracy_is_a_percentage(make_record: Callable[..., RunRecord], value: object) -> None:
    with pytest.raises(ValueError, match="last_top1_percent"):
        make_record(last_top1_percent=value)


def test_the_outcome_leaves_out_where_when_and_how_fast(make_record: Callable[..., RunRecord]) -> None:
    record = make_record()
    elsewhere = record.provenance.model_copy(update={"host": "another", "duration_seconds": 9.0})
    slower = tuple(
        epoch.model_copy(update={"train_seconds": 9.0, "test_seconds": 9.0, "images_per_second": 9.0})
        for epoch in record.epochs
    )
    assert make_record(provenance=elsewhere, epochs=slower).outcome() == record.outcome()
    for changed in ({"train_loss": 0.5}, {"weight_max": 1.0}, {"learning_rate": 0.2}):
        epochs = (record.epochs[0], record.epochs[1].model_copy(update=changed))
        assert make_record(epochs=epochs).outcome() != record.outcome(), changed


@pytest.mark.parametrize(
    ("of", "instead"),
    [
        (b'\n  "status": "completed"', b'\n  "status": 3'),
        (b'\n  "id": "', b'\n  "name": "'),
        (b'\n  "configuration_hash": "', b'\n  "configuration_hash": 7, "was": "'),
        (b'\n  "reason": null', b'\n  "reason": []'),
        (b'\n  "provenance": {', b'\n  "origin": {'),
    ],
)
def test_a_record_that_another_program_sealed_without_what_belongs_there_is_noticed(
    make_record: Callable[..., RunRecord], of: bytes, instead: bytes
) -> None:
    body = to_bytes(make_record()).rpartition(b',\n  "seal": "')[0]
    assert body.count(of) == 1
    for epochs in (True, False):
        with pytest.raises(DataError, match="not a record of this version"):
            from_bytes(sealed(body.replace(of, instead)), where="run.json", epochs=epochs)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("key", ["train_loss", "weight_std", "test_top1_percent", "duration_seconds"])
def test_a_number_that_is_none_is_no_record(key: str, value: str, make_record: Callable[..., RunRecord]) -> None:
    body = to_bytes(make_record()).partition(b',\n  "seal"')[0]
    edited = re.sub(rb'("%s": )[-\d.e+]+' % key.encode(), rb"\g<1>%s" % value.encode(), body, count=1)
    assert edited != body
    with pytest.raises(DataError, match=r"not a valid record|NaN|finite|JSON"):
        from_bytes(sealed(edited), where="run.json")
