"""The Markdown: cells that stay cells, and text that stays text."""

from __future__ import annotations

import re

import pytest

from repro.experiment.config import find_table
from repro.tables import AssembledTable, assemble
from repro.tables.layout import parameter_count
from repro.tables.markdown_format import escape, render


def table_lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def test_every_line_has_as_many_cells_as_its_header(situation: tuple[str, list[AssembledTable]]) -> None:
    for table in situation[1]:
        lines = table_lines(render([table], "biasrepro table"))
        counts = {len(re.split(r"(?<!\\)\|", line)) for line in lines}
        assert counts == {len(table.columns) + 5}
        assert len({len(line) for line in lines}) == 1


def test_signs_are_shown_always_and_missing_is_an_en_dash() -> None:
    text = render([assemble(find_table("table2"), [])], "biasrepro table")
    assert "| 78.9 (+0.0) " in text
    assert "| 68.9 (−0.6) " in text
    assert re.search(r"\| ours +\| – +\| – +\| – ", text)


def test_the_papers_figures_stand_as_it_prints_them() -> None:
    lines = table_lines(render([assemble(find_table("table2"), [])], "biasrepro table"))
    printed = [[cell.strip().split(" (")[0] for cell in line.split("|")[3:-1]] for line in lines if "| paper" in line]
    assert printed == [
        ["1.4M", "69.5", "68.9", "70.2", "71"],
        ["2.6M", "68", "67.6", "68.1", "68.6"],
        ["5.3M", "77.2", "76.8", "77.8", "78"],
        ["1.25M", "69.4", "69", "69.5", "70.4"],
        ["7M", "78.9", "78.1", "78.9", "79.9"],
    ]


def test_a_network_of_few_parameters_shows_them_all() -> None:
    assert [parameter_count(count) for count in (251, 9_999, 10_000, 27_690_072)] == ["251", "9,999", "0.01M", "27.69M"]


@pytest.mark.parametrize("metric", ["last", "best"])
def test_the_epoch_reported_is_said(metric: str) -> None:
    text = render([assemble(find_table("table1"), [], metric="best" if metric == "best" else "last")], "")
    assert ("at the last epoch" in text) == (metric == "last")
    assert text.count("at the best epoch, selected on the test set") == (2 if metric == "best" else 0)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("demo", "A demo, not a result of the paper."),
        ("released", "Not a table of the paper."),
        ("table1_variants", "Not a table of the paper."),
        ("table1+recipe.epochs=3", "Modified protocol: `recipe.epochs=3`; not comparable with the paper."),
        (
            "demo+recipe.decay_epochs=[1]",
            "A demo, not a result of the paper. Modified protocol: `recipe.decay_epochs=[1]`. ",
        ),
    ],
)
def test_what_is_not_the_papers_table_says_so_first(reference: str, words: str) -> None:
    title = render([assemble(find_table(reference), [])], "").splitlines()[0]
    assert re.match(r"\*\*[^*]+\.\*\* " + re.escape(words), title)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a | b", r"a \| b"),
        ("*bold* _it_ a_b", r"\*bold\* \_it\_ a_b"),
        ("[x] <br>", r"\[x\] \<br>"),
        ("AT&T &amp; $x$", r"AT&T \&amp; \$x\$"),
        ("`a_b|*` *", r"`a_b|*` \*"),
        ("`a` ` *b* <br>", r"`a` \` \*b\* \<br>"),
    ],
)
def test_escaping(text: str, expected: str) -> None:
    assert escape(text) == expected


def test_a_users_titles_cannot_break_a_line_or_a_cell() -> None:
    table = find_table("table1")
    nasty = "a|b `c|d` ` \r\u2028 | [x] <!--"
    columns = tuple(column.model_copy(update={"title": nasty}) for column in table.columns)
    rows = tuple(row.model_copy(update={"title": nasty, "note": nasty}) for row in table.rows)
    changed = {"columns": columns, "rows": rows, "title": nasty, "label": nasty}
    text = render([assemble(table.model_copy(update=changed), [])], "biasrepro table")
    lines = table_lines(text)
    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {7}
    assert len(lines) == 2 + 3 * len(rows)
    assert "`" not in text
