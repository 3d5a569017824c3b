"""A report on tables that are not the paper's: what they show, and no word on what the paper printed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from repro.analysis.evidence import Evidence
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.report import render_html, render_markdown
from repro.report.contents import Report, report_on
from repro.report.headlines import study_headline
from repro.results import Found

SHIFTS = {"ce": 0.0, "inverse_bias": -3.0, "mean_bias": 0.0, "bias": 2.0}
REPRODUCING = re.compile(r"reproduced|undecided|No verdict|of the 21|not run", re.IGNORECASE)


@pytest.fixture(scope="module")
def study(fake_runs: Any) -> Callable[..., Report]:
    """The report on the small study with so many seeds of each cell, its losses apart by ``shifts`` points."""

    def make(seeds: int, shifts: dict[str, float] = SHIFTS, jitter: Mapping[str, float] = {"ce": 0.0}) -> Report:
        table = find_table("tiny20")
        found: list[Found] = []
        for run in (Run(cell=cell, seed=seed) for cell in table.cells for seed in range(seeds)):
            last = 35.0 + shifts[run.cell.column.id] + jitter.get(run.cell.column.id, 0.1) * (run.seed % 2)
            epoch = fake_runs.epochs_of(run)[-1].model_copy(update={"test_top1_percent": last})
            found.append(fake_runs.found(fake_runs.record(run, epochs=(epoch,))))
        return report_on([find_table("table1"), find_table("table2")], [table], find_table("product"), Evidence(found))

    return make


@pytest.mark.parametrize(
    ("seeds", "shifts", "expected"),
    [
        (0, SHIFTS, "No result yet: no loss has three seeds in common"),
        (2, SHIFTS, "No result yet: no loss has three seeds in common"),
        (
            5,
            SHIFTS,
            "Of 6 differences from cross-entropy, 2 are significantly positive (Bias loss on ShuffleNetV2 0.5x; Bias "
            "loss on MobileNetV2 0.75x) and 2 are significantly negative (Inv. Bias loss on ShuffleNetV2 0.5x; Inv. "
            "Bias loss on MobileNetV2 0.75x). The other 2 are not significant.",
        ),
        (5, dict.fromkeys(SHIFTS, 0.0), "None of the 6 differences from cross-entropy is significant."),
    ],
)
def test_the_headline_says_what_differs(
    study: Callable[..., Report], seeds: int, shifts: dict[str, float], expected: str
) -> None:
    assert study_headline(study(seeds, shifts).sections).startswith(expected)


def test_the_headline_counts_what_has_no_spread_to_be_tested_by(study: Callable[..., Report]) -> None:
    same = dict.fromkeys(SHIFTS, 0.0)
    flat = study(4, same, jitter={"ce": 0.0, "inverse_bias": 0.0}).sections
    assert study_headline(flat) == (
        "None of the 4 differences from cross-entropy is significant. "
        "2 differences are the same at every seed and could not be tested."
    )
    nothing = study(4, same, jitter=dict.fromkeys(SHIFTS, 0.0)).sections
    assert study_headline(nothing) == "No result yet. 6 differences are the same at every seed and could not be tested."


def test_neither_page_nor_summary_speaks_of_reproducing(study: Callable[..., Report]) -> None:
    report = study(5)
    assert not report.on_paper
    page = re.sub(r'<section id="choices".*?</section>|<style>.*?</style>|<script.*?</script>', "", _page(report))
    for text in (page, render_markdown(report, [])):
        assert "A study of ours, not a table of the paper. Top-1 accuracy on the first 20 classes" in text
        assert "It neither reproduces nor refutes any number of the paper." in text
        assert REPRODUCING.findall(text) == []
        assert "Up to 11M parameters" not in text
    assert re.findall(r"<h1>(.*?)</h1>", page) == ["Tiny20"]
    assert 'href="#claims"' not in page


def test_runs_of_the_papers_tables_are_no_part_of_a_study(fake_runs: Any) -> None:
    run = Run(cell=find_table("table1").cells[0], seed=0)
    far = fake_runs.found(fake_runs.record(run, last_top1_percent=40.0))
    study, papers = [find_table("tiny20")], [find_table("table1"), find_table("table2")]
    found = fake_runs.of(study[0], range(3))
    alone, beside = (report_on(papers, study, find_table("product"), Evidence(of)) for of in (found, [*found, far]))
    assert render_markdown(beside, []) == render_markdown(alone, [])
    assert "more than a point" in render_markdown(report_on(papers, papers, find_table("product"), Evidence([far])), [])


def test_every_difference_has_its_interval_and_p(study: Callable[..., Report]) -> None:
    text = render_markdown(study(5), [])
    lines = re.findall(r"^\| \w.* \| .* \| .* \([+−].* to [+−].*\), n = 5 \| [\d.< ]+ \|$", text, re.MULTILINE)
    assert len(lines) == 6
    assert "over all cells of the table." in text


def test_beside_the_papers_tables_a_study_stays_what_it_is(fake_runs: Any, report_of: Callable[..., Report]) -> None:
    report = report_of(fake_runs.of(find_table("tiny20"), range(3)), ["tiny20"])
    assert report.on_paper
    text = render_markdown(report, [])
    assert "No verdict yet: none of the 21 differences between the paper's accuracies has been run." in text
    assert "| Model | Loss | Ours (95% interval) | p |" in text.partition("**Tiny20.**")[2]


def _page(report: Report, commands: Sequence[str] = ()) -> str:
    return re.sub(r"\s*\n\s*", " ", render_html(report, commands))
