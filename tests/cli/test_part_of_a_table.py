"""``table --rows --columns``: a part of a table in every format; what it says is that of the whole table."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table
from repro.results import write_record
from repro.results.store import RunFolder

PART = ("--rows", "squeezenet,mobilenetv2", "--columns", "bias")


@pytest.fixture(autouse=True)
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_runs: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for found in fake_runs.of(find_table("table2"), range(3)):
        write_record(RunFolder(Path("results") / found.record.id), found.record)


def cells(say: Callable[..., Any], *options: str) -> dict[tuple[str, str], Any]:
    rows = json.loads(say("table", "table2", "-f", "json", "--verdicts", "words", *options).out)["tables"][0]["rows"]
    return {(row["id"], cell["column"]): cell for row in rows for cell in row["cells"]}


def test_a_part_says_what_the_whole_table_says_of_it(say: Callable[..., Any]) -> None:
    part, whole = cells(say, *PART), cells(say)

    assert set(part) == {("squeezenet", "bias"), ("mobilenetv2", "bias")}
    for place, cell in part.items():
        assert cell["delta"] is not None  # from the baseline, which is not shown
        assert cell == whole[place]


@pytest.mark.parametrize("format_name", ["markdown", "latex", "html", "csv"])
def test_every_format_shows_it(say: Callable[..., Any], format_name: str) -> None:
    said = say("table", "table2", "-f", format_name, *PART)

    assert said.code == 0
    assert "SqueezeNet" in said.out
    assert "DenseNet" not in said.out
    if format_name == "csv":
        assert {row["column"] for row in csv.DictReader(io.StringIO(said.out))} == {"bias"}
    else:
        assert "Inv. Bias" not in said.out
        assert "minus our CE loss" in " ".join(said.out.split())
    if format_name == "latex":
        assert "--rows squeezenet,mobilenetv2 --columns bias" in said.out


def test_what_is_left_to_train_is_of_the_part(say: Callable[..., Any]) -> None:
    said = say("table", "table2", *PART)

    assert "table2: 6 of 10 runs recorded; `biasrepro sweep table2 --seeds 5 --rows squeezenet,mobilenetv2" in said.err


def test_a_wrong_row_is_the_only_thing_said(say: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert say("table", "demo", "--rows", "x").err.startswith("error: no row of demo is called 'x'")


def test_the_baseline_alone_has_no_difference(say: Callable[..., Any]) -> None:
    said = say("table", "table2", "--columns", "ce")

    assert "Δ" not in said.out


def test_two_folders_stand_side_by_side_in_a_part_too(say: Callable[..., Any]) -> None:
    Path("others").mkdir()
    said = say("table", "table2", *PART, "--results", "results", "--results", "others")

    assert said.code == 0
    assert "DenseNet" not in said.out


@pytest.mark.parametrize("command", [("table",), ("sweep",)])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--rows", "squeezenett"), "no row of table2 is called 'squeezenett'\n  Did you mean 'squeezenet'?"),
        (("--columns", "bias,mean"), "no column of table2 is called 'mean'\n  Did you mean 'mean_bias'?"),
        (("--rows", ","), "--rows ',' is an empty list"),
        (("--columns", ""), "--columns is empty"),
    ],
)
def test_refusals_are_those_of_a_sweep(
    say: Callable[..., Any], command: tuple[str, ...], options: tuple[str, ...], says: str
) -> None:
    said = say(*command, "table2", *options)

    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {says}")


def test_what_is_printed_has_the_decimals_of_the_whole_table(say: Callable[..., Any]) -> None:
    whole, part = (
        say("table", "released", *options).out for options in ((), ("--rows", "shufflenetv2", "--columns", "bias"))
    )
    [line] = [line for line in part.splitlines() if "| released |" in line]
    assert line.split("|")[-2].strip() in whole
    assert re.search(r"\d\.\d\d \(\+\d\.\d\d\)", line)
