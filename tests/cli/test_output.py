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


YAML = "table: mine\nlabel: Mine\n"


@pytest.mark.parametrize(
    ("command", "name", "content", "what"),
    [
        (["table", "-f", "markdown"], "own.yaml", YAML, "not markdown that biasrepro wrote"),
        (["table"], "notes.md", "# My notes\n", "not markdown that biasrepro wrote"),
        (["table"], "paper.tex", "\\documentclass{article}\n", "not latex that biasrepro wrote"),
        (["table"], "t.csv", "%PDF-1.4\n", "not csv that biasrepro wrote"),
        (["export", "-f", "schema"], "run.json", '{\n  "schema_version": 1,\n  "id": "a"', "a record of biasrepro"),
        (["table", "-f", "json"], "run.json", '{\n  "schema_version": 1,\n  "id": "a"', "a record of biasrepro"),
        (["report"], "page.html", "plain words", "not html that biasrepro wrote"),
        (["figure", "1"], "x.pdf", "plain words", "not pdf that biasrepro wrote"),
        (["bench", "squeezenet", "--device", "cpu"], "x.json", "{}", "not benchmark that biasrepro wrote"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_a_file_of_another_kind_is_kept(
    say: Say, tmp_path: Path, command: list[str], name: str, content: str, what: str
) -> None:
    (tmp_path / name).write_text(content)
    results = [] if command[0] in ("bench", "figure") else ["--results", tmp_path]
    said = say(*command, "-o", tmp_path / name, *results)
    assert said.code == 2
    assert f"{name}: the file here is {what}, and is kept" in said.err
    assert "--overwrite" in said.err
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *((["table", "table1"], f"t.{suffix}") for suffix in ("md", "tex", "csv", "json", "html")),
        *((["report", "table1"], f"r.{suffix}") for suffix in ("md", "html")),
        *((["figure", "1"], f"f.{suffix}") for suffix in ("pdf", "svg", "png")),
        *((["export"], f"e.{suffix}") for suffix in ("csv", "json", "parquet")),
    ],
)
def test_what_a_command_wrote_is_replaced_and_keeps_its_permissions(
    say: Say, tmp_path: Path, command: list[str], name: str
) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    output = tmp_path / name
    results = [] if command[0] == "figure" else ["--results", tmp_path]
    assert say(*command, "-o", output, *results).code == 0
    written = output.read_bytes()
    for mode in (0o600, 0o664):
        output.chmod(mode)
        assert say(*command, "-o", output, *results).code == 0
        assert output.stat().st_mode & 0o777 == mode
    assert output.read_bytes() == written


def test_any_file_is_replaced_when_told_to(say: Say, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(YAML)
    where = ["-o", tmp_path / "own.yaml", "--results", tmp_path]
    assert say("table", "table1", "-f", "csv", "--overwrite", *where).code == 0
    assert (tmp_path / "own.yaml").read_text().startswith("table,")


def test_export_says_that_a_schema_holds_no_records(say: Say, tmp_path: Path) -> None:
    said = say("export", "-o", tmp_path / "runs.json", "--results", tmp_path)
    assert said.code == 0
    assert "This is the JSON Schema of the records; a name in .csv or .parquet gets the records." in said.err
