"""Every command of docs/report.md does what it says, in a folder without runs; figures with those of two networks."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import repro
from repro import cli
from repro.experiment.config import find_table, runs_of
from repro.results import RunFolder, write_record

DOCUMENT = Path(repro.__file__).parent.parent / "docs" / "report.md"
BLOCKS = re.findall(r"```console\n(.*?)```", DOCUMENT.read_text("utf-8"), flags=re.DOTALL) if DOCUMENT.exists() else []
COMMANDS = [line.partition(" #")[0].strip() for block in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_works(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: Path, fake_runs: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BIASREPRO_RESULTS", raising=False)
    program, *arguments = shlex.split(command.replace("my/own.yaml", str(own)))
    assert program == "biasrepro"
    if "--until-decided" in arguments:
        assert cli.run(["plan", "table2", "--looks", "5,10,20", "--declare"]) == 0
    if arguments[0] == "figure":
        tables = [find_table("table1"), find_table("table2")]
        for run in runs_of([cell for table in tables for cell in table.cells if cell.row is table.rows[0]], [0]):
            write_record(RunFolder.of(tmp_path / "results", run), fake_runs.record(run))
    assert cli.run(arguments) == 0
    written = [word for option, word in pairwise(arguments) if option == "-o"]
    assert all((tmp_path / name).stat().st_size > 200 for name in written)


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10
