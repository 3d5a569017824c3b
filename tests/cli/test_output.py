"""Files that a command writes for its user: refused before any work, with the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Say = Callable[..., Any]


@pytest.mark.parametrize("command", ["table", "export", "report"])
def test_a_name_that_ends_in_another_format_is_refused(say: Say, tmp_path: Path, command: str) -> None:
    said = say(command, "-o", tmp_path / "x.pdf", "--results", tmp_path)
    assert said.code == 2
    assert ".pdf is not supported" in said.err
    assert "or choose a --format" in said.err
    assert not list(tmp_path.iterdir())
    assert say(command, "-o", tmp_path / "x.pdf", "--format", "nope", "--results", tmp_path).code == 2


@pytest.mark.parametrize("command", [["table"], ["export"], ["report"]])
def test_a_dash_is_no_file_s_name(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    said = say(*command, "-o", "-", "--results", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert "'-' is a file name here, not standard output" in said.err
    assert not list(tmp_path.iterdir())


def test_a_record_of_a_benchmark_has_no_place_below_a_file(say: Say, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = say("bench", "squeezenet", "--device", "cpu", "-o", tmp_path / "file" / "x.json")
    assert (said.code, said.out) == (2, "")
    assert "file: this folder cannot be made: File exists" in said.err


@pytest.mark.parametrize("name", ["x" * 250 + ".csv", "x" * 300 + ".csv", "x" * 300 + "/y.csv"])
def test_a_name_too_long_for_the_file_system_is_said_so(say: Say, tmp_path: Path, name: str) -> None:
    said = say("export", "-o", tmp_path / name, "--results", tmp_path)
    assert said.code == 2
    assert "Traceback" not in said.err
