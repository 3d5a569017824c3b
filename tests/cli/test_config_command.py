"""``biasrepro config``: the file it prints is a table with the same configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import builtin_names, find_table, load_table


@pytest.mark.parametrize("name", builtin_names())
def test_a_table_and_the_file_it_gives_have_the_same_cells(name: str, say: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    assert say("config", name, "-o", file).code == 0
    mine, table = load_table(file), find_table(name)
    assert [cell.hash for cell in mine.cells] == [cell.hash for cell in table.cells]
    assert (mine.kind, mine.paper, mine.seeds) == ("study", None, table.seeds)


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
