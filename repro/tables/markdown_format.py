"""Tables as GitHub Markdown, aligned so that they read well in a terminal too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from repro.tables.layout import FIGURE_HEADING, Block, Entry, blocks, caption, label, spans
from repro.tables.legend import legend
from repro.tables.structure import AssembledTable

_SPECIAL = re.compile(r"([\\`*\[\]<|~$]|(?<!\w)_|_(?!\w)|&(?=[#\w]+;))")


def render(tables: Sequence[AssembledTable], command: str) -> str:
    """All tables, one below the other; ``command`` is not shown in Markdown."""
    return "\n".join(_table(table) for table in tables)


def _table(table: AssembledTable) -> str:
    head = ["Model", "", "Parameters", *(f"{FIGURE_HEADING} {heading.title}" for heading in table.columns)]
    rows = [[escape(text) for text in head], *(row for block in blocks(table) for row in _rows(block))]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(map(str.ljust, row, widths)) for row in rows]
    lines.insert(1, _line(":".ljust(width, "-") for width in widths))
    notes = [escape(text) for text in legend(table)]
    notes += [f"{_marks((note.mark,) if note.mark else ())} {escape(note.text)}".strip() for note in table.notes]
    title = f"**{escape(label(table))}.** {escape(caption(table))}"
    return "\n".join([title, "", *lines, "", *(f"- {note}" for note in notes), ""])


def escape(text: str) -> str:
    """Text with Markdown's special characters escaped, except between backticks, where none is special."""
    parts = (f"`{part}`" if is_code else _SPECIAL.sub(r"\\\1", part) for part, is_code in spans(text))
    return "".join(parts)


def _rows(block: Block) -> list[list[str]]:
    rows = [["", escape(line.label), line.parameters, *map(_entry, line.entries)] for line in block.lines]
    rows[0][0] = escape(block.title) + _marks(block.marks)
    return rows


def _entry(entry: Entry) -> str:
    number, rest = entry.number_and_rest
    figure = f"**{number}**{rest}" if entry.best else entry.figure
    return figure + (f" (n={entry.n})" if entry.n else "") + _marks(entry.marks)


def _marks(marks: Sequence[str]) -> str:
    return "".join(f" {mark}" if not mark.isalpha() else f" [{mark}]" for mark in marks)


def _line(texts: Iterable[str]) -> str:
    return f"| {' | '.join(texts)} |"
