r"""A table as a LaTeX ``table*`` that needs booktabs and nothing else, ready to ``\input``; siunitx is optional.

The output is ASCII, so that it compiles under every engine and input encoding.
"""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest

from repro.tables.latex_fitting import Model, fit
from repro.tables.latex_text import escape, plain_text, wrapped
from repro.tables.layout import (
    FIGURE_HEADING,
    Block,
    Entry,
    Line,
    blocks,
    caption,
    label,
    legend,
    usual_number_of_seeds,
)
from repro.tables.structure import AssembledTable
from repro.wording import MINUS

_SISETUP = r"  \sisetup{separate-uncertainty = true, retain-explicit-plus = true}"
_FIGURE = re.compile(rf"([+{MINUS}]?\d+(?:\.\d+)?(?: ± \d+(?:\.\d+)?)?)")
_TITLE_WIDTH = 24
_HEADING_WIDTH = 16


def render(tables: Sequence[AssembledTable], command: str, *, siunitx: bool = False) -> str:
    r"""All tables, each in its own environment, with comments on how it was produced.

    With ``siunitx`` every number is a ``\num``, formatted by the document's ``\sisetup``.
    """
    return "\n".join(_environment(table, command, _num_entry if siunitx else _entry) for table in tables)


def _environment(table: AssembledTable, command: str, entry: Callable[[Entry], str]) -> str:
    usual_n = usual_number_of_seeds(table)
    body = blocks(table, usual_n=usual_n)
    models = [(block, wrapped(block.title, _TITLE_WIDTH)) for block in body]
    headings = [[FIGURE_HEADING, *wrapped(heading.title, _HEADING_WIDTH)] for heading in table.columns]
    fitting = fit(models, headings)
    is_printed = table.kind == "paper" and table.comparable
    heading = caption(table) if is_printed else f"{label(table)}. {caption(table)}"
    packages, setup = ("booktabs, siunitx", [_SISETUP]) if entry is _num_entry else ("booktabs", [])
    notes = _notes(table, usual_n)
    pages = fitting.pages(models, max(map(len, headings)), len(notes) + len(heading) // 90)
    lines = [*_comments(table, command), rf"% needs: \usepackage{{{packages}}}"]
    if len(pages) > 1:
        lines.append(f"% too long for a page: {len(pages)} floats with one number")
    titles = [[rf"  \caption{{{escape(heading)}}}", rf"  \label{{tab:{_anchor(table)}}}", r"  \medskip"]]
    titles += [[r"  \tablename~\thetable{} (continued)\par\medskip"]] * (len(pages) - 1)
    for title, page in zip(titles, pages, strict=True):
        lines += [
            r"\begin{table*}",
            r"  \centering",
            *setup,
            *title,
            rf"  {fitting.size}",
            rf"  \setlength{{\tabcolsep}}{{{fitting.separation_points:g}pt}}",
        ]
        for panel in fitting.panels:
            lines += [*_tabular(models[page], headings, panel, entry), r"  \par\smallskip"]
        lines += [*(notes if page is pages[-1] else []), r"\end{table*}", ""]
    return "\n".join(lines)


def _anchor(table: AssembledTable) -> str:
    """What the label of a table is called: no two tables, and no two views of one, share it."""
    anchor = re.sub(r"[^A-Za-z0-9.]+", "-", table.id)
    if anchor != table.id:
        anchor += f"-{hashlib.sha256(table.id.encode(errors='replace')).hexdigest()[:6]}"
    views = ("best" if table.metric == "best" else "", "compact" if table.compact else "", table.verdicts or "")
    return "-".join(filter(None, (anchor, *views)))


def _comments(table: AssembledTable, command: str) -> list[str]:
    """How the numbers were produced, as LaTeX comments."""
    recorded = f"% {_ascii(table.id)}: {table.recorded_runs} of {table.planned_runs} runs recorded"
    reasons = Counter(record.why for record in table.left_out)
    if reasons:
        recorded += f"; left out of every mean: {', '.join(f'{count} {why}' for why, count in reasons.items())}"
    return [recorded, f"% produced by: {_ascii(command)}"]


def _tabular(
    models: Sequence[Model], headings: Sequence[Sequence[str]], panel: slice, entry: Callable[[Entry], str]
) -> Iterator[str]:
    """The models' lines under the columns of one panel."""
    columns = [["Model"], [""], ["Parameters"], *headings[panel]]
    height = max(map(len, columns))
    stacked = [[*[""] * (height - len(lines)), *lines] for lines in columns]
    yield rf"  \begin{{tabular}}{{@{{}}{'l' * len(columns)}@{{}}}}"
    yield r"    \toprule"
    for texts in zip(*stacked, strict=True):
        yield _row(map(plain_text, texts))
    yield r"    \midrule"
    for index, (block, title) in enumerate(models):
        if index:
            yield r"    \addlinespace"
        yield from _block(block, title, panel, entry)
    yield r"    \bottomrule"
    yield r"  \end{tabular}"


def _block(block: Block, title_lines: Sequence[str], panel: slice, entry: Callable[[Entry], str]) -> Iterator[str]:
    """A model's lines, with its title running down beside them."""
    title = [plain_text(text) for text in title_lines]
    title[-1] += _marks(block.marks)
    indent = r"\quad " if block.variant else ""
    blank = Line("", "", (Entry(""),) * len(block.lines[0].entries))
    for text, line in zip_longest(title, block.lines):
        line = line or blank
        figures = [entry(figure) for figure in line.entries[panel]]
        yield _row([indent + text if text else "", plain_text(line.label), plain_text(line.parameters), *figures])


def _entry(entry: Entry) -> str:
    seeds = rf"\,{{\scriptsize $n{{=}}{entry.n}$}}" if entry.n else ""
    return plain_text(entry.figure).replace(r" $\pm$ ", r"\,$\pm$\,") + seeds + _marks(entry.marks)


def _num_entry(entry: Entry) -> str:
    """The entry with its numbers and uncertainties as siunitx numbers."""
    parts = _FIGURE.split(entry.figure)  # text, figure, text, figure, ... text
    parts[::2] = map(plain_text, parts[::2])
    parts[1::2] = (rf"\num{{{figure.replace(MINUS, '-')}}}".replace("±", r"\pm") for figure in parts[1::2])
    return "".join(parts) + _entry(Entry("", entry.n, entry.marks))


def _notes(table: AssembledTable, usual_n: int | None) -> list[str]:
    texts = [escape(text) for text in legend(table, usual_n=usual_n)]
    paragraphs = [" ".join(texts), " ".join(escape(f"{heading}: {text}.") for heading, text in table.configuration)]
    for note in table.notes:
        mark = _marks((note.mark,)) + r"\," if note.mark else ""
        paragraphs.append(mark + escape(note.text))
    filled = (textwrap.fill(text, 106, break_long_words=False, break_on_hyphens=False) for text in paragraphs)
    body = textwrap.indent("\n\\par\n".join(filled), "    ")
    return [r"  \parbox{0.94\textwidth}{\scriptsize\raggedright", body, "  }"]


def _marks(marks: Sequence[str]) -> str:
    return rf"\textsuperscript{{{plain_text(','.join(marks))}}}" if marks else ""


def _row(texts: Iterable[str]) -> str:
    return f"    {' & '.join(texts)} \\\\".replace("  &", " &")


def _ascii(text: str) -> str:
    """A comment's text: nothing in it may end the line or need an encoding."""
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())
