"""Records for other tools: tidy rows, and a published schema that agrees with what is written and read."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

import repro
from repro.analysis.evidence import Evidence
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.figures import recorded
from repro.models.describe import describe_model
from repro.results import EpochRecord, RunRecord, load_records
from repro.results.record import Epochs, from_bytes, to_bytes
from repro.results.rows import COLUMNS, record_schema, rows, schema_to_bytes, to_csv, to_parquet

DOCS = Path(repro.__file__).parent.parent / "docs"


@pytest.fixture
def demo_records(fake_runs: Any) -> list[RunRecord]:
    """Two runs, one of which diverged after four epochs."""
    cells = find_table("demo").cells
    run = Run(cell=cells[1], seed=1)
    diverged = fake_runs.record(
        run,
        epochs=fake_runs.epochs_of(run, until=4),
        status="diverged",
        reason='the loss is nan, "at step 3"\nof epoch 5',
        last_top1_percent=None,
        state_hash=None,
    )
    return [fake_runs.record(Run(cell=cells[0], seed=0)), diverged]


def test_every_epoch_of_every_run_is_a_row(demo_records: list[RunRecord]) -> None:
    found = list(csv.DictReader(io.StringIO(b"".join(to_csv(demo_records)).decode())))
    whole, diverged = demo_records
    assert len(found) == len(whole.epochs) + 4
    assert list(found[0]) == list(COLUMNS["epochs"])
    ordered = [*whole.epochs, *diverged.epochs]  # by table, row, column, seed
    assert [row["run"] for row in found] == [whole.id] * len(whole.epochs) + [diverged.id] * 4
    for row, epoch in zip(found, ordered, strict=True):
        written = {key: float(row[key]) if row[key] else None for key in EpochRecord.model_fields}
        assert written == epoch.model_dump()
    assert (found[-1]["loss"], found[-1]["classes"], found[-1]["normalization"]) == ("inverse_bias", "10", "batch")


def test_a_speed_that_is_not_known_is_empty(demo_records: list[RunRecord]) -> None:
    whole, diverged = demo_records
    unknown = diverged.provenance.model_copy(update={"duration_seconds": 0.0, "images_per_second": 0.0})
    records = [whole, diverged.model_copy(update={"provenance": unknown})]
    found = list(csv.DictReader(io.StringIO(b"".join(to_csv(records, "runs")).decode())))
    assert [(row["duration_seconds"], row["images_per_second"]) for row in found] == [("3600.0", "20000.0"), ("", "")]


def test_every_run_is_a_row_that_says_how_it_ended(demo_records: list[RunRecord]) -> None:
    found = list(csv.DictReader(io.StringIO(b"".join(to_csv(demo_records, "runs")).decode())))
    assert [row["status"] for row in found] == ["completed", "diverged"]
    assert found[1]["reason"] == demo_records[1].reason
    assert found[1]["last_top1_percent"] == ""
    assert float(found[0]["last_top1_percent"]) == demo_records[0].last_top1_percent
    assert [row["epochs"] for row in found] == [str(len(demo_records[0].epochs)), "4"]


@pytest.mark.parametrize("level", COLUMNS)
def test_every_column_has_its_type_in_every_row(demo_records: list[RunRecord], level: str) -> None:
    for row in rows(demo_records, level):
        assert list(row) == list(COLUMNS[level])
        wrong = {key: value for key, value in row.items() if not isinstance(value, COLUMNS[level][key] | None)}
        assert wrong == {}


def test_without_records_there_is_the_heading() -> None:
    assert b"".join(to_csv([])).decode() == ",".join(COLUMNS["epochs"]) + "\n"


def test_parquet_holds_the_same_typed(demo_records: list[RunRecord]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for level in COLUMNS:
        table = parquet.read_table(io.BytesIO(b"".join(to_parquet(demo_records, level))))
        assert table.to_pylist() == list(rows(demo_records, level))
    assert str(table.schema.field("seed").type) == "int64"
    assert str(table.schema.field("last_top1_percent").type) == "double"


def test_the_published_schema_is_current() -> None:
    published = DOCS / "record.schema.json"
    if os.environ.get("BIASREPRO_UPDATE_GOLDEN"):
        published.write_bytes(schema_to_bytes())
    assert published.read_bytes() == schema_to_bytes(), "biasrepro export -f schema -o docs/record.schema.json"


def accepts(data: dict[str, Any]) -> bool:
    # the keywords used mean the same in every draft since the seventh
    return bool(jsonschema.Draft7Validator(record_schema()).is_valid(data))


def test_what_is_written_is_valid_under_the_schema(demo_records: list[RunRecord]) -> None:
    for record in demo_records:
        assert accepts(json.loads(to_bytes(record)))


def test_the_records_of_this_repository_are_valid_under_it() -> None:
    files = sorted((DOCS.parent / "results").rglob("run.json"))
    assert files
    assert [file for file in files if not accepts(json.loads(file.read_bytes()))] == []


def drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def put(value: Any, *path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    "damage",
    [
        drop("seal"),
        drop("configuration_hash"),
        drop("provenance", "host"),
        put("x" * 64, "seal"),
        put(2, "schema_version"),
        put("failed", "status"),
        put(101.0, "last_top1_percent"),
        put("0", "seed"),
        put(1, "unknown"),
        put(-1.0, "epochs", 0, "test_top1_percent"),
        put(0, "epochs", 0, "epoch"),
        put(1, "epochs", 0, "unknown"),
        put(None, "epochs", 0, "train_loss"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(
    demo_records: list[RunRecord], damage: Callable[[dict[str, Any]], None]
) -> None:
    data = json.loads(to_bytes(demo_records[0]))
    damage(data)
    assert not accepts(data)
    if "seal" in data and data["seal"] != "x" * 64:
        del data["seal"]
        with pytest.raises(ValidationError):
            RunRecord.model_validate_json(json.dumps(data))


def test_no_module_imports_pandas() -> None:
    modules = DOCS.parent.glob("repro/**/*.py")
    assert [path for path in modules if re.search(r"^\s*(import|from) pandas", path.read_text(), re.MULTILINE)] == []


def python_block(heading: str) -> str:
    section = (DOCS / "records.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return str(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)[0])


def test_the_documents_data_frames_hold_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.chdir(DOCS.parent)
    names: dict[str, Any] = {}
    exec(compile(python_block("Reading"), "docs/records.md", "exec"), names)
    records = [found.record for found in load_records(Path("results")) if found.record]
    for level in COLUMNS:
        frame = names[level]
        assert list(frame.columns) == list(COLUMNS[level])
        assert len(frame) == len(list(rows(records, level)))
        assert frame["seed"].dtype == "int64"


def test_the_documents_example_adds_a_run_that_tables_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # repeated, it changes nothing
        exec(compile(python_block("Adding runs of your own code"), "docs/records.md", "exec"), {})
    (found,) = load_records(tmp_path / "results")
    assert found.problem is None
    table = find_table("table2")
    shown = recorded(table, Evidence([found]))
    squeezenet = next(row for row in table.rows if row.id == "squeezenet")
    (record,) = shown.completed(squeezenet, table.columns[3])
    assert record.last_top1_percent == 70.0
    assert record.parameters == describe_model("squeezenet_bn", 100, 32).parameters  # as `biasrepro models` counts
    assert shown.shown.left_out == ()
    assert accepts(json.loads(found.path.read_bytes()))


def test_the_documents_seal_without_biasrepro_is_ours(demo_records: list[RunRecord]) -> None:
    for record in demo_records:
        given = {"record": record.model_dump(mode="json")}
        exec(compile(python_block("Without biasrepro, in any language"), "docs/records.md", "exec"), given)
        sealed = given["sealed"]
        assert isinstance(sealed, bytes)
        assert from_bytes(sealed, where="docs/records.md") == record
        assert from_bytes(sealed, where="docs/records.md", epochs=False).epochs == Epochs()


def test_the_documents_table_names_every_key() -> None:
    text = (DOCS / "records.md").read_text()
    named = set(re.findall(r"`(\w+)`", text[text.index("| key |") : text.index("The seal shows")]))
    assert set(record_schema()["properties"]) <= named
