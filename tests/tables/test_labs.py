"""Several results folders in one table: a line for each, and nothing over all of them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from repro import cli
from repro.experiment.config import find_table, runs_of
from repro.results import RunFolder, write_record
from repro.tables import RENDERERS, AssembledTable, assemble, lab_names, side_by_side
from repro.tables.layout import blocks

Labs = Callable[[str], AssembledTable]


@pytest.fixture
def labs(fakes: ModuleType) -> Labs:
    """Two labs: the first with every run of three seeds, the second with troubles of all kinds."""

    def together(name: str) -> AssembledTable:
        table = find_table(name)
        first = assemble(table, fakes.every_run(table, range(3)))
        return side_by_side({"a": first, "b": assemble(table, fakes.troubled_runs(table))})

    return together


def test_each_has_its_line_below_the_printed_one(labs: Labs) -> None:
    table = labs("table1")
    first, second = blocks(table)[:2]
    assert [line.label for line in first.lines] == ["paper", "a", "Δ a", "b", "Δ b"]
    assert [line.label for line in second.lines] == ["paper", "a", "Δ a", "b", "Δ b"]
    assert table.planned_runs == 2 * 60
    assert table.recorded_runs == 3 * 12 + 8  # of the second lab, a diverged one included
    assert [row.lab for row in table.rows[:4]] == ["a", "b", "a", "b"]


def test_figures_are_those_of_each_alone(labs: Labs, fakes: ModuleType) -> None:
    table = find_table("table1")
    alone = {"a": assemble(table, fakes.every_run(table, range(3))), "b": assemble(table, fakes.troubled_runs(table))}
    for lab, shown in alone.items():
        rows = [row for row in labs("table1").rows if row.lab == lab]
        for row, expected in zip(rows, shown.rows, strict=True):
            assert [(cell.ours, cell.delta) for cell in row.cells] == [(c.ours, c.delta) for c in expected.cells]


def test_notes_name_the_folder_that_they_are_about(labs: Labs) -> None:
    table = labs("table1")
    marks = {mark for row in table.rows for cell in row.cells for mark in cell.marks}
    assert marks
    notes = {note.mark: note.text for note in table.notes}
    assert marks <= set(notes)
    assert all(notes[mark].startswith("b: ") for mark in marks)
    of_first = [cell.marks for row in table.rows if row.lab == "a" for cell in row.cells]
    assert not any(of_first)


def test_what_both_say_is_said_once(fakes: ModuleType) -> None:
    table = find_table("table1")
    shown = assemble(table, fakes.troubled_runs(table))
    assert [note.text for note in side_by_side({"a": shown, "b": shown}).notes] == [note.text for note in shown.notes]


def test_a_variant_that_only_one_has_stands_below_its_row(fakes: ModuleType) -> None:
    table, variants = find_table("table2"), [find_table("table2_variants")]
    first = assemble(table, fakes.every_run(table, [0]), variants=variants)
    both = [*fakes.every_run(table, [0]), *fakes.every_run(variants[0], [0])]
    second = assemble(table, both, variants=variants)
    for order in (("a", first, "b", second), ("b", second, "a", first)):
        rows = side_by_side({order[0]: order[1], order[2]: order[3]}).rows  # type: ignore[dict-item]
        assert list(dict.fromkeys((row.table, row.id) for row in rows)) == [(row.table, row.id) for row in second.rows]
        assert {row.lab for row in rows if row.variant} == {"b"}


@pytest.mark.parametrize("format_name", RENDERERS)
def test_every_format_has_both(labs: Labs, format_name: str) -> None:
    text = RENDERERS[format_name]([labs("table1")], "biasrepro table")
    if format_name == "csv":
        assert [line["lab"] for line in csv.DictReader(io.StringIO(text))][:4] == ["a", "a", "b", "b"]
    elif format_name == "json":
        assert [row["lab"] for row in json.loads(text)["tables"][0]["rows"]][:2] == ["a", "b"]
    else:
        assert "a, b: the results folders, each with lines of its own." in text


def test_names_are_as_long_as_it_takes(tmp_path: Path) -> None:
    assert lab_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert lab_names([tmp_path / "a" / "results", tmp_path / "b" / "results"]) == ["a/results", "b/results"]
    assert lab_names([tmp_path / "paper", tmp_path / "b"]) == [f"{tmp_path.name}/paper", f"{tmp_path.name}/b"]


@pytest.fixture
def folders(fakes: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, seeds in (("a", range(2)), ("b", range(1))):
        for run in runs_of(find_table("demo").cells, seeds):
            write_record(RunFolder.of(Path(folder), run), fakes.fake_record(run))


@pytest.mark.usefixtures("folders")
def test_the_command_shows_both_and_how_to_show_them_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["table", "demo", "--results", "a", "--results=b", "-f", "json"]) == 0
    out, err = capsys.readouterr()
    command = "biasrepro table demo --format json --metric last --results a --results b"
    assert json.loads(out)["command"] == command
    assert "demo: 12 runs recorded in 2 folders." in err
    assert "Run by run: `biasrepro compare a b`." in err


@pytest.mark.usefixtures("folders")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["table", "demo", "--results", "a", "--results", "b", "--verdicts", "words"], "no verdict over several"),
        (["table", "demo", "--results", "a", "--results", "a/../a"], "--results: a results folder is given twice"),
        (["table", "demo", "--results", "a", "--results", "c"], "c: there is no such results folder"),
        (["report", "--results", "a", "--results", "b"], "--results is given twice"),
        (["sweep", "demo", "--results=a", "--results", "b"], "--results is given twice"),
        (["status", "--results", "a", "--results=a"], "--results is given twice"),
    ],
)
def test_what_has_no_meaning_is_one_message(capsys: pytest.CaptureFixture[str], arguments: list[str], why: str) -> None:
    assert cli.run(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("error:")) == ("", 1)
    assert why in err


@pytest.mark.usefixtures("folders")
def test_the_environment_names_one_folder(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").rename("a:b")
    monkeypatch.setenv("BIASREPRO_RESULTS", "a:b")
    assert cli.run(["table", "demo"]) == 0
    assert "demo: 8 of 12 runs recorded" in capsys.readouterr().err
