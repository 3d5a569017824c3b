r"""A table as a LaTeX ``table*`` that needs booktabs and nothing else, ready to ``\input``; siunitx is optional.

Figures stand in line on the decimal point, under one heading, in one tabular if that is possible.

The output is ASCII, so that it compiles under every engine and input encoding.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest

from repro.tables.latex_figures import CELLS, PLAIN, SIUNITX, Style, decimals_by_line, marks_text, spanning
from repro.tables.latex_fitting import Model, fit
from repro.tables.latex_text import escape, plain_text, wrapped
from repro.tables.layout import (
    FIGURE_HEADING,
    INTERVAL,
    Block,
    Entry,
    Line,
    blocks,
    caption,
    label,
    usual_number_of_seeds,
)
from repro.tables.legend import legend
from repro.tables.structure import AssembledTable

_LEFT = "ll" + PLAIN.column(())  # model, label, parameters
# Where figures go onto a further line, more and more until all columns stand side by side: intervals and what a verdict
# adds; in a compact table the difference, then also what is said of it.
_NOWHERE = re.compile(r"(?!)")
_BREAKS = (_NOWHERE, re.compile(r" to | (?=with )"))
_COMPACT_BREAKS = (_NOWHERE, re.compile(r" (?=\()"), re.compile(r" (?=\()|(?<=,) "))
_TITLE_WIDTH = 24
_HEADING_WIDTH = 16


def render(tables: Sequence[AssembledTable], command: str, *, siunitx: bool = False) -> str:
    r"""All tables, each in its own environment, with comments on how it was produced.

    With ``siunitx`` figures are in S columns, formatted by the document's ``\sisetup``.
    """
    return "\n".join(_environment(table, command, SIUNITX if siunitx else PLAIN) for table in tables)


def _environment(table: AssembledTable, command: str, style: Style) -> str:
    usual_n = usual_number_of_seeds(table)
    body = blocks(table, usual_n=usual_n, p_apart=True)
    headings = [wrapped(heading.title, _HEADING_WIDTH) for heading in table.columns]
    for breaks in _COMPACT_BREAKS if table.compact else _BREAKS:
        models = [(_broken(block, breaks), wrapped(block.title, _TITLE_WIDTH)) for block in body]
        fitting = fit(models, headings)
        if len(fitting.panels) == 1:
            break
    is_printed = table.kind == "paper" and table.comparable
    heading = caption(table) if is_printed else f"{label(table)}. {caption(table)}"
    notes = _notes(table, usual_n)
    pages = fitting.pages(models, 1 + max(map(len, headings)), len(notes) + len(heading) // 90)
    lines = [*_comments(table, command), rf"% needs: \usepackage{{{style.packages}}}"]
    if len(pages) > 1:
        lines.append(f"% too long for a page: {len(pages)} floats with one number")
    titles = [[rf"  \caption{{{escape(heading)}}}", rf"  \label{{tab:{_anchor(table)}}}", r"  \medskip"]]
    titles += [[r"  \tablename~\thetable{} (continued)\par\medskip"]] * (len(pages) - 1)
    for title, page in zip(titles, pages, strict=True):
        lines += [
            r"\begin{table*}",
            r"  \centering",
            *style.setup,
            *title,
            rf"  {fitting.size}",
            rf"  \setlength{{\tabcolsep}}{{{fitting.separation_points:g}pt}}",
        ]
        for panel in fitting.panels:
            lines += [*_tabular(models, page, headings, panel, style), r"  \par\smallskip"]
        lines += [*(notes if page is pages[-1] else []), r"\end{table*}", ""]
    return "\n".join(lines)


def _anchor(table: AssembledTable) -> str:
    """What the label of a table is called: no two tables, and no two views of one, share it."""
    anchor = re.sub(r"[^A-Za-z0-9.]+", "-", table.id)
    if anchor != table.id:
        anchor += f"-{hashlib.sha256(table.id.encode(errors='replace')).hexdigest()[:6]}"
    looks = {"best": table.metric == "best", "compact": table.compact, "bold": table.bold_best}
    views = (*(name for name, chosen in looks.items() if chosen), table.verdicts or "")
    return "-".join(filter(None, (anchor, *views)))


def _comments(table: AssembledTable, command: str) -> list[str]:
    """How the numbers were produced, as LaTeX comments."""
    recorded = f"% {_ascii(table.id)}: {table.recorded_runs} of {table.planned_runs} runs recorded"
    reasons = Counter(record.why for record in table.left_out)
    if reasons:
        recorded += f"; left out of every mean: {', '.join(f'{count} {why}' for why, count in reasons.items())}"
    return [recorded, f"% produced by: {_ascii(command)}"] if command else [recorded]


def _broken(block: Block, breaks: re.Pattern[str]) -> Block:
    """``block`` with its figures over several lines: the first parts, the second parts, and so on."""
    lines = []
    for line in block.lines:
        parts = [breaks.split(entry.figure) for entry in line.entries]
        for index, texts in enumerate(zip_longest(*parts, fillvalue="")):
            label = line.label if index == 0 else "to" if line.label == INTERVAL else ""
            if index == 0:
                entries = [replace(entry, figure=text) for entry, text in zip(line.entries, texts, strict=True)]
            else:
                entries = [Entry(text) for text in texts]
            lines.append(Line(label, line.parameters if index == 0 else "", tuple(entries)))
    return replace(block, lines=tuple(lines))


def _tabular(
    models: Sequence[Model], page: slice, headings: Sequence[Sequence[str]], panel: slice, style: Style
) -> Iterator[str]:
    """The lines of a page's models under the columns of one panel."""
    columns = zip(*(line.entries[panel] for block, _ in models for line in block.lines), strict=True)
    specification = "".join(map(style.column, columns))
    yield rf"  \begin{{tabular}}{{@{{}}{_LEFT}{specification}@{{}}}}"
    yield r"    \toprule"
    yield from _head(headings[panel])
    yield r"    \midrule"
    decimals = decimals_by_line(block for block, _ in models)
    for index, (block, title) in enumerate(models[page]):
        if index:
            yield r"    \addlinespace"
        yield from _block(block, title, panel, style, decimals)
    yield r"    \bottomrule"
    yield r"  \end{tabular}"


