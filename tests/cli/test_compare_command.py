"""``biasrepro compare``: formats, exit codes, and what is wrong with its folders."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table, runs_of
from repro.results import RunFolder, write_record

Say = Callable[..., Any]


@pytest.fixture
def labs(tmp_path: Path, fake_runs: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders with three seeds of the demo, bit for bit alike."""
    monkeypatch.chdir(tmp_path)
    for run in runs_of(find_table("demo").cells, range(3)):
        write_record(RunFolder.of(Path("a"), run), fake_runs.record(run))
    shutil.copytree("a", "b")
    return tmp_path


def change(fake_runs: Any, seeds: range, **changes: Any) -> None:
    """Make other records of these seeds in the second folder."""
    for run in runs_of(find_table("demo").cells, seeds):
        folder = RunFolder.of(Path("b"), run)
        folder.record.unlink(missing_ok=True)
        write_record(folder, fake_runs.record(run, **changes))


def test_two_folders_alike(say: Say, labs: Path) -> None:
    done = say("compare", "a", "b")
    assert (done.code, done.err) == (0, "")
    assert re.search(r"^  identical +12$", done.out, re.MULTILINE)
    assert "Different" not in done.out
    assert "made with" not in done.out


def test_what_differs_gives_exit_code_1_in_every_format(say: Say, labs: Path, fake_runs: Any) -> None:
    change(fake_runs, range(3), state_hash="6" * 64, device_name="CPU")
    shutil.rmtree("a/demo/shufflenetv2/ce/seed-2")
    for format_name in ("text", "markdown", "json"):
        done = say("compare", "a", "b", "--format", format_name)
        assert (done.code, done.err) == (1, "")
    document = json.loads(done.out)
    assert document["command"] == "biasrepro compare a b --format json"
    assert document["all_identical"] is False
    assert len(document["runs"]) == 11
    assert document["only"] == {"A": [], "B": ["demo/shufflenetv2/ce/seed-2"]}
    assert document["made_with"] == [{"what": "device", "counts": {"NVIDIA H200": [11, 0], "CPU": [0, 12]}}]
    text = say("compare", "a", "b").out
    assert "… and 1 more (--verbose names all)" in text
    assert max(map(len, text.splitlines())) <= 80
    assert "more (--verbose" not in say("compare", "a", "b", "-v").out
    shown = say("compare", "a", "b", "-f", "markdown").out
    assert "|   CPU" in shown
    assert "**Only in B**\n\n- demo/shufflenetv2/ce/seed-2" in shown


def test_a_file_gets_the_format_of_its_name(say: Say, labs: Path) -> None:
    for name in ("c.md", "c.json", "c.txt"):
        assert say("compare", "a", "b", "-o", name).code == 0
        assert say("compare", "a", "b", "-o", name).code == 0  # it replaces what it wrote
    assert Path("c.md").read_text().startswith("**Comparison of two results folders")
    Path("notes.md").write_text("mine")
    assert "is kept" in say("compare", "a", "b", "-o", "notes.md").err


def test_damaged_and_unreadable_records_are_named_and_never_equal(say: Say, labs: Path) -> None:
    for folder in ("a", "b"):
        path = Path(folder, "demo/shufflenetv2/ce/seed-1/run.json")
        path.write_bytes(path.read_bytes().replace(b'"seed": 1', b'"seed": 7', 1))
    done = say("compare", "a", "b")
    assert done.code == 1
    for name in "AB":
        assert f"Not usable in {name}\n\ndemo/shufflenetv2/ce/seed-1: the seal is broken" in done.out


def test_tables_are_chosen_by_name_or_file(say: Say, labs: Path, own: Path, fake_runs: Any) -> None:
    for run in runs_of(find_table(str(own)).cells, range(2)):
        write_record(RunFolder.of(Path("b"), run), fake_runs.record(run))
    assert re.search("only in B +4", say("compare", "a", "b").out)
    assert re.search("only in B +0", say("compare", "a", "b", "demo").out)
    for name in ("mine", own):
        done = say("compare", "a", "b", name)
        assert done.code == 1
        assert re.search("in both +0", done.out)
        assert re.search("only in B +4", done.out)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["a"], "Missing argument 'B'"),
        (["a", "none"], "none: there is no such results folder"),
        (["a", "empty"], "empty: there is no record in this folder"),
        (["a", "clone"], "Did you mean clone/results?"),
        (["a", "a/../a"], "this folder is given twice"),
        (["a", "b", "demos"], "demos"),
        (["a", "b", "table1"], "neither folder has a record of table1"),
        (["a", "b", "--format", "html"], "--format: no format is called 'html'"),
        (["a", "b", "-o", "c.html"], ".html is not supported"),
    ],
)
def test_what_is_wrong_is_one_message(say: Say, labs: Path, arguments: list[str], why: str) -> None:
    Path("empty").mkdir()
    Path("clone").mkdir()
    Path("clone/results").symlink_to(labs / "b")
    refused = say("compare", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert why in refused.err
    assert refused.err.count("error:") == 1
