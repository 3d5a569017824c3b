r"""The LaTeX: ASCII, booktabs alone, and a page that a real TeX sets without an overfull box."""

from __future__ import annotations

import re
import shutil
import subprocess
import unicodedata
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from repro.analysis.evidence import variants_of
from repro.experiment.config import find_table
from repro.experiment.schema import Column, Table
from repro.tables import AssembledTable, assemble
from repro.tables.latex_format import render
from repro.tables.latex_text import escape

DOCUMENT = r"""\documentclass[10pt,twocolumn,a4paper]{article}
\usepackage{booktabs}
\begin{document}
\input{tables}
\end{document}
"""
HOSTILE = r"50% of $x_1$ & {all} #2 ~ ^ \input <|> -- --- ”naïve“ Łódź Ünal 中文 🙂 α ± † x̂ `code_%` "


def crowded(fakes: ModuleType) -> AssembledTable:
    """The widest cells there can be: other numbers of seeds of two digits, and three notes on every one."""
    table = find_table("table2")
    other = table.model_copy(update={"recipe": table.recipe.model_copy(update={"weight_decay": 0.5})})
    found = []
    for index, cell in enumerate(table.cells):
        seeds = range(10 + index % 4)
        found += [
            fakes.found(fakes.fake_record(fakes.run_of(table, cell.row.id, cell.column.id, seed))) for seed in seeds
        ]
        run, foreign = (fakes.run_of(one, cell.row.id, cell.column.id, 50) for one in (table, other))
        found.append(fakes.found(fakes.fake_record(run, status="diverged", reason="nan")))
        found.append(fakes.found(fakes.fake_record(foreign)))
        found.append(fakes.unusable(run, "the seal is broken"))
    variants = variants_of(table)
    found += [one for variant in variants for one in fakes.every_run(variant, range(3))]
    return assemble(table, found, variants=variants)


def hostile(fakes: ModuleType) -> AssembledTable:
    """Seven losses, and titles that TeX, Markdown and HTML would each read as something else."""
    table = find_table("table2")
    losses = tuple(
        Column(id=f"c{i}", title=f"{HOSTILE * 2}{i}", loss="bias", weighting=None) for i in range(len(table.columns), 7)
    )
    rows = tuple(row.model_copy(update={"title": HOSTILE * 3, "note": HOSTILE + "long" * 40}) for row in table.rows[:2])
    changed = {"columns": table.columns + losses, "rows": rows, "title": HOSTILE, "kind": "study", "table": "x_y"}
    hostile_table: Table = table.model_copy(update=changed)
    return assemble(hostile_table, fakes.every_run(hostile_table, range(2)))


def typeset(folder: Path, text: str, document: str = DOCUMENT) -> str:
    """Compile as an author would; the log."""
    (folder / "tables.tex").write_text(text, encoding="ascii")
    (folder / "paper.tex").write_text(document, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, check=False)
    log = (folder / "paper.log").read_text(encoding="utf-8", errors="replace")
    assert done.returncode == 0, log[-3000:]
    return log + done.stderr.decode(errors="replace")


@pytest.fixture
def tex() -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex here (Debian: texlive-latex-base, texlive-latex-recommended)")


@pytest.mark.tex
@pytest.mark.usefixtures("tex")
def test_every_situation_compiles_without_an_overfull_box(
    situation: tuple[str, list[AssembledTable]], tmp_path: Path
) -> None:
    log = typeset(tmp_path, render(situation[1], "biasrepro table"))
    assert "Overfull" not in log
    assert not re.search(r"mktexpk|Missing character|undefined", log)


@pytest.mark.tex
@pytest.mark.usefixtures("tex")
@pytest.mark.parametrize("case", [crowded, hostile])
def test_the_worst_compiles_too(fakes: ModuleType, case: object, tmp_path: Path) -> None:
    assert callable(case)
    log = typeset(tmp_path, render([case(fakes)], "biasrepro table"))
    assert "Overfull" not in log


@pytest.mark.tex
@pytest.mark.usefixtures("tex")
def test_it_compiles_in_one_column_and_with_a_list_of_tables(fakes: ModuleType, tmp_path: Path) -> None:
    document = DOCUMENT.replace("twocolumn,", "").replace(r"\input", "\\listoftables\n\\input")
    modified = find_table("table1+dataset.classes=20")
    text = render([assemble(modified, fakes.every_run(modified, [0]))], "biasrepro table")
    for _ in range(2):  # the list is read back the second time
        typeset(tmp_path, text, document)


# The letters of the European languages that are written in Latin script, and what else titles have.
LETTERS = "àáâãäåąāăæçćčďđðéèêëęěēėğģíìîïįīıķłļľĺñńňņŋóòôõöøőōœŕřŗśšşșßţťțþúùûüůűųūýÿźżžẃŵŷħ"
OTHERS = "αβγδεζηθικλμνξοπρσςτυφχψω ΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡΣΤΥΦΧΨΩ άέήίόύώϊΰ →←↑↓↔⇒⇐⇔ ⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ ₀₁₂₃₉ ½ ™ ∞ ≈ ≠"