def _head(headings: Sequence[Sequence[str]]) -> Iterator[str]:
    """One heading over all losses, a rule below it, and the losses."""
    first, cells = 3 + CELLS, CELLS * len(headings)
    yield _row(["", "", "&", rf"\multicolumn{{{cells}}}{{c}}{{{plain_text(FIGURE_HEADING)}}}"])
    yield rf"    \cmidrule(l){{{first}-{first + cells - 1}}}"
    height = max(map(len, headings))
    for index in range(height):
        left = ["Model", "", spanning("Parameters")] if index == height - 1 else ["", "", "&"]
        texts = (lines[index - height + len(lines)] if index >= height - len(lines) else "" for lines in headings)
        yield _row([*left, *(spanning(plain_text(text)) for text in texts)])


def _block(
    block: Block, title_lines: Sequence[str], panel: slice, style: Style, decimals: Mapping[str, int]
) -> Iterator[str]:
    """A model's lines, with its title running down beside them."""
    title = [plain_text(text) for text in title_lines]
    title[-1] += marks_text(block.marks)
    indent = r"\quad " if block.variant else ""
    blank = Line("", "", (Entry(""),) * len(block.lines[0].entries))
    for text, line in zip_longest(title, block.lines):
        line = line or blank
        figures = (style.figure(figure, decimals.get(line.label, 0)) for figure in line.entries[panel])
        parameters = PLAIN.figure(Entry(line.parameters), 0)
        yield _row([indent + text if text else "", plain_text(line.label), parameters, *figures])


def _notes(table: AssembledTable, usual_n: int | None) -> list[str]:
    texts = [escape(text) for text in legend(table, usual_n=usual_n, p_apart=not table.compact)]
    paragraphs = [" ".join(texts), " ".join(escape(f"{heading}: {text}.") for heading, text in table.configuration)]
    for note in table.notes:
        mark = marks_text((note.mark,)) + r"\," if note.mark else ""
        paragraphs.append(mark + escape(note.text))
    filled = (textwrap.fill(text, 106, break_long_words=False, break_on_hyphens=False) for text in paragraphs)
    body = textwrap.indent("\n\\par\n".join(filled), "    ")
    return [r"  \parbox{0.94\linewidth}{\scriptsize\raggedright", body, "  }"]


def _row(texts: Iterable[str]) -> str:
    return f"    {' & '.join(texts)} \\\\".replace("  &", " &")


def _ascii(text: str) -> str:
    """A comment's text: nothing in it may end the line or need an encoding."""
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())
