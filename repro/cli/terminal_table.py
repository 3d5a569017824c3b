"""A table as a terminal shows it: the lines of a model side by side where they fit, else one loss a line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from repro.tables.layout import (
    FIGURE_HEADING,
    Block,
    Entry,
    blocks,
    caption,
    label,
    usual_number_of_seeds,
)
from repro.tables.legend import legend
from repro.tables.structure import AssembledTable
from repro.wording import one_line

_BETWEEN = 2  # columns of space beside a cell


def drawn(tables: Sequence[AssembledTable], width: int) -> RenderableType:
    """The tables for a terminal of so many columns."""
    return Group(*chain.from_iterable(_parts(table, width) for table in tables))


def _parts(table: AssembledTable, width: int) -> list[RenderableType]:
    usual_n = usual_number_of_seeds(table)
    body = blocks(table, usual_n=usual_n)
    title = Text.assemble((one_line(label(table)), "bold"), f". {one_line(caption(table))}")
    head, rows = _wide(table, body)
    p_apart = _width([head, *rows]) > width and not table.compact
    if _width([head, *rows]) > width:
        head, rows = _narrow(table, blocks(table, usual_n=usual_n, p_apart=p_apart))
    notes = [Padding(Text(one_line(text)), (0, 0, 0, 2)) for text in _notes(table, usual_n, p_apart=p_apart)]
    return [title, _grid(head, rows, fits=_width([head, *rows]) <= width), *notes, Text("")]


def _wide(table: AssembledTable, body: Sequence[Block]) -> tuple[list[str], list[list[Text]]]:
    """A column for each loss, a row for each line of a model."""
    head = ["Model", "", "Parameters", *(heading.title for heading in table.columns)]
    rows = []
    for block in body:
        for index, line in enumerate(block.lines):
            title = "" if index else _title(block)
            rows.append([*map(_text, (title, line.label, line.parameters)), *map(_figure, line.entries)])
    return head, rows


def _narrow(table: AssembledTable, body: Sequence[Block]) -> tuple[list[str], list[list[Text]]]:
    """A column for each line of a model, a row for each loss."""
    labels = list(dict.fromkeys(line.label for block in body for line in block.lines))
    rows = []
    for block in body:
        lines = {line.label: line for line in block.lines}
        counts = ", ".join(line.parameters for line in block.lines if line.parameters)
        rows.append([_text(f"{_title(block)} ({counts})"), *[Text("")] * len(labels)])
        for index, heading in enumerate(table.columns):
            figures = [_figure(lines[name].entries[index]) if name in lines else Text("") for name in labels]
            rows.append([_text(f"  {heading.title}"), *figures])
    return ["Model and loss", *(name or FIGURE_HEADING for name in labels)], rows


def _grid(head: Sequence[str], rows: Sequence[Sequence[Text]], *, fits: bool) -> Table:
    grid = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in head:
        grid.add_column(one_line(heading), overflow="fold", no_wrap=fits)
    for row in rows:
        grid.add_row(*row)
    return grid


def _width(rows: Sequence[Sequence[str | Text]]) -> int:
    """The columns that the rows take when nothing is folded."""
    columns = (map(str, column) for column in zip(*rows, strict=True))
    return sum(max(map(cell_len, column)) + _BETWEEN for column in columns)


def _notes(table: AssembledTable, usual_n: int | None, *, p_apart: bool) -> list[str]:
    notes = [f"[{note.mark}] {note.text}" if note.mark else note.text for note in table.notes]
    return [text.replace("`", "") for text in (*legend(table, usual_n=usual_n, p_apart=p_apart), *notes)]


def _title(block: Block) -> str:
    return f"{'  ' if block.variant else ''}{block.title}{_marks(block.marks)}"


def _figure(entry: Entry) -> Text:
    number, rest = entry.number_and_rest
    seeds = f" (n={entry.n})" if entry.n else ""
    return Text.assemble((number, "bold" if entry.best else ""), one_line(f"{rest}{seeds}{_marks(entry.marks)}"))


def _text(text: str) -> Text:
    return Text(one_line(text))


def _marks(marks: Sequence[str]) -> str:
    return f" [{','.join(marks)}]" if marks else ""
