"""``biasrepro figure``: files by their endings, refused before any work, and the caption for the paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table, runs_of
from repro.results import RunFolder, write_record


@pytest.fixture
def recorded_demo(tmp_path: Path, fake_runs: Any) -> Path:
    """A results folder with two seeds of the demo."""
    for run in runs_of(find_table("demo").cells, range(2)):
        write_record(RunFolder.of(tmp_path / "results", run), fake_runs.record(run))
    return tmp_path / "results"


def test_one_command_writes_every_format(say: Callable[..., Any], recorded_demo: Path, tmp_path: Path) -> None:
    files = [tmp_path / f"curves.{ending}" for ending in ("pdf", "SVG", "png")]
    options = [word for file in files for word in ("-o", file)]
    said = say("figure", "curves", "demo", *options, "--results", recorded_demo)
    assert said.code == 0, said.err
    assert [file.read_bytes()[:4] for file in files] == [b"%PDF", b"<?xm", b"\x89PNG"]
    assert said.out.startswith("Demo. A demo, not a result of the paper. Test top-1 by epoch:")
    assert said.err.count("Written:") == 3


@pytest.mark.parametrize("name", ["curves", "deltas", "parameters", "weights"])
def test_what_is_left_out_of_a_figure_is_counted_and_named(
    name: str, say: Callable[..., Any], recorded_demo: Path, tmp_path: Path
) -> None:
    assert "left out" not in say("figure", name, "demo", "-o", tmp_path / "a.svg", "--results", recorded_demo).out
    record = next(recorded_demo.rglob("ce/seed-0/run.json"))
    record.write_bytes(record.read_bytes().replace(b"9", b"8", 1))
    said = say("figure", name, "demo", "-o", tmp_path / "b.svg", "--results", recorded_demo)
    assert said.code == 0
    assert said.out.rstrip().endswith(
        "1 record is left out: damaged, edited, not readable or of another configuration."
    )
    assert f"left out: {record}: the seal is broken" in said.err


def test_without_a_file_the_figure_has_a_name_of_its_own(
    say: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert say("figure", "1").code == 0
    assert [file.name for file in tmp_path.iterdir()] == ["figure-1.pdf"]


@pytest.mark.parametrize("name", ["curves", "deltas", "parameters", "weights"])
def test_without_runs_nothing_is_drawn_and_the_way_out_is_said(
    name: str, say: Callable[..., Any], tmp_path: Path
) -> None:
    said = say("figure", name, "-o", tmp_path / "drawn.svg", "--results", tmp_path)
    assert said.code == 1
    assert said.err.startswith("error: no runs of Table 1 and Table 2 are recorded: nothing is drawn")
    assert "biasrepro sweep table1" in said.err
    assert said.out == ""
    assert not (tmp_path / "drawn.svg").exists()


def test_runs_of_cross_entropy_alone_have_no_differences(
    say: Callable[..., Any], recorded_demo: Path, tmp_path: Path
) -> None:
    for record in recorded_demo.rglob("run.json"):
        if "/ce/" not in str(record):
            record.unlink()
    said = say("figure", "deltas", "demo", "-o", tmp_path / "drawn.svg", "--results", recorded_demo)
    assert said.code == 1
    assert "nothing that this figure shows" in said.err
    assert not (tmp_path / "drawn.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["curve"], "Did you mean 'curves'?"),
        (["deltas", "--metric", "lst"], "Did you mean 'last'?"),
        (["1", "-o", "figure.jpg"], ".jpg is not supported"),
        (["1", "-o", "figure"], "ends in .pdf, .svg, .png"),
        (["1", "-o", "nowhere/figure.pdf"], "mkdir -p nowhere"),
        (["curves", "tabel1"], "Did you mean 'table1'?"),
    ],
)
def test_what_cannot_be_drawn_is_refused_with_the_way_out(
    say: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    said = say("figure", *arguments)
    assert said.code == 2
    assert expected in said.err
    assert list(tmp_path.iterdir()) == []
