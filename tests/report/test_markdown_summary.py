"""The Markdown summary: its headings are those that a challenge asks for, and nothing in it is invented."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from markdown_it import MarkdownIt

from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.report import render_markdown
from repro.report.contents import Report
from repro.report.markdown_summary import difficult, easy
from repro.results import Found


def test_it_has_the_parts_that_a_challenge_asks_for(report_of: Callable[..., Report]) -> None:
    text = render_markdown(report_of(), ["biasrepro report"])
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == [
        "Scope of reproducibility",
        "Methodology",
        "Results",
        "What was easy",
        "What was difficult",
        "Communication with the original authors",
        "How to reproduce this summary",
    ]
    assert text.count("> To be written by the people who ran it.") == 3


def test_without_runs_nothing_is_claimed(report_of: Callable[..., Report]) -> None:
    text = render_markdown(report_of(), ["biasrepro report"])
    assert "No verdict yet" in text
    assert easy(report_of()) == ["No completed run is recorded yet."]
    assert "160 planned runs of the paper's tables are not recorded." in difficult(report_of())


def test_ease_and_difficulty_are_facts_of_the_records(
    report_of: Callable[..., Report], some_found: list[Found]
) -> None:
    report = report_of(some_found, ["demo"])
    went_well, went_ill = " ".join(easy(report)), " ".join(difficult(report))
    count = len(report.records)
    assert f"{count - 1} of {count} completed runs ran without interruption" in went_well
    assert "No run diverged" not in went_well
    assert "1 record: diverged." in went_ill
    assert "resumed, 2 times" in went_ill
    assert "settings had to be assumed" in went_ill
    assert "momentum" in went_ill


def test_what_holds_of_no_run_is_not_called_easy(report_of: Callable[..., Report], fake_runs: Any) -> None:
    resumed = fake_runs.record(Run(cell=find_table("table1").cells[0], seed=0), resumptions=1)
    assert "without interruption" not in " ".join(easy(report_of([fake_runs.found(resumed)])))


def test_a_network_that_the_paper_does_not_print_has_no_number_of_the_paper(
    report_of: Callable[..., Report], fake_runs: Any
) -> None:
    table = find_table("table1_variants")
    text = render_markdown(report_of(fake_runs.of(table, range(3)), ["table1_variants"]), [])
    of_variants = text.partition("1.0x |")[0].rpartition("| Model |")[2]
    assert of_variants.startswith(" Loss | Ours (95% interval) | p |")


def test_every_table_in_it_is_one_to_a_reader_of_markdown(
    report_of: Callable[..., Report], some_found: list[Found]
) -> None:
    text = render_markdown(report_of(some_found, ["demo"]), ["biasrepro report"])
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    # claims; per paper's table its figures and its verdicts; the demo's figures
    assert sum(token.type == "table_open" for token in tokens) == 1 + 2 * 2 + 1
    assert not any(token.type == "html_block" for token in tokens)
    inline = [child for token in tokens for child in token.children or []]
    assert not any(child.type == "html_inline" for child in inline)
    assert "A demo, not a result of the paper" in text
