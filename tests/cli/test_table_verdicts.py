"""``biasrepro table`` with verdicts, compact, and for siunitx: from the results folder to the terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table, runs_of
from repro.results import RunFolder, write_record


@pytest.fixture(scope="module")
def table1_results(tmp_path_factory: pytest.TempPathFactory, fake_runs: Any) -> Path:
    """Three seeds of every cell of Table 1."""
    folder = tmp_path_factory.mktemp("verdicts") / "results"
    for run in runs_of(find_table("table1").cells, range(3)):
        write_record(RunFolder.of(folder, run), fake_runs.record(run))
    return folder


def test_words_stand_in_a_line_of_their_own(say: Callable[..., Any], table1_results: Path) -> None:
    said = say("table", "table1", "--verdicts", "words", "--results", table1_results)
    assert said.code == 0, said.err
    lines = [line for line in said.out.splitlines() if "| verdict |" in line]
    assert len(lines) == 6
    assert "verdict: reproduced (" in said.out
    assert "verdict" not in say("table", "table1", "--results", table1_results).out


def test_a_study_shows_intervals_and_p_in_the_place_of_verdicts(say: Callable[..., Any]) -> None:
    committed = Path(__file__).parents[2] / "results"
    said = say("table", "tiny20", "--verdicts", "words", "--results", committed)
    assert said.code == 0, said.err
    assert len(re.findall(r"[−+]\d\.\d\d to [−+]\d\.\d\d, p = \d\.\d{3}", said.out)) == 6


def test_the_verdict_does_not_depend_on_which_table_is_shown(say: Callable[..., Any], table1_results: Path) -> None:
    alone = say("table", "table1", "--verdicts", "stars", "--format", "json", "--results", table1_results).out
    both = say("table", "table1", "table2", "--verdicts", "stars", "--format", "json", "--results", table1_results).out
    judgements = [line for line in alone.splitlines() if "p_adjusted" in line]
    assert judgements == [line for line in both.splitlines() if "p_adjusted" in line][: len(judgements)]
    assert any('"p_adjusted": 0.' in line for line in judgements)


def test_the_output_says_how_it_was_made(say: Callable[..., Any], table1_results: Path) -> None:
    options = ["--verdicts", "stars", "--compact", "--siunitx"]
    said = say("table", "table1", "--format", "latex", *options, "--results", table1_results)
    assert " ".join(options) in said.out.partition("produced by:")[2].partition("\n")[0]
    assert "siunitx" in said.out
    assert said.out.count(r"\addlinespace") == 5  # a line a model


def test_the_demo_has_no_verdict(say: Callable[..., Any], tmp_path: Path, fake_runs: Any) -> None:
    for run in runs_of(find_table("demo").cells, range(3)):
        write_record(RunFolder.of(tmp_path, run), fake_runs.record(run))
    said = say("table", "demo", "--verdicts", "words", "--results", tmp_path)
    assert said.code == 0
    assert "| verdict |" not in said.out


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--verdicts", "star"], "Did you mean 'stars'?"),
        (["--siunitx"], "Add --format latex"),
    ],
)
def test_what_cannot_be_shown_is_refused(say: Callable[..., Any], arguments: list[str], expected: str) -> None:
    said = say("table", "table1", *arguments)
    assert said.code == 2
    assert expected in said.err


def test_a_study_without_runs_explains_no_verdict(say: Callable[..., Any], tmp_path: Path) -> None:
    said = say("table", "tiny20", "--verdicts", "words", "--results", tmp_path)
    assert said.code == 0, said.err
    assert "verdict" not in said.out
