"""Figures in line on the decimal point, the best in bold, and all losses in one tabular under one heading."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console

from repro.analysis.assessment import assess
from repro.cli.terminal_table import drawn
from repro.experiment.config import builtin_names, find_table
from repro.tables import RENDERERS, AssembledTable, Verdicts, assemble
from repro.tables.latex_figures import plain_figure, siunitx_column, siunitx_figure
from repro.tables.latex_format import render
from repro.tables.layout import Entry
from repro.tables.verdicts import with_verdicts


@pytest.mark.parametrize(
    ("entry", "plain", "siunitx"),
    [
        (Entry("51.9"), "51 & .9", "51.9 & "),
        (Entry("71"), "71 & ", "71 & "),
        (Entry("−0.61 ± 0.10"), r"$-$0 & .61\,$\pm$\,0.10", r"-0.61 & \,$\pm$\,\num{0.10}"),
        (Entry("52.8 (+0.9)"), "52 & .8 (+0.9)", r"52.8 & ~(\num{+0.9})"),
        (Entry("71 (+1.5)"), r"71 & \phantom{.0} (+1.5)", r"71 & ~(\num{+1.5})"),
        (Entry("<0.001"), r"\textless{}0 & .001", r"\multicolumn{2}{c}{\textless{}\num{0.001}}"),
        (Entry("+0.42 to +0.80"), "+0 & .42 to +0.80", r"+0.42 & ~to \num{+0.80}"),
        (Entry("–"), r"\multicolumn{2}{c}{--}", r"\multicolumn{2}{c}{--}"),
        (Entry(""), "&", "&"),
        (Entry("reproduced"), r"\multicolumn{2}{c}{reproduced}", r"\multicolumn{2}{c}{reproduced}"),
        (
            Entry("53.30 ± 0.22", 3, ("a",), best=True),
            r"\textbf{53} & \textbf{.30}\,$\pm$\,0.22\,{\scriptsize $n{=}3$}\textsuperscript{a}",
            r"\bfseries 53.30 & \,$\pm$\,\num{0.22}\,{\scriptsize $n{=}3$}\textsuperscript{a}",
        ),
    ],
)
def test_a_figure_is_two_cells(entry: Entry, plain: str, siunitx: str) -> None:
    assert plain_figure(entry, decimals=1) == plain
    assert siunitx_figure(entry) == siunitx


def test_an_s_column_is_as_wide_as_its_widest_number() -> None:
    assert siunitx_column([Entry("100"), Entry("9.75 ± 0.10"), Entry("–")]) == "S[table-format=3.2]@{}l"
    assert siunitx_column([Entry("9.7"), Entry("−0.10 ± 1.00")]) == "S[table-format=+1.2]@{}l"
    assert siunitx_column([Entry("–")]) == "S[table-format=1.0]@{}l"


def test_one_heading_spans_the_losses(fakes: ModuleType) -> None:
    table = find_table("table2")
    text = render([assemble(table, fakes.every_run(table, [0]))], "")
    assert text.count("Top-1") == 1
    assert r"& & & & \multicolumn{8}{c}{Top-1 (\%)} \\" in text
    assert r"\cmidrule(l){5-12}" in text


def judged(name: str, verdicts: Verdicts | None, fakes: Any) -> AssembledTable:
    table = find_table(name)
    found = fakes.of(table, range(3))
    shown = assemble(table, found)
    return with_verdicts(shown, assess([table], [one.record for one in found]), verdicts) if verdicts else shown


@pytest.mark.parametrize("name", builtin_names())
@pytest.mark.parametrize("compact", [False, True])
def test_all_losses_are_side_by_side_whatever_is_said_of_them(name: str, compact: bool, fake_runs: Any) -> None:
    for verdicts in (None, "words", "stars"):
        text = render([replace(judged(name, verdicts, fake_runs), compact=compact, bold_best=True)], "")
        assert text.count(r"\begin{tabular}") == text.count(r"\begin{table*}")


def test_an_interval_that_is_too_wide_takes_two_lines(fake_runs: Any) -> None:
    shown = judged("tiny20", "words", fake_runs)
    heading = shown.columns[-1]
    wide = [replace(heading, id=f"c{index}") for index in range(2)]
    rows = tuple(replace(row, cells=(*row.cells, *(row.cells[-1] for _ in wide))) for row in shown.rows)
    one, two = (render([table], "") for table in (shown, replace(shown, columns=(*shown.columns, *wide), rows=rows)))
    assert re.search(r"& 95\\% & & & & & [^&]+ & \.\d\d to [^&]+ &", one)
    assert re.search(r"& 95\\% & & & & & [^&]+ & \.\d\d &.*\n    & to & & & & & [^&]+ & \.\d\d &", two)


def bold(text: str, pattern: str) -> list[str]:
    return [found.replace("} & \\textbf{", "") for found in re.findall(pattern, text)]


@pytest.fixture
def two_losses(fakes: ModuleType) -> Callable[..., AssembledTable]:
    """A row of Table 1 with these accuracies, two seeds each."""

    def make(cross_entropy: tuple[float, float], bias: tuple[float, float]) -> AssembledTable:
        table = find_table("table1")
        row = table.rows[0].id
        records = [
            fakes.found(fakes.fake_record(fakes.run_of(table, row, column, seed), last_top1_percent=top1))
            for column, values in (("ce", cross_entropy), ("bias", bias))
            for seed, top1 in enumerate(values)
        ]
        shown = assemble(table, records)
        return replace(shown, rows=shown.rows[:1], bold_best=True)

    return make


BOLD = {"markdown": r"\*\*([\d.]+)\*\*", "html": r"<b>([\d.]+)</b>", "latex": r"\\textbf\{(\d+\} & \\textbf\{\.\d+)\}"}


@pytest.mark.parametrize("format_name", BOLD)
def test_the_best_of_each_line_is_bold(two_losses: Callable[..., AssembledTable], format_name: str) -> None:
    text = RENDERERS[format_name]([two_losses((50.0, 51.0), (49.0, 50.0))], "")
    assert bold(text, BOLD[format_name]) == ["52.8", "50.50"]  # the paper's and ours
    assert "Bold: the highest accuracy of its line" in text
    plain = RENDERERS[format_name]([replace(two_losses((50.0, 51.0), (49.0, 50.0)), bold_best=False)], "")
    assert bold(plain, BOLD[format_name]) == []
    compact = RENDERERS[format_name]([replace(two_losses((50.0, 51.0), (49.0, 50.0)), compact=True)], "")
    assert bold(compact, BOLD[format_name]) == ["50.50"]


def test_equal_accuracies_are_both_bold_and_a_lone_one_is_not(
    two_losses: Callable[..., AssembledTable], fakes: ModuleType
) -> None:
    both = RENDERERS["markdown"]([two_losses((50.0, 51.0), (50.001, 51.001))], "")
    assert bold(both, BOLD["markdown"]) == ["52.8", "50.50", "50.50"]
    table = find_table("table1")
    alone = [one for one in fakes.every_run(table, [0]) if one.record.column == "ce"]
    shown = replace(assemble(table, alone), bold_best=True)
    assert "52.46" not in bold(RENDERERS["markdown"]([shown], ""), BOLD["markdown"])


def test_the_best_is_bold_on_a_terminal_too(two_losses: Callable[..., AssembledTable]) -> None:
    for width in (60, 200):  # a loss a line, and side by side
        terminal = Console(width=width, force_terminal=True, color_system="standard", file=StringIO())
        terminal.print(drawn([two_losses((50.0, 51.0), (49.0, 50.0))], width))
        assert isinstance(terminal.file, StringIO)
        assert sorted(re.findall(r"\x1b\[1m([\d.]+)\x1b", terminal.file.getvalue())) == ["50.50", "52.8"]
