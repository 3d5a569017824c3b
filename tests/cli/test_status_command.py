from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.progress import Progress
from repro.results import RunFolder, write_failure
from repro.results.ownership import own as own_run
from repro.results.progress_file import Publisher
from repro.sweep.registry import register
from repro.sweep.selection import selected_runs

Say = Callable[..., Any]
Finish = Callable[..., None]


@pytest.fixture
def runs() -> list[Run]:
    return selected_runs(find_table("demo"), (0, 1, 2))


def test_nothing_recorded_says_how_to_begin(say: Say, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    said = say("status", "--results", tmp_path / "none")
    assert said.code == 0
    assert "There are no runs" in said.out
    assert f"biasrepro sweep demo --results {tmp_path / 'none'}" in said.out


def test_a_table_shows_its_cells_its_trouble_and_the_way_on(
    say: Say, results: Path, runs: list[Run], finish: Finish
) -> None:
    finish(runs[0])
    finish(runs[1])
    RunFolder.of(results, runs[1]).record.write_bytes(b"{}")
    finish(runs[2], status="diverged", reason="not finite at step 3")
    write_failure(RunFolder.of(results, runs[3]), "the pixels ran out\n  Buy more.")
    with own_run(RunFolder.of(results, runs[4])):
        said = say("status", "demo", "--results", results)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0].split("  ")[0] == "demo"
    assert [part.strip() for part in lines[1].split("  ") if part.strip()] == [
        "ShuffleNetV2 0.5x",
        "1/3, 1 running",
        "0/3, 1 damaged",
        "0/3, 1 diverged",
        "0/3, 1 failed",
    ]
    assert f"damaged  {runs[1].id}: no seal" in said.out
    assert f"    file: {RunFolder.of(results, runs[1]).record}" in said.out
    assert f"failed  {runs[3].id}: the pixels ran out\n    log: {RunFolder.of(results, runs[3]).log}" in said.out
    assert f"diverged  {runs[2].id}: not finite at step 3" in said.out
    assert f"again biasrepro sweep demo --only failed --results {results}" in said.out
    assert f"next  biasrepro sweep demo --results {results}" in said.out
    assert f"show  biasrepro table demo --results {results}" in said.out


def test_a_run_at_chance_level_is_named_and_not_asked_for_again(
    say: Say, results: Path, runs: list[Run], finish: Finish
) -> None:
    for run in runs:
        if run.cell != runs[2].cell:
            finish(run, last_top1_percent=90.0)
    finish(runs[2], last_top1_percent=10.0)
    said = say("status", "demo", "--results", results)
    assert "1 chance level" in said.out
    assert f"chance level  {runs[2].id}: 10.00 % at the last epoch" in said.out
    assert f"at chance level: {runs[2].cell.id}; more seeds show nothing" in said.out
    assert "show  biasrepro table demo" in said.out
    assert "next  " not in said.out


def test_all_tables_are_a_line_each(say: Say, results: Path, runs: list[Run], own: Path, finish: Finish) -> None:
    finish(runs[0])
    for run in selected_runs(find_table(str(own)), (0,)):
        finish(run)
    said = say("status", "--results", results)
    table = [line.split() for line in said.out.splitlines()[:3]]
    assert table == [["table", "runs", "done", "to", "do"], ["demo", "12", "1", "11"], ["mine", "2", "2", "–"]]
    assert "mine is not a built-in table" in said.out


def test_a_table_of_one_s_own_is_shown_by_its_file(say: Say, results: Path, own: Path, finish: Finish) -> None:
    for run in selected_runs(find_table(str(own)), (0,)):
        finish(run)
    said = say("status", own, "--results", results)
    assert "1/5" in said.out
    assert f"biasrepro sweep {own} --results" in said.out


def test_an_overridden_table_is_shown_by_its_setting(say: Say, results: Path, finish: Finish) -> None:
    finish(selected_runs(find_table("demo+recipe.epochs=2"), (0,))[0])
    assert "1/3" in say("status", "demo", "--set", "recipe.epochs=2", "--results", results).out
    assert "1/3" not in say("status", "demo", "--results", results).out


def test_a_finished_part_of_a_table_is_said_to_be_one(say: Say, results: Path, finish: Finish) -> None:
    row, *_ = find_table("table1").rows
    for run in (run for run in selected_runs(find_table("table1"), (0,)) if run.cell.row == row):
        finish(run)
    said = say("status", "table1", "--results", results).out
    assert "part  table1: 2 of 60 runs done; the rows without runs were never begun" in said
    assert "sweep" not in said
    assert "sweep" not in say("table", "table1", "--results", results).err


