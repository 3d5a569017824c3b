"""``biasrepro export``: to a file or the terminal, by level and by table, with what was left out named."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table, load_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record


@pytest.fixture
def results_of_two(tmp_path: Path, fake_runs: Any, own: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of the demo, one of a user's own table, and a damaged record."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    for cell in (find_table("demo").cells[0], load_table(own).cells[0]):
        run = Run(cell=cell, seed=0)
        write_record(RunFolder.of(folder, run), fake_runs.record(run))
    damaged = folder / "demo" / "shufflenetv2" / "bias" / "seed-0" / "run.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{}")
    return folder


def test_a_full_disk_is_said_with_what_is_needed_and_free(
    say: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        said = say("export", "--format", "schema", "-o", tmp_path / "schema.json")
    assert said.code == 2
    assert re.search(r"schema.json: cannot be written: No space left on device; it needs [\d.]+ kB, .* free", said.err)
    assert list(tmp_path.iterdir()) == []


def test_the_terminal_gets_csv_and_is_told_what_was_left_out(say: Callable[..., Any], results_of_two: Path) -> None:
    said = say("export", "--level", "runs")
    assert said.code == 0, said.err
    assert [row["table"] for row in csv.DictReader(io.StringIO(said.out))] == ["demo", "mine"]
    assert "2 runs exported." in said.err
    assert "left out: results/demo/shufflenetv2/bias/seed-0/run.json: no seal" in said.err


def test_rows_are_in_the_order_of_the_seeds_not_of_their_digits(
    say: Callable[..., Any], tmp_path: Path, fake_runs: Any
) -> None:
    for seed in (10, 9, 0):
        run = Run(cell=find_table("demo").cells[0], seed=seed)
        write_record(RunFolder.of(tmp_path, run), fake_runs.record(run))
    for names in ([], ["demo"]):
        said = say("export", *names, "--level", "runs", "--results", tmp_path)
        assert [row["seed"] for row in csv.DictReader(io.StringIO(said.out))] == ["0", "9", "10"]


def test_named_tables_alone(say: Callable[..., Any], results_of_two: Path, own: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(say("export", own).out)))
    assert {row["table"] for row in rows} == {"mine"}
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]


def test_the_ending_of_the_file_chooses_the_format(say: Callable[..., Any], results_of_two: Path) -> None:
    assert say("export", "-o", "epochs.csv").code == 0
    assert Path("epochs.csv").read_text().startswith("run,table,row,column,seed,status,")
    assert say("export", "-o", "record.schema.json").code == 0
    assert "seal" in json.loads(Path("record.schema.json").read_text())["required"]


def test_parquet_goes_to_a_file(say: Callable[..., Any], results_of_two: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    assert say("export", "-o", "epochs.parquet").code == 0
    assert Path("epochs.parquet").read_bytes()[:4] == b"PAR1"


def test_without_pyarrow_the_way_out_is_said(
    say: Callable[..., Any], results_of_two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = say("export", "-o", "epochs.parquet")
    assert said.code == 2
    assert "pip install 'biasrepro[parquet]'" in said.err
    assert not Path("epochs.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--format", "parqet"], "Did you mean 'parquet'?"),
        (["--level", "run"], "Did you mean 'runs'?"),
        (["--format", "parquet"], "Name a file"),
        (["-o", "nowhere/x.csv"], "mkdir -p nowhere"),
        (["demmo"], "Did you mean 'demo'?"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_way_out(
    say: Callable[..., Any], results_of_two: Path, arguments: list[str], expected: str
) -> None:
    said = say("export", *arguments)
    assert said.code == 2
    assert expected in said.err
