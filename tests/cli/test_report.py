"""``biasrepro report``: one file, the way on, and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table, load_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record
from repro.sweep.selection import parse_seeds


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files without a folder go where nothing else is."""
    monkeypatch.chdir(tmp_path)


def test_without_runs_there_is_a_page_and_a_way_on(say: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    said = say("report", "--results", "none")
    assert said.code == 0, said.err
    assert "Written: report.html" in said.err
    assert "biasrepro plan --results none" in said.err
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "biasrepro sweep table1 --seeds 5" in page


def test_the_commands_train_what_was_trained(say: Callable[..., Any], tmp_path: Path, fake_runs: Any) -> None:
    results = tmp_path / "results"
    for one in fake_runs.of(find_table("table2"), range(2)):
        if one.record.row == "squeezenet" and one.record.column in ("ce", "bias"):
            write_record(RunFolder(results / one.record.id), one.record)
    said = say("report", "table2", "--results", results, "-o", tmp_path / "page.html")
    assert said.code == 0, said.err
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "biasrepro sweep table2 --rows squeezenet --columns ce,bias --seeds 2\n" in page


@pytest.mark.parametrize(
    ("seeds", "listed"), [((0, 1), "2"), (range(5, 10), "5,6,7,8,9"), ((12345,), "12345,"), ((0, 3), "0,3")]
)
def test_the_commands_train_the_very_seeds_of_the_report(
    seeds: Sequence[int], listed: str, say: Callable[..., Any], tmp_path: Path, fake_runs: Any
) -> None:
    for one in fake_runs.of(find_table("demo"), seeds):
        write_record(RunFolder(tmp_path / "results" / one.record.id), one.record)
    said = say("report", "demo", "-f", "markdown", "--results", tmp_path / "results")
    assert said.code == 0, said.err
    assert f"biasrepro sweep demo --seeds {listed}\n" in said.out
    assert parse_seeds(listed, 5) == tuple(seeds)


def test_the_commands_train_runs_that_diverged_and_those_of_other_seeds_than_the_plans(
    say: Callable[..., Any], tmp_path: Path, fake_runs: Any
) -> None:
    demo, other = find_table("demo").cells[1], find_table("table2").cells[0]
    lost = {"status": "diverged", "reason": "the loss is nan", "last_top1_percent": None, "best_top1_percent": None}
    for cell, seed, changes in ((demo, 0, {}), (demo, 2, lost), (other, 12345, {})):
        record = fake_runs.record(Run(cell=cell, seed=seed), **changes)
        write_record(RunFolder(tmp_path / "results" / record.id), record)
    said = say("report", "demo", "table2", "-f", "markdown", "--results", tmp_path / "results")
    assert said.code == 0, said.err
    assert f"biasrepro sweep demo --columns {demo.column.id} --seeds 0,2\n" in said.out
    part = f"--rows {other.row.id} --columns {other.column.id}"
    assert f"biasrepro sweep table2 {part} --seeds 12345,\n" in said.out


def test_the_commands_train_no_table_without_runs(say: Callable[..., Any], tmp_path: Path, fake_runs: Any) -> None:
    for one in fake_runs.of(find_table("demo"), range(2)):
        write_record(RunFolder(tmp_path / "results" / one.record.id), one.record)
    say("report", "--results", tmp_path / "results")
    block = (tmp_path / "report.html").read_text("utf-8").rpartition("<pre")[2].partition("</pre>")[0]
    assert re.findall("biasrepro .*", block)[0] == "biasrepro sweep demo --seeds 2"


def test_the_commands_are_for_any_machine(say: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "some where").mkdir()
    say("report", "--results", tmp_path / "some where", "-o", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "biasrepro report --format html --metric last -o page.html" in page
    assert str(tmp_path) not in page


@pytest.mark.parametrize("format_name", ["html", "markdown"])
def test_no_report_says_where_its_files_are(
    say: Callable[..., Any], tmp_path: Path, fake_runs: Any, own: Path, format_name: str
) -> None:
    results = tmp_path / "records of jane"
    for cell in (*load_table(own).cells, *find_table("demo").cells):
        record = fake_runs.record(Run(cell=cell, seed=0))
        write_record(RunFolder.of(results, Run(cell=cell, seed=0)), record)
    (results / cell.id / "seed-0" / "run.json").write_text("{}")
    unknown = results / cell.table / "gone" / "ce" / "seed-0"
    unknown.mkdir(parents=True)
    (unknown / "run.json").write_text("{}")
    said = say("report", own.absolute(), "demo", "-f", format_name, "-o", tmp_path / "out", "--results", results)
    assert said.code == 0, said.err
    text = (tmp_path / "out").read_text()
    assert str(tmp_path) not in text
    assert str(own.parent) not in text
    assert f"records of jane/{cell.table}/gone/ce/seed-0/run.json" in text
    assert f"biasrepro sweep {own.name} " in text


def test_the_summary_goes_to_the_terminal_or_to_a_file(say: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    said = say("report", "--format", "markdown", "--results", "none")
    assert said.out.startswith("# Bias Loss for Mobile Neural Networks: reproducibility summary\n")
    say("report", "-o", "summary.md", "--results", "none")
    assert "## What was difficult" in (tmp_path / "summary.md").read_text()


def test_what_cannot_be_shown_is_named_until_its_file_is(
    say: Callable[..., Any], tmp_path: Path, fake_runs: Any, own: Path
) -> None:
    run = Run(cell=load_table(own).cells[0], seed=0)
    write_record(RunFolder.of(tmp_path / "results", run), fake_runs.record(run))
    assert "mine. Name the files to show them." in say("report", "-f", "markdown").err
    said = say("report", own, "-f", "markdown")
    assert "A study of ours, not a table of the paper." in said.out
    assert "Name the files" not in said.err


def test_a_changed_protocol_is_named_with_its_settings(say: Callable[..., Any], tmp_path: Path, fake_runs: Any) -> None:
    run = Run(cell=find_table("demo+recipe.epochs=2").cells[0], seed=0)
    write_record(RunFolder.of(tmp_path / "results", run), fake_runs.record(run))
    said = say("report", "demo", "--set", "recipe.epochs=2", "-f", "markdown")
    assert "1 of 12 planned runs recorded" in said.out
    assert "biasrepro report demo+recipe.epochs=2 --format markdown" in said.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--format", "htm"], "Did you mean 'html'?"),
        (["--metric", "bets"], "Did you mean 'best'?"),
        (["tabel2"], "Did you mean 'table2'?"),
        (["--set", "recipe.epochs=2"], "--set needs a table"),
        (["-o", "nowhere/report.html"], "mkdir -p nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_way_out(
    say: Callable[..., Any], tmp_path: Path, arguments: list[str], expected: str
) -> None:
    said = say("report", *arguments)
    assert said.code == 2
    assert expected in said.err
    assert not (tmp_path / "report.html").exists()


def test_a_study_of_the_controls_says_what_they_tell(say: Callable[..., Any], tmp_path: Path) -> None:
    committed = Path(__file__).parents[2] / "results"
    for name in ("controls.html", "controls.md"):
        assert say("report", "controls20", "--results", committed, "-o", tmp_path / name).code == 0
        text = (tmp_path / name).read_text()
        assert "any weights of that spread would do" in text
        assert "Weights that follow the features gain over the same weights dealt out at random." in text
        assert "any weights of that spread would do" not in say("report", "tiny20", "-f", "markdown").out
