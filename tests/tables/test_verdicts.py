"""Tables that carry their verdicts, in every format: against files that a person has looked at, and by rule.

``BIASREPRO_UPDATE_GOLDEN=1 pytest tests/tables/test_verdicts.py`` writes the files anew: look at the difference before
it is committed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from repro.analysis.assessment import assess
from repro.analysis.preregistration import draw_up
from repro.analysis.stats.alpha_spending import Looks
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.tables import RENDERERS, SUFFIXES, AssembledTable, Verdicts, assemble
from repro.tables import latex_format as latex
from repro.tables.structure import Judgement
from repro.tables.verdicts import stars, with_verdicts

_FLOAT = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
GOLDEN = Path(__file__).parent / "golden"
SUFFIX = {name: suffix for suffix, name in SUFFIXES.items()}
SHAPES: dict[str, tuple[str, Verdicts | None, bool]] = {
    "all_words": ("all", "words", False),
    "all_stars": ("all", "stars", False),
    "some_words": ("some", "words", False),
    "compact": ("some", None, True),
    "compact_stars": ("all", "stars", True),
    "compact_words": ("some", "words", True),
}


@pytest.fixture(scope="module")
def shaped(fakes: ModuleType) -> Callable[[str], list[AssembledTable]]:
    """Both tables of the paper with all or some of their runs, in one of the shapes above."""

    def make(shape: str) -> list[AssembledTable]:
        which, verdicts, compact = SHAPES[shape]
        tables = [find_table("table1"), find_table("table2")]
        runs = fakes.some_runs if which == "some" else lambda table: fakes.every_run(table, range(5))
        found = [one for table in tables for one in runs(table)]
        assessment = assess(tables, [one.record for one in found])
        shown = [assemble(table, found) for table in tables]
        if verdicts:
            shown = [with_verdicts(one, assessment, verdicts) for one in shown]
        return [replace(one, compact=compact) for one in shown]

    return make


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("format_name", RENDERERS)
def test_output_is_what_was_looked_at(
    shaped: Callable[[str], list[AssembledTable]], shape: str, format_name: str
) -> None:
    compare(f"{shape}{SUFFIX[format_name]}", RENDERERS[format_name](shaped(shape), "biasrepro table"))


def test_siunitx_output_is_what_was_looked_at(shaped: Callable[[str], list[AssembledTable]]) -> None:
    compare("siunitx.tex", latex.render(shaped("all_stars"), "biasrepro table --siunitx", siunitx=True))


def compare(name: str, text: str) -> None:
    golden = GOLDEN / name
    if os.environ.get("BIASREPRO_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    looked_at = golden.read_text(encoding="utf-8")
    if golden.suffix == ".json":  # processors differ in the last digits of a p-value
        text, looked_at = (_FLOAT.sub(lambda found: f"{float(found[0]):.8e}", one) for one in (text, looked_at))
    assert text == looked_at


@pytest.mark.parametrize(
    ("p", "expected"),
    [(None, ""), (1.0, ""), (0.05, ""), (0.0499, "*"), (0.01, "*"), (0.0099, "**"), (0.001, "**"), (0.0009, "***")],
)
def test_stars_stand_for_p_after_holm(p: float | None, expected: str) -> None:
    assert stars(Judgement("partly", p, None, None)) == expected


def test_below_three_seeds_there_is_neither_star_nor_p(fakes: ModuleType) -> None:
    table = find_table("table1")
    found = fakes.every_run(table, range(2))
    shown = with_verdicts(assemble(table, found), assess([table], [one.record for one in found]), "stars")
    cells = json.loads(RENDERERS["json"]([shown], ""))["tables"][0]["rows"][0]["cells"]
    assert cells[0]["judgement"] is None
    assert cells[1]["judgement"]["p_adjusted"] is None
    assert cells[1]["judgement"]["interval_points"] is None
    assert cells[1]["judgement"]["verdict"] == "undecided"
    assert "*" not in RENDERERS["markdown"]([shown], "").partition("\n- ")[0].replace("**Table 1.**", "")


def test_a_demo_has_differences_and_no_verdict(fakes: ModuleType) -> None:
    table = find_table("demo")
    found = fakes.every_run(table, range(3))
    shown = with_verdicts(assemble(table, found), assess([table], [one.record for one in found]), "words")
    cells = [cell for row in shown.rows for cell in row.cells if cell.judgement]
    assert len(cells) == 3
    assert {cell.judgement.verdict for cell in cells if cell.judgement} == {None}


def test_a_variant_is_judged_by_the_row_that_it_stands_beside(fakes: ModuleType) -> None:
    table = find_table("table2")
    variants = [find_table("table2_variants")]
    found = [one for variant in variants for one in fakes.every_run(variant, range(3))]
    shown = assemble(table, found, variants=variants)
    judged = with_verdicts(shown, assess([table, *variants], [one.record for one in found]), "words")
    words = {row.id: [cell.judgement.verdict for cell in row.cells if cell.judgement] for row in judged.rows}
    assert len(words["mobilenetv2_x1_0"]) == 3
    assert all(words["mobilenetv2_x1_0"])
    assert words["mobilenetv2"] == [None, None, None]  # printed, and not run


def test_between_two_analyses_the_difference_is_that_of_the_verdict_beside_it(fakes: ModuleType) -> None:
    table = find_table("table1")
    found = fakes.every_run(table, range(7))
    looks = {table.id: draw_up(table, Looks((5, 10)))}
    assessment = assess([table], [one.record for one in found], looks=looks)
    judged = with_verdicts(assemble(table, found), assessment, "words")
    for row in judged.rows:
        cell = row.cells[1]
        assert cell.ours is not None
        assert cell.delta is not None
        assert cell.judgement is not None
        assert cell.judgement.interval_points is not None
        assert (cell.ours.n, cell.delta.n) == (7, 5)
        low, high = cell.judgement.interval_points
        assert cell.delta.mean == pytest.approx((low + high) / 2)


def test_the_stars_say_which_test_theirs_is(fakes: ModuleType) -> None:
    table = find_table("table1")
    rows = [row for row in table.rows if row.id in ("resnet18", "efficientnet_b4")]
    table = table.model_copy(update={"rows": tuple(rows)})

    def said(change: Callable[[str], float]) -> str:
        found = []
        for run in (Run(cell=cell, seed=seed) for cell in table.cells for seed in range(6)):
            top1 = 60.0 + (change(run.cell.row.id) if run.cell.column.id == "bias" else 0.0) + 0.01 * (run.seed % 3)
            record = fakes.fake_record(run)
            found.append(fakes.found(record.model_copy(update={"last_top1_percent": top1})))
        judged = with_verdicts(assemble(table, found), assess([table], [one.record for one in found]), "stars")
        return RENDERERS["markdown"]([judged], "").partition("0.001 (")[2]

    as_printed = {"resnet18": 1.1, "efficientnet_b4": -0.8}
    usual, opposite = said(as_printed.__getitem__), said(lambda row: -as_printed[row])
    assert usual.startswith("one-sided t-test in the printed direction")
    assert "the other way" not in usual
    assert "; where ours is shown to go the other way, in that direction)" in opposite
    assert "two-sided" not in usual + opposite


def test_every_figure_is_a_number_of_siunitx(shaped: Callable[[str], list[AssembledTable]]) -> None:
    plain = latex.render(shaped("all_stars"), "")
    numbered = latex.render(shaped("all_stars"), "", siunitx=True)
    assert r"\num{" not in plain
    assert "siunitx" not in plain
    assert r"\usepackage{booktabs, siunitx}" in numbered
    assert "S[table-format=+2.2]" in numbered
    body = numbered.partition(r"\midrule")[2].partition(r"\bottomrule")[0]
    beside = [cell for line in body.splitlines() for cell in line.split("&")[5::2]]
    assert any(re.fullmatch(r" \\,\$\\pm\$\\,\\num\{\d\.\d\d\} (\\\\)?", cell) for cell in beside)
    without = (re.sub(r"\\num\{[^}]*\}|\\,\{\\scriptsize[^}]*\}[^}]*\}", "", cell) for cell in beside)
    assert [cell for cell in without if re.search(r"\d", cell)] == []


DOCUMENT = r"""\documentclass[10pt,twocolumn,a4paper]{article}
\usepackage{booktabs}
%s
\begin{document}
\input{tables}
\end{document}
"""


def typeset(folder: Path, text: str, preamble: str = "") -> str:
    """Compile as an author would; the log."""
    (folder / "tables.tex").write_text(text, encoding="ascii")
    (folder / "paper.tex").write_text(DOCUMENT.replace("%s", preamble), encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    log = (folder / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-3000:]
    return log


@pytest.mark.tex
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here (Debian: texlive-latex-base)")
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_compiles_without_an_overfull_box(
    shaped: Callable[[str], list[AssembledTable]], shape: str, tmp_path: Path
) -> None:
    assert "Overfull" not in typeset(tmp_path, latex.render(shaped(shape), "biasrepro table"))


def has_siunitx() -> bool:
    found = shutil.which("kpsewhich") and subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False)
    return bool(found and found.returncode == 0 and shutil.which("pdflatex"))


@pytest.mark.tex
@pytest.mark.skipif(not has_siunitx(), reason="no siunitx here (Debian: texlive-science)")
def test_siunitx_sets_its_numbers(shaped: Callable[[str], list[AssembledTable]], tmp_path: Path) -> None:
    text = latex.render(shaped("all_stars"), "biasrepro table", siunitx=True)
    log = typeset(tmp_path, text, r"\usepackage{siunitx}")
    assert "Overfull" not in log
    assert "siunitx Warning" not in log
