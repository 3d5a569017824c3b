"""``biasrepro table`` as a user types it: output, files, what to do next, and errors."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import typer
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner, Result

from repro.cli.table import table
from repro.cli.terminal_table import drawn
from repro.errors import UserError
from repro.experiment.config import find_table
from repro.results import RunFolder, write_record
from repro.tables import gather

app = typer.Typer()
app.command()(table)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def refused(*arguments: str) -> UserError:
    error = run(*arguments).exception
    assert isinstance(error, UserError), error
    return error


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIASREPRO_RESULTS", raising=False)
    return tmp_path


def record(fakes: ModuleType, reference: str, cells: int | None, seeds: int) -> None:
    for cell in find_table(reference).cells[:cells]:
        for seed in range(seeds):
            one = fakes.run_of(find_table(reference), cell.row.id, cell.column.id, seed)
            write_record(RunFolder.of(Path("results"), one), fakes.fake_record(one))


def test_without_a_name_it_shows_both_tables_of_the_paper() -> None:
    result = run("--format", "latex")
    assert result.exit_code == 0
    assert result.stdout.count(r"\begin{table*}") == 2
    assert "table1: 0 of 60 runs recorded; `biasrepro sweep table1 --seeds 5` runs them." in result.stderr
    assert "% produced by: biasrepro table table1 table2 --format latex --metric last\n" in result.stdout


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
@pytest.mark.parametrize("reference", ["table1", "table2"])
def test_a_terminal_gets_a_table_that_fits(fakes: ModuleType, reference: str, columns: int) -> None:
    record(fakes, reference, None, 2)
    terminal = Console(file=io.StringIO(), width=columns)
    terminal.print(drawn([gather(find_table(reference), Path("results"))], columns))
    lines = terminal.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(cell_len, lines)) <= columns
    side_by_side = any(line.split()[:2] == ["Model", "Parameters"] for line in lines)
    assert side_by_side == (columns >= (80 if reference == "table1" else 120))
    figures = [line for line in lines if re.search(r"\d\d\.\d\d ± \d+\.\d\d", line)]
    models = len(find_table(reference).rows)
    assert len(figures) >= models or columns == 60, "no number is broken"


def test_on_a_narrow_terminal_a_p_value_has_a_column_of_its_own(fakes: ModuleType) -> None:
    record(fakes, "demo", None, 3)
    terminal = Console(file=io.StringIO(), width=80)
    terminal.print(drawn([gather(find_table("demo"), Path("results"), verdicts="words")], 80))
    lines = terminal.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(cell_len, lines)) <= 80
    (head,) = (line for line in lines if line.startswith("Model and loss"))
    assert head.split()[-2:] == ["95%", "p"]
    assert sum(bool(re.search(r" to [+−]\d+\.\d\d +\S*\d\.\d{3} *$", line)) for line in lines) == 3
    assert any("p: its p-value" in line for line in lines)


def test_a_pipe_and_a_named_format_get_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "| Model" in run("table1").stdout
    monkeypatch.setattr("repro.cli.table.on_terminal", lambda: True)
    assert "| Model" not in run("table1").stdout
    assert "| Model" in run("table1", "--format", "markdown").stdout


def test_it_says_how_many_runs_are_recorded_and_what_runs_the_rest(fakes: ModuleType) -> None:
    record(fakes, "table2", 7, 1)
    result = run("table2")
    assert "table2: 7 of 100 runs recorded; `biasrepro sweep table2 --seeds 5` runs the rest." in result.stderr
    assert "runs recorded" not in result.stdout


def test_it_says_so_when_all_is_recorded(fakes: ModuleType) -> None:
    record(fakes, "demo", None, 3)
    result = run("demo")
    assert "demo: 12 of 12 runs recorded." in result.stderr
    assert "`biasrepro table demo -o tables.tex`" in result.stderr


def test_runs_under_a_modified_protocol_are_pointed_at_with_a_command_that_shows_them(fakes: ModuleType) -> None:
    record(fakes, "table1+recipe.decay_epochs=[3, 6]", 2, 1)
    result = run("table1")
    [line] = [line for line in result.stderr.splitlines() if "modified protocol" in line]
    assert "2 recorded" in line
    command = shlex.split(line.split("`")[1])
    assert command[:2] == ["biasrepro", "table"]
    assert "2 of 60 runs recorded" in run(*command[2:]).stderr


def test_records_left_out_are_mentioned(fakes: ModuleType) -> None:
    record(fakes, "demo", 1, 2)
    (RunFolder.of(Path("results"), fakes.run_of(find_table("demo"), "shufflenetv2", "ce", 1)).record).write_text("{}")
    assert "1 record left out of the means: the footnotes say why." in run("demo").stderr


def test_settings_and_names_come_together() -> None:
    by_option = run("table1", "--set", "dataset.classes=20", "--set", "recipe.epochs=10")
    by_name = run("table1+dataset.classes=20+recipe.epochs=10")
    assert by_option.stdout == by_name.stdout
    assert "Modified protocol: `dataset.classes=20`, `recipe.epochs=10`" in by_name.stdout
    assert "69.5" not in by_name.stdout


def test_a_file_of_the_users_own_works_everywhere_a_name_does(empty_folder: Path, fakes: ModuleType) -> None:
    from repro.experiment.config import builtin_folder

    text = (builtin_folder() / "demo.yaml").read_text(encoding="utf-8").replace("table: demo", "table: mine")
    (empty_folder / "my own.yaml").write_text(text, encoding="utf-8")
    result = run("my own.yaml", "table1", "table1", "--format", "json")
    tables = json.loads(result.stdout)["tables"]
    assert [one["id"] for one in tables] == ["mine", "table1"]
    assert "`biasrepro sweep 'my own.yaml' --seeds 3` runs them." in result.stderr


@pytest.mark.parametrize(
    ("name", "opening"),
    [
        ("t.tex", "% table1"),
        ("t.md", "**Table 1.**"),
        ("t.csv", "table,"),
        ("t.json", "{"),
        ("t.HTML", "<!doctype"),
    ],
)
def test_the_outputs_name_chooses_the_format(empty_folder: Path, name: str, opening: str) -> None:
    result = run("table1", "-o", name)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert (empty_folder / name).read_text(encoding="utf-8").startswith(opening)
    assert f"Written: {name}" in result.stderr
    assert [path.name for path in empty_folder.iterdir()] == [name]


def test_the_format_named_wins_over_the_outputs_name(empty_folder: Path) -> None:
    run("table1", "-o", "t.txt", "--format", "csv")
    assert (empty_folder / "t.txt").read_text(encoding="utf-8").startswith("table,")


def test_a_link_keeps_pointing_at_the_file_that_is_written(empty_folder: Path) -> None:
    (empty_folder / "link.md").symlink_to("target.md")
    run("table1", "-o", "link.md")
    assert (empty_folder / "link.md").is_symlink()
    assert (empty_folder / "target.md").read_text(encoding="utf-8").startswith("**Table 1.**")


def test_a_pipe_is_written_to_and_not_replaced(empty_folder: Path) -> None:
    pipe = empty_folder / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        text = pool.submit(pipe.read_text, encoding="utf-8")
        run("table1", "-o", "pipe")
        assert text.result(timeout=20).startswith("**Table 1.**")
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (("--format", "latx"), "no format is called 'latx'", "Did you mean 'latex'?"),
        (("--metric", "bst"), "no metric is called 'bst'", "Did you mean 'best'?"),
        (("--verdicts", "word"), "unknown verdicts 'word'", "Did you mean 'words'?"),
        (("table3",), "no experiment is called 'table3'", "Did you mean 'table"),
        (("-o", "no/such/t.md"), "the folder no/such does not exist", "mkdir -p no/such"),
        (("-o", "."), "this is a folder", "Give the name of a file in it."),
        (("table1", "--set", "epochs"), "'epochs' is not a setting", "KEY=VALUE"),
    ],
)
def test_wrong_use_is_one_message_with_a_way_out(arguments: tuple[str, ...], what: str, hint: str) -> None:
    error = refused(*arguments)
    assert what in error.what
    assert hint in str(error.hint)


def test_a_file_that_cannot_be_replaced_stays_as_it_was(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (empty_folder / "t.md").write_text("**Table 1.** before", encoding="utf-8")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    error = refused("table1", "-o", "t.md")
    monkeypatch.undo()
    assert "No space left on device" in error.what
    assert (empty_folder / "t.md").read_text(encoding="utf-8") == "**Table 1.** before"
    assert [path.name for path in empty_folder.iterdir()] == ["t.md"]


def test_figures_survive_a_terminal_without_a_minus_sign() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(Path(__file__).parents[2])}
    program = "import typer; from repro.cli.table import table; typer.run(table)"
    done = subprocess.run(
        [sys.executable, "-c", program, "table1"], capture_output=True, env=environment, check=True, timeout=60
    )
    assert "56.9 (−0.8)" in done.stdout.decode("utf-8")
