"""``biasrepro config``: the file it prints is a table with the same configurations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from repro.experiment.config import builtin_names, find_table, load_table
from repro.experiment.json_schema import experiment_schema, schema_file
from repro.experiment.strict_yaml import parse


@pytest.mark.parametrize("name", builtin_names())
def test_a_table_and_the_file_it_gives_have_the_same_cells(name: str, say: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    assert say("config", name, "-o", file).code == 0
    mine, table = load_table(file), find_table(name)
    assert [cell.hash for cell in mine.cells] == [cell.hash for cell in table.cells]
    assert (mine.kind, mine.paper, mine.seeds) == ("study", None, table.seeds)
    data = parse(file.read_text(), source=str(file)).data
    assert jsonschema.Draft7Validator(experiment_schema()).is_valid(data)


def test_a_cell_comes_with_its_cross_entropy_and_its_settings(say: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    printed = say("config", "table2/squeezenet/bias", "--set", "recipe.epochs=3")
    file.write_text(printed.out, encoding="utf-8")
    mine, table = load_table(file), find_table("table2+recipe.epochs=3")
    row = next(row for row in table.rows if row.id == "squeezenet")
    wanted = [table.cell(row, column).hash for column in table.columns if column.id in ("ce", "bias")]
    assert [cell.hash for cell in mine.cells] == wanted
    assert "biasrepro sweep mine.yaml --dry-run" in printed.err


def test_wrong_references_and_files_are_one_message(say: Callable[..., Any], tmp_path: Path) -> None:
    assert "no experiment is called 'table9'" in say("config", "table9").err
    assert "no row of table2 is called 'squeze'" in say("config", "table2/squeze/bias").err
    notes = tmp_path / "notes.yaml"
    notes.write_text("mine: true\n")
    kept = say("config", "table2", "-o", notes)
    assert kept.code == 2
    assert "is kept" in kept.err
    assert notes.read_text() == "mine: true\n"


def test_the_schema_for_editors_is_printed_and_written(say: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "experiment.schema.json"
    assert say("config", "--schema").out == schema_file().read_text()
    assert say("config", "--schema", "-o", file).code == 0
    assert file.read_bytes() == schema_file().read_bytes()
    assert "TABLE|CELL has no effect on the schema" in say("config", "table1", "--schema").err
    assert "TABLE or CELL is required" in say("config").err


def test_a_file_names_the_schema_for_editors_and_is_replaced(say: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for _ in ("written", "replaced"):
        assert say("config", "demo", "-o", file).code == 0
    place = file.read_text().splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert (tmp_path / place).resolve() == schema_file().resolve()


def test_texts_that_look_like_numbers_stay_texts(
    say: Callable[..., Any], own: Path, own_text: str, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    for text in ("1e-3", "1e3", ".5e3", "1e+3", "-1e3", "1E5", "+.5", "0e0", "true", "3", "~", "it's", "a: b"):
        own.write_text(own_text.replace("title: Bias loss", f"title: {json.dumps(text)}"))
        assert say("config", own, "-o", file).code == 0
        mine, table = load_table(file), load_table(own)
        assert [column.title for column in mine.columns] == [column.title for column in table.columns]
        assert mine.columns[1].title == text