def test_the_way_on_has_the_seeds_that_the_table_does_not_ask_for(say: Say, results: Path, finish: Finish) -> None:
    for run in selected_runs(find_table("demo"), (0, 1, 2)):
        finish(run)
    failed, interrupted = (selected_runs(find_table("demo"), (seed,))[0] for seed in (7, 8))
    folder = RunFolder.of(results, failed)
    folder.path.mkdir(parents=True)
    write_failure(folder, "broke")
    RunFolder.of(results, interrupted).path.mkdir(parents=True)
    RunFolder.of(results, interrupted).checkpoint.touch()
    said = say("status", "demo", "--results", results).out
    assert f"again biasrepro sweep demo --only failed --seeds 7, --results {results}" in said
    assert f"next  biasrepro sweep demo --seeds 8, --results {results}" in said


def test_much_trouble_is_cut_short(say: Say, results: Path, finish: Finish) -> None:
    for run in selected_runs(find_table("demo"), range(10)):
        finish(run, status="diverged", reason="not finite")
    said = say("status", "demo", "--results", results)
    assert said.out.count("diverged  demo/") == 20
    assert "… and 20 more like these in demo" in said.out


def test_under_a_sweep_the_way_on_is_its_own(say: Say, results: Path) -> None:
    command = "biasrepro sweep demo --executor slurm --partition gpu"
    sweep = register(results, table="demo", executor="slurm", command=command, detached=False)
    said = say("status", "demo", "--results", results)
    assert "next  biasrepro sweep" not in said.out, "a sweep on this machine, beside the cluster's"
    assert "resume with" not in said.out
    sweep.path.write_text(sweep.path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
    said = say("status", "demo", "--results", results)
    assert f"killed\nresume with  {command}\n" in said.out


def test_a_leading_tilde_is_the_home_folder(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "r").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"There are no runs under {tmp_path / 'r'}" in say("status", "--results=~/r").out
    monkeypatch.setenv("BIASREPRO_RESULTS", "~/r")
    assert f"There are no runs under {tmp_path / 'r'}" in say("status").out
    assert say("verify").code == 0
    said = say("doctor", "--root=~/r", "--no-measure")
    assert f"{tmp_path / 'r'}: " in said.out
    said = say("status", "--results=~nobody-of-this-name/r")
    assert said.code == 2
    assert "the home folder in this path is not known" in said.err


def test_a_suspended_owner_of_this_machine_is_told_how_to_continue(say: Say, results: Path, runs: list[Run]) -> None:
    with own_run(RunFolder.of(results, runs[0])) as ownership:
        os.utime(ownership.path, (1.0, 1.0))
        shown = say("status", "demo", "--results", results).out
    assert f"it is suspended or stuck; kill -CONT {os.getpid()} continues it" in shown
    assert "taken over" not in shown


@pytest.mark.parametrize("columns", ["80", "72"])
def test_a_terminal_is_wide_enough_for_every_line(  # but for commands, which are copied
    say: Say, results: Path, runs: list[Run], finish: Finish, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for run in runs[:3]:
        finish(run)
    at = Progress(runs[4].id, "training", 6, 10, 1, 4, 0.123, 88.0, 91.5, 2140.0, 4_800.0)
    register(results, table="demo", executor="local", command="biasrepro sweep demo")
    with own_run(RunFolder.of(results, runs[4])):
        Publisher(RunFolder.of(results, runs[4])).hear(at)
        said = say("status", "demo", "--results", results)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", said.out)
    lines = [line.rstrip() for line in shown.splitlines() if "biasrepro " not in line and "core-hours" not in line]
    assert max(map(len, lines)) <= int(columns)
    assert "1/3, 1 running" in said.out
    assert "epoch 6/10" in said.out
    assert "1 h 20 min left" in said.out


def test_what_the_finished_runs_took(say: Say, results: Path, runs: list[Run], finish: Finish) -> None:
    for run in runs[:3]:
        finish(run)
    lines = say("status", "demo", "--results", results).out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("compute  "))
    assert lines[start] == "compute  3 runs, each 1 min"
    assert re.fullmatch(r" {9}0\.05 core-hours in all on .+, 1 thread a run", lines[start + 1])
    assert re.fullmatch(r" {9}[\d,]+ images/s \(median\)", lines[start + 2])
    alone = [line for line in say("status", "--results", results).out.splitlines() if "compute" in line]
    assert alone == [f"compute  demo: {lines[start + 1].strip()}"]


def test_a_preregistered_table_goes_on_with_its_next_analysis(say: Say, results: Path, finish: Finish) -> None:
    """Which cells that takes is for the analysis to say: a plain sweep would train decided ones."""
    assert say("plan", "table2", "--looks", "3,5", "--declare", "--results", results).code == 0
    command = f"biasrepro sweep table2 --until-decided --results {results}"
    for seeds, lines in ((1, [f"next  {command}"]), (5, [])):  # no analysis follows the one at five seeds
        for run in selected_runs(find_table("table2"), range(seeds)):
            if not RunFolder.of(results, run).record.exists():
                finish(run)
        said = say("status", "table2", "--results", results).out
        assert [line for line in said.splitlines() if "sweep" in line] == lines
        told = say("table", "table2", "--results", results).err
        assert (f"`{command}` goes on" in told, "runs the rest" in told) == (bool(lines), False)
