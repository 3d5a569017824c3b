"""What goes into a report, and in which order; what is counted, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_table, load_table
from repro.experiment.schema import Run
from repro.report.assumptions import assumed_settings, chapters, reproducing_document
from repro.report.contents import Report, gather_report
from repro.report.headlines import paper_headline, paper_remarks, tally
from repro.report.markdown_summary import difficult
from repro.report.run_facts import facts, peculiarities
from repro.report.table_rows import accuracy_rows, delta_rows
from repro.results import Found, RunFolder, write_record


def record_all(results: Path, fake_runs: Any, *tables: str) -> None:
    for name in tables:
        table = load_table(name) if name.endswith(".yaml") else find_table(name)
        run = Run(cell=table.cells[0], seed=0)
        write_record(RunFolder.of(results, run), fake_runs.record(run))


def test_without_runs_the_papers_tables_are_there(tmp_path: Path) -> None:
    report = gather_report(tmp_path)
    assert [section.table.id for section in report.sections] == ["table1", "table2"]
    assert report.records == []


def test_whatever_has_records_is_shown_the_papers_first_and_the_changed_last(
    tmp_path: Path, fake_runs: Any, own: Path
) -> None:
    changed = "table2+recipe.epochs=2"
    record_all(tmp_path, fake_runs, "demo", "released", changed, "table2", "table1_variants", str(own))
    report = gather_report(tmp_path)
    shown = [section.table.id for section in report.sections]
    # a variant stands inside the table that it is beside; a file of the user's must be named
    assert shown == ["table1", "table2", "released", "demo", changed]
    assert report.unknown == ("mine",)
    assert any(row.variant for row in report.sections[0].shown.rows)


def test_named_tables_are_shown_alone_and_the_verdict_stays_on_the_paper(
    tmp_path: Path, fake_runs: Any, own: Path
) -> None:
    record_all(tmp_path, fake_runs, "table1", "demo", str(own))
    report = gather_report(tmp_path, [load_table(own)])
    assert [section.table.id for section in report.sections] == ["mine"]
    assert [table.table.id for table in report.papers] == ["table1", "table2"]
    assert [record.table for record in report.records] == ["mine"]
    assert report.unknown == ()


def test_the_demo_is_in_no_verdict(report_of: Callable[..., Report], fake_runs: Any) -> None:
    report = report_of(fake_runs.of(find_table("demo"), range(5)), ["demo"])
    answers = tally(report.papers)
    assert answers["not run"] == sum(answers.values()) == 21
    demo = report.sections[-1]
    assert demo.table.id == "demo"
    assert all(row.answer is None and row.paper.text == "–" for row in delta_rows(demo))
    assert all(cell.published is None for row in accuracy_rows(demo) for cell in row.cells)


def test_every_printed_difference_has_one_answer(report_of: Callable[..., Report], fake_runs: Any) -> None:
    report = report_of(fake_runs.of(find_table("table1"), range(5)))
    answers = tally(report.papers)
    assert sum(answers.values()) == 21
    assert answers["not run"] == 15
    words = [row.answer for section in report.sections for row in delta_rows(section)]
    assert {word: words.count(word) for word in answers} == answers


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((0, 0, 0, 0, 21), "No verdict yet: none of the 21 differences between the paper's accuracies has been run."),
        ((0, 0, 0, 21, 0), "none of the 21 differences between the paper's accuracies has enough seeds."),
        (
            (0, 0, 0, 1, 20),
            "of the 21 differences between the paper's accuracies, 1 has too few seeds and 20 are not run.",
        ),
        ((0, 0, 0, 20, 1), "accuracies, 20 have too few seeds and 1 is not run."),
        ((1, 0, 0, 0, 20), "differences between the paper's accuracies, 1 is reproduced; 20 are not run."),
        ((0, 2, 0, 1, 18), "accuracies, 2 are partly reproduced; 1 is still undecided and 18 are not run."),
        ((9, 4, 7, 1, 0), "9 are reproduced, 4 are partly reproduced and 7 are not reproduced; 1 is still undecided."),
        ((20, 0, 1, 0, 0), "accuracies, 20 are reproduced and 1 is not reproduced."),
    ],
)
def test_the_headline_says_what_is_answered_and_what_is_open(counts: tuple[int, ...], expected: str) -> None:
    words = ("reproduced", "partly", "not reproduced", "undecided", "not run")
    assert expected in paper_headline(dict(zip(words, counts, strict=True)))


def test_a_run_at_chance_level_is_said_in_headline_summary_and_its_cell(
    report_of: Callable[..., Report], fake_runs: Any
) -> None:
    found = fake_runs.of(find_table("table2"), range(5))
    runs = [one.record for one in found if (one.record.row, one.record.column) == ("squeezenet", "ce")]
    dead = runs[0].model_copy(update={"last_top1_percent": 1.0})
    report = report_of([fake_runs.found(dead), *(one for one in found if one.record.id != dead.id)])
    answers = tally(report.papers)
    assert answers["chance level"] == 3
    assert "3 are at chance level" in paper_headline(answers)
    assert "1 completed run of Table 2 ended at chance level." in difficult(report)
    row = next(row for row in accuracy_rows(report.sections[1]) if row.title == "SqueezeNet")
    assert row.cells[0].seeds[0][1].startswith("at chance level: 1.00 at the last epoch")
    assert {row.interval for row in delta_rows(report.sections[1]) if row.model == "SqueezeNet"} == {""}


def test_a_far_baseline_and_a_secondary_metric_are_said_beside_the_headline(
    report_of: Callable[..., Report], fake_runs: Any
) -> None:
    run = Run(cell=find_table("table2").cells[0], seed=0)
    far = fake_runs.record(run, last_top1_percent=60.0, best_top1_percent=60.0)
    said = " ".join(paper_remarks(report_of([fake_runs.found(far)]).papers))
    assert "1 of 160 planned runs" in said
    assert "more than a point from the paper's for ShuffleNetV2 0.5x (Table 2, −9.5): its other numbers are" in said
    assert "selected on the test set" in " ".join(paper_remarks(report_of(metric="best").papers))


def test_what_is_open_after_all_planned_runs_is_said_to_be_no_answer(
    report_of: Callable[..., Report], fake_runs: Any
) -> None:
    tables = [find_table(name) for name in ("table1", "table2")]
    every = [one for table in tables for one in fake_runs.of(table, range(5))]
    report = report_of(every)
    assert tally(report.papers)["undecided"] > 0
    assert "not evidence against the paper" in " ".join(paper_remarks(report.papers))
    assert "not evidence against the paper" not in " ".join(paper_remarks(report_of(every[:-1]).papers))


def test_a_cell_opens_to_every_seed(report_of: Callable[..., Report], some_found: list[Found]) -> None:
    table1, table2 = report_of(some_found).sections
    first, second, *_ = accuracy_rows(table1)[0].cells
    said = first.seeds
    assert [seed for seed, _ in said] == [0, 1, 2, 3, 4]
    assert said[0][1].startswith("diverged (the loss is nan")
    assert said[4][1] == "not run"
    assert "at the last epoch, best" in said[1][1]
    assert "1 h on NVIDIA H200" in said[1][1]
    assert "resumed 2 times" in " ".join(text for _, text in said + second.seeds)
    nothing = accuracy_rows(table2)[0].cells[0]
    assert nothing.seeds == ()
    assert nothing.ours.text == "–"


def test_differences_say_how_sure_they_are(report_of: Callable[..., Report], fake_runs: Any) -> None:
    rows = delta_rows(report_of(fake_runs.of(find_table("table1"), range(5))).sections[0])
    assert [row.n.text for row in rows] == ["5"] * 6
    assert all(" to " in row.interval and row.p.value is not None for row in rows)
    two = delta_rows(report_of(fake_runs.of(find_table("table1"), range(2))).sections[0])
    assert all(row.interval == "" and row.p.text == "–" and row.seeds_needed for row in two)


def test_provenance_counts_runs_and_names_no_host(
    report_of: Callable[..., Report], some_found: list[Found], fake_runs: Any
) -> None:
    report = report_of(some_found, ["demo"])
    said = facts(report.records)
    assert said["Hosts"] == "2 (of a resumed run, where it ended)"
    assert said["Device"].endswith("(of a resumed run, where it ended)")
    assert "node-" not in " ".join(said.values())
    anonymous = [fake_runs.record(Run(cell=find_table("demo").cells[0], seed=0), host="", command="")]
    assert facts(anonymous)["Hosts"] == "not recorded"
    assert facts([fake_runs.record(Run(cell=find_table("demo").cells[0], seed=0))])["Hosts"] == "1"
    assert said["Device"].startswith("NVIDIA H200 (")
    assert "0123456789ab with changes (1)" in said["Commit"]
    assert said["Runs"] == str(len(report.records))
    peculiar = " ".join(peculiarities(report.records))
    assert "1 run was made from a checkout with uncommitted changes." in peculiar
    assert "1 run was interrupted and resumed, 2 times in all." in peculiar
    assert "torch 2.14 -> 2.15" in peculiar
    assert facts([]) == {}


def test_execution_other_than_asked_for_is_said(report_of: Callable[..., Report], fake_runs: Any) -> None:
    run = Run(cell=find_table("table1").cells[0], seed=0)
    in_force = {"precision": "tf32", "memory_format": "channels_last", "cuda_graph": False}  # a CPU has no CUDA graph
    record = fake_runs.record(run, execution_in_force=in_force)
    report = report_of([fake_runs.found(record)])
    assert peculiarities(report.records) == ["1 run was executed with precision tf32 where fp32 was requested."]


@pytest.mark.parametrize(
    ("used", "shown"),
    [
        ({"precision": "fp32"}, "fp32"),  # records before TF32 was declared, all from CPUs
        ({"precision": "fp32", "tf32_convolutions": True, "tf32_products": False}, "fp32 (convolutions in TF32)"),
        (
            {"precision": "tf32", "tf32_convolutions": True, "tf32_products": True},
            "tf32 (convolutions and products in TF32)",
        ),
        ({"precision": "ieee", "tf32_convolutions": False, "tf32_products": False}, "ieee"),
    ],
)
def test_tf32_is_said_where_it_was_used(used: dict[str, Any], shown: str, fake_runs: Any) -> None:
    run = Run(cell=find_table("table1").cells[0], seed=0)
    assert facts([fake_runs.record(run, execution_in_force=used)])["Precision"] == shown


def test_what_was_read_how_is_the_document_itself() -> None:
    found = chapters(reproducing_document())
    headings = [chapter.heading for chapter in found]
    assert {"The losses", "Networks", "Which epoch", "Seeds"} <= set(headings)
    assert "What the paper claims" not in headings
    tables = [chapter for chapter in found if chapter.heading.startswith("Table ")]
    assert len(tables) == 2
    # one place that a reader would look for, from the document's source to the page
    assert "<td>momentum, weight decay</td>" in tables[0].html
    assert any("momentum" in line for line in assumed_settings(reproducing_document()))


def test_the_document_cannot_bring_anything_foreign_into_the_page() -> None:
    (chapter,) = chapters("## X\n\n<script>alert(1)</script> [words](https://example.org) ![i](x.png)\n\n### Below\n")
    assert "<script" not in chapter.html
    assert "example.org" not in chapter.html
    assert "words" in chapter.html
    assert "<img" not in chapter.html
    assert "<h4>Below</h4>" in chapter.html
