"""Runs that were trained elsewhere, read from CSV: what becomes of them, and what is refused with its line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from repro.errors import DataError
from repro.experiment.config import load_table
from repro.experiment.schema import Run
from repro.results.imports import records_of_csv
from repro.results.record import Imported, from_bytes, to_bytes

HEADING = "row,column,seed,top1\n"
WITH_EPOCHS = "row,column,seed,epoch,top1\n"
CURVE = "".join(f"squeezenet,ce,0,{epoch},{40 + epoch}.5\n" for epoch in range(1, 5))  # the table's runs have 4 epochs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "runs.csv"


def test_a_line_a_run(own: Path, file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + f"{HEADING}squeezenet,bias,0,43.25\r\n\r\n squeezenet , ce ,2, 43\n".encode())
    table = load_table(own)
    ce, bias = records_of_csv(file, table)
    assert (ce.id, ce.last_top1_percent) == ("mine/squeezenet/ce/seed-2", 43.0)
    assert (bias.id, bias.last_top1_percent) == ("mine/squeezenet/bias/seed-0", 43.25)
    assert (bias.best_top1_percent, bias.best_epoch, bias.parameters, bias.state_hash) == (None, None, None, None)
    assert bias.configuration_hash == Run(cell=table.cells[1], seed=0).hash
    assert isinstance(bias.imported, Imported)
    assert (bias.imported.file, bias.imported.line) == ("runs.csv", 2)
    assert bias.imported.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_line_an_epoch(own: Path, file: Path) -> None:
    lines = CURVE.replace("43.5", "49").splitlines(keepends=True)
    file.write_text(WITH_EPOCHS + "".join(reversed(lines)))
    [record] = records_of_csv(file, load_table(own))
    assert record.curve() == ((1, 2, 3, 4), (41.5, 42.5, 49.0, 44.5))
    assert (record.last_top1_percent, record.best_top1_percent, record.best_epoch) == (44.5, 49.0, 3)
    assert from_bytes(to_bytes(record), where="run.json") == record


def test_a_curve_may_have_gaps(own: Path, file: Path) -> None:
    file.write_text(f"{WITH_EPOCHS}squeezenet,ce,0,2,40\nsqueezenet,ce,0,4,41\n")
    [record] = records_of_csv(file, load_table(own))
    assert (record.curve(), record.best_epoch) == (((2, 4), (40.0, 41.0)), 4)


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        (b"", None, "the file is empty"),
        (b"\n \n", None, "the file is empty"),
        (HEADING, None, "there is no run below the heading"),
        ("row,column,seed\nsqueezenet,ce,0\n", 1, "missing columns: top1"),
        ("row,column,seed,accuracy\nsqueezenet,ce,0,43\n", 1, "unknown columns: 'accuracy'"),
        ("row,row,column,seed,top1\n", 1, "a column is there twice"),
        ("row;column;seed;top1\nsqueezenet;ce;0;43,2\n", 1, "separated by semicolons"),
        (HEADING.encode() + b"squeezenet,ce,0,4\xff\n", 2, "not UTF-8"),
        (f"{HEADING}squeezenet,ce,0,43\n".encode("utf-16"), None, "UTF-16"),
        (f'{HEADING}"squeezenet,ce,0,43\n', 2, "not CSV"),
        (f"{HEADING}squeezenet,ce,0,43,2\n", 2, "5 fields, where the heading has 4"),
        (f"{HEADING}squeeznet,ce,0,43\n", 2, "mine has no row called 'squeeznet'"),
        (f"{HEADING}squeezenet,mean,0,43\n", 2, "mine has no column called 'mean'"),
        (f"{HEADING}squeezenet,ce,-1,43\n", 2, "seed '-1' is not a whole number from 0"),
        (f"{HEADING}squeezenet,ce,0.0,43\n", 2, "seed '0.0' is not a whole number"),
        (f"{HEADING}squeezenet,ce,4294967296,43\n", 2, "seed '4294967296'"),
        (f"{HEADING}squeezenet,ce,0,100.1\n", 2, "top1 '100.1' is not a number from 0 to 100"),
        (f"{HEADING}squeezenet,ce,0,-1\n", 2, "top1 '-1'"),
        (f"{HEADING}squeezenet,ce,0,nan\n", 2, "top1 'nan'"),
        (f"{HEADING}squeezenet,ce,0,43 %\n", 2, "top1 '43 %'"),
        (f"{HEADING}squeezenet,ce,0,\n", 2, "top1 ''"),
        (f"{HEADING}squeezenet,ce,0,43\nsqueezenet,ce,00,44\n", 3, "seed-0 is there twice: also in line 2"),
        (f"{WITH_EPOCHS}squeezenet,ce,0,0,43\n", 2, "epoch '0' is not a whole number from 1 to 4"),
        (f"{WITH_EPOCHS}squeezenet,ce,0,5,43\n", 2, "epoch '5'"),
        (f"{WITH_EPOCHS}{CURVE}squeezenet,ce,0,2,43\n", 6, "seed-0, epoch 2 is there twice: also in line 3"),
        (f"{WITH_EPOCHS}squeezenet,ce,0,3,43\n", 2, "ends with epoch 3; a run of mine has 4"),
    ],
)
def test_what_is_no_run_is_refused_with_its_line(
    own: Path, file: Path, text: str | bytes, line: int | None, why: str
) -> None:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as caught:
        records_of_csv(file, load_table(own))
    assert why in caught.value.what
    assert caught.value.where == (f"{file}:{line}" if line else str(file))
    assert "\n" not in caught.value.what


def test_a_file_that_is_none_is_refused(own: Path, tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.csv", "No such file"), (tmp_path, "directory")):
        with pytest.raises(DataError, match=why):
            records_of_csv(path, load_table(own))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"last_top1_percent": 50.0}, "last top-1"),
        ({"best_top1_percent": 50.0}, "best top-1"),
        ({"best_epoch": 2}, "best top-1"),
        ({"parameters": 1}, "what only a trained run has"),
        ({"state_hash": "5" * 64}, "what only a trained run has"),
        ({"status": "diverged", "reason": "nan"}, "without an accuracy"),
        ({"imported": {"epochs": (1, 2, 3), "top1_percent": (1.0, 2.0, 44.5)}}, "ends with epoch 3 of 4"),
        ({"imported": {"epochs": (2, 1, 4), "top1_percent": (1.0, 2.0, 44.5)}}, "not rising"),
        ({"imported": {"epochs": (4,), "top1_percent": ()}}, "not as many"),
        ({"imported": {"epochs": (), "top1_percent": ()}}, "a best top-1 without a curve"),
        ({"imported": None}, "no number of parameters"),
    ],
)
def test_an_imported_record_that_contradicts_itself_is_noticed(
    own: Path, file: Path, changes: dict[str, Any], why: str
) -> None:
    file.write_text(WITH_EPOCHS + CURVE)
    [record] = records_of_csv(file, load_table(own))
    if isinstance(curve := changes.get("imported"), dict):
        assert record.imported is not None
        changes = {"imported": record.imported.model_copy(update=curve)}
    with pytest.raises(DataError, match=why):
        from_bytes(to_bytes(record.model_copy(update=changes)), where="run.json")


def test_a_trained_record_says_nothing_of_imports(own: Path, fake_runs: Any) -> None:
    record = fake_runs.record(Run(cell=load_table(own).cells[0], seed=0))
    assert b"imported" not in to_bytes(record)


def test_runs_of_images_that_are_not_known_here_are_refused(own: Path, own_text: str, file: Path) -> None:
    own = own.with_name("my own.yaml")
    own.write_text(own_text.replace("{name: digits}", "{name: folder, path: birds, image_size: 32}"))
    file.write_text(f"{HEADING}squeezenet,ce,0,43\n")
    with pytest.raises(DataError, match="not known here, and needed for mine: images") as caught:
        records_of_csv(file, load_table(own))
    assert caught.value.hint == f"Decode the images first: `biasrepro data fetch '{own}'`."