def test_letters_and_signs_have_commands() -> None:
    assert "[U+" not in escape(f"{LETTERS}{LETTERS.upper()}{OTHERS}")
    assert escape(unicodedata.normalize("NFD", LETTERS)) == escape(LETTERS)


@pytest.mark.tex
@pytest.mark.usefixtures("tex")
def test_letters_and_signs_compile_everywhere(tmp_path: Path) -> None:
    text = escape(f"{LETTERS} {LETTERS.upper()} {OTHERS} 中文 `{LETTERS} {OTHERS}`")
    document = DOCUMENT.replace(r"\input", "\\listoftables\n\\input")
    for _ in range(2):
        log = typeset(tmp_path, rf"\begin{{table}}\caption{{{text}}}\end{{table}}", document)
    assert not re.search(r"mktexpk|Missing character|undefined", log)


def long_table(count: int) -> AssembledTable:
    table = find_table("table2")
    rows = tuple(table.rows[i % 5].model_copy(update={"id": f"r{i}"}) for i in range(count))
    return assemble(table.model_copy(update={"rows": rows}), [])


@pytest.mark.tex
@pytest.mark.usefixtures("tex")
@pytest.mark.parametrize("crowd", [False, True])
def test_a_long_table_goes_onto_as_many_pages_as_it_takes(tmp_path: Path, crowd: bool) -> None:
    table = long_table(45)
    columns = tuple(table.columns[0] for _ in range(9)) if crowd else table.columns
    if crowd:
        rows = [replace(row, cells=tuple(row.cells[0] for _ in columns)) for row in table.rows]
        table = replace(table, columns=columns, rows=tuple(rows))
    text = render([table], "biasrepro table")
    floats = text.count(r"\begin{table*}")
    assert floats > 2
    assert f"% too long for a page: {floats} floats with one number" in text
    assert text.count(r"\caption") == text.count(r"\label") == 1
    assert text.count(r"(continued)") == floats - 1
    for document in (DOCUMENT, DOCUMENT.replace("a4paper", "letterpaper")):
        log = typeset(tmp_path, text, document)
        assert "Float too large" not in log
        assert "Overfull" not in log or "letterpaper" in document


def test_a_table_that_fits_a_page_is_one_float() -> None:
    assert render([long_table(10)], "").count(r"\begin{table*}") == 1


def test_no_two_tables_share_a_label() -> None:
    table = assemble(find_table("table1"), [])
    ids = ["table1", "a_b", "a-b", "a+b", "table1+recipe.epochs=2", "table1-recipe.epochs-2"]
    views = [table, replace(table, compact=True), replace(table, metric="best"), replace(table, verdicts="stars")]
    text = render([replace(view, id=name) for name in ids for view in views], "")
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert len(set(labels)) == len(ids) * len(views)


def test_it_is_ascii_with_balanced_braces_and_one_anchor_a_table(situation: tuple[str, list[AssembledTable]]) -> None:
    name, tables = situation
    text = render(tables, f"biasrepro table --results ergebnisse/ä\n\\end{{document}} {name}")
    assert text.isascii()
    assert text.count(r"\begin{table*}") == text.count(r"\end{table*}") == len(tables)
    assert len(set(re.findall(r"\\label\{(tab:[A-Za-z0-9.-]+)\}", text))) == len(tables)
    assert not re.search(r"^\\end\{document\}", text, re.MULTILINE)
    bare = re.sub(r"\\[{}]|^%.*$", "", text, flags=re.MULTILINE)
    assert bare.count("{") == bare.count("}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100% & a_b #1", r"100\% \& a\_b \#1"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("−0.61 ± 0.10", r"$-$0.61 $\pm$ 0.10"),
        ("–", "--"),
        ("[a] *", "{[}a] {*}"),
        ("a -- b", r"a -\allowbreak{}- b"),
        ("naïve", r"na\"{i}ve"),
        ("中", r"{[U+4E2D]}\allowbreak{}"),
        ("e\u0301 x\u0302", r"\'{e} \^{x}"),
        ("α Ω ά Αο", r"$\alpha$ $\Omega$ $\acute{\alpha}$ Ao"),
        ("a → b ⇔ c", r"a $\to$ b $\Leftrightarrow$ c"),
        ("10⁻³ x₂ ™ ½", r"10\textsuperscript{$-$}\textsuperscript{3} x\textsubscript{2} \textsuperscript{TM} {1/2}"),
        ("Łódź ő ş ğ İ ř ů œ", r"\L{}\'{o}d\'{z} \H{o} \c{s} \u{g} \.{I} \v{r} \r{u} \oe{}"),
        ("q\u0337", r"q{[U+0337]}\allowbreak{}"),
        ("ϔ", r"{[U+03D4]}\allowbreak{}"),
        ("`ź`", r"\texttt{\textrm{\'{z}}}"),
        ("` a_b", r"\`{} a\_b"),
        ("`a/b_c`", r"\texttt{a/\allowbreak{}b\_\allowbreak{}c}"),
    ],
)
def test_escaping(text: str, expected: str) -> None:
    assert escape(text) == expected
