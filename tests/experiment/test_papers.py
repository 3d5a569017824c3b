from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro import cli
from repro.analysis.evidence import family_of, gather_evidence
from repro.experiment.config import find_table, load_table, runs_of
from repro.experiment.papers import PAPERS
from repro.experiment.schema import Run
from repro.results import RunFolder
from repro.results.record import to_bytes

SMITH = "kind: paper\npaper: {id: smith2024, citation: 'Smith, ICML 2024'}"


@pytest.fixture
def smith(own: Path, own_text: str, fake_runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Another paper's table, with five seeds recorded."""
    own.write_text(own_text.replace("kind: study", SMITH))
    monkeypatch.setenv("BIASREPRO_RESULTS", str(tmp_path / "results"))
    for run in runs_of(load_table(own).cells, range(5)):
        record = RunFolder.of(tmp_path / "results", run).record
        record.parent.mkdir(parents=True)
        record.write_bytes(to_bytes(fake_runs.record(run)))
    return own


def test_another_papers_table_is_judged_among_its_own_cells(smith: Path, tmp_path: Path) -> None:
    table = load_table(smith)
    family = family_of(table)
    assert [member.id for member in family] == ["mine"]
    cell = gather_evidence(tmp_path / "results", family).assess(family).cells["mine", "squeezenet", "bias"]
    assert cell.delta is not None
    assert cell.delta.p_adjusted == cell.delta.p


def test_the_tables_that_a_paper_lists_are_one_family_whichever_is_named(smith: Path, tmp_path: Path) -> None:
    other = smith.with_name("other.yaml")
    alone = smith.read_text()
    listed = alone.replace("ICML 2024'", "ICML 2024', tables: [own.yaml, other.yaml]")
    smith.write_text(listed)
    other.write_text(listed.replace("table: mine", "table: other"))
    adjusted = []
    for first, second in ((smith, other), (other, smith)):
        family = family_of(load_table(first), [load_table(second)])
        assert sorted(member.id for member in family) == ["mine", "other"]
        delta = gather_evidence(tmp_path / "results", family).assess(family).cells["mine", "squeezenet", "bias"].delta
        assert delta is not None
        adjusted.append(delta.p_adjusted / delta.p)
    assert adjusted == pytest.approx([2, 2])
    # What is not listed is of no family but its own, though it is named beside.
    smith.write_text(alone)
    assert [member.id for member in family_of(load_table(smith), [load_table(other)])] == ["mine"]


def test_a_figure_and_a_report_of_another_paper_say_nothing_of_bias_loss(
    smith: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["report", str(smith), "-o", str(tmp_path / "report.html")]) == 0
    assert cli.run(["figure", "parameters", str(smith), "-o", str(tmp_path / "p.svg")]) == 0
    page = (tmp_path / "report.html").read_text() + capfd.readouterr().out
    for words in ("Abrahamyan", "Bias Loss for Mobile", "the sign changes", "Figure 1 of", "the bias loss"):
        assert words not in page, words
    assert "This is a table of Smith, ICML 2024" in page


def test_a_paper_is_cited_by_its_table(smith: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cite", str(smith)]) == 0
    said = capfd.readouterr().out
    assert ("Smith, ICML 2024" in said, "abrahamyan2021bias" in said, "@software{biasrepro" in said) == (
        True,
        False,
        True,
    )
    assert cli.run(["cite", "table1", "table2"]) == 0
    assert capfd.readouterr().out.count("abrahamyan2021bias") == 1


def test_another_papers_table_is_called_a_reproduction_of_that_paper(
    smith: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["table", str(smith), "--verdicts", "words"]) == 0
    shown = capfd.readouterr().out
    assert "reproduced  " in shown
    for name in ("report.md", "report.html"):
        assert cli.run(["report", str(smith), "-o", str(tmp_path / name)]) == 0
        text = (tmp_path / name).read_text()
        assert "From Smith, ICML 2024." in text
        assert "accuracies, 1 is reproduced." in text
        shown += text
    for words in ("study of ours", "neither reproduces", 'href="#claims"'):
        assert words not in shown


def test_tables_1_and_2_are_one_family_of_one_paper() -> None:
    for name in ("table1", "table2", "table2+execution.precision=bf16"):
        table = find_table(name)
        assert table.paper == PAPERS["bias_loss"]
        assert table.family == "bias_loss"


@pytest.mark.parametrize("name", ["table2+recipe.epochs=2", "released", "table2_variants", "tiny20", "demo"])
def test_any_other_table_is_a_family_of_its_own(name: str) -> None:
    assert find_table(name).family == name


def test_another_papers_table_is_in_that_papers_family(own: Path, own_text: str) -> None:
    own.write_text(own_text.replace("kind: study", SMITH))
    table = load_table(own)
    assert table.paper is not None
    assert (table.paper.citation, table.paper.bibtex) == ("Smith, ICML 2024", "")
    assert table.family == "smith2024"
    assert load_table(own, ["recipe.epochs=2"]).family == "mine+recipe.epochs=2"


def test_a_known_paper_is_named_by_its_id(own: Path, own_text: str) -> None:
    own.write_text(own_text.replace("kind: study", "kind: paper\npaper: bias_loss"))
    assert load_table(own).family == "bias_loss"


def test_the_paper_is_in_no_hash(own: Path, own_text: str) -> None:
    before = Run(cell=load_table(own).cells[1], seed=0).hash
    own.write_text(own_text.replace("kind: study", SMITH))
    assert Run(cell=load_table(own).cells[1], seed=0).hash == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: paper", "own.yaml:4:7: kind: a table of kind 'paper' must name its paper. Add 'paper: bias_loss', or"),
        ("kind: paper\npaper: bias_los", "own.yaml:5:8: paper: unknown paper 'bias_los'. Did you mean 'bias_loss'?"),
        ("kind: paper\npaper: 3", "own.yaml:5:8: paper: must be a mapping of keys to values, not 3"),
        ("kind: paper\npaper: {id: x}", "own.yaml:5:8: paper: key 'citation' is missing"),
        (
            "kind: paper\npaper: {id: x, citation: X, year: 3}",
            "own.yaml:5:29: unknown key 'year' in paper. Valid: id, citation, bibtex, tables.",
        ),
        ("kind: paper\npaper: {id: bias_loss, citation: X}", "own.yaml:5:13: paper.id: 'bias_loss' is a known paper"),
    ],
)
def test_a_wrong_paper_is_told_with_its_place(
    refusal: Callable[..., str], own_text: str, text: str, message: str
) -> None:
    assert message in refusal(own_text.replace("kind: study", text))


def test_no_table_has_the_name_of_a_paper(refusal: Callable[..., str], own_text: str) -> None:
    assert "'bias_loss' is the name of a paper" in refusal(own_text.replace("table: mine", "table: bias_loss"))
