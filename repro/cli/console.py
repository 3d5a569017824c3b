"""Terminal output: styled on a terminal (``NO_COLOR`` switches that off), plain and unwrapped everywhere else.

Whatever a command shows passes through here or through ``output.deliver``: no text of a file, a path or a server
reaches the terminal with control characters, nor can it start a line of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from repro.wording import one_line, printable, readable_size

size = readable_size
_BETWEEN_COLUMNS = 3  # of a drawn table


class _FilteringConsole(Console):
    """A console whose texts are printable: control codes are its own, never of a text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or standard error, as it is at the moment."""
    return _FilteringConsole(stderr=stderr, highlight=False, markup=False, emoji=False)


def say(text: str, style: str = "", *, stderr: bool = False) -> None:
    """Print ``text`` as one unwrapped line, so that commands and paths can be copied."""
    console(stderr=stderr).print(text_line(text, style), soft_wrap=True)


def say_lines(text: str, style: str = "", *, stderr: bool = False) -> None:
    """Print each line of ``text``."""
    for part in text.split("\n"):
        say(part, style, stderr=stderr)


def text_line(text: str, style: str = "") -> Text:
    """``text`` as one line for a ``console()``."""
    return Text(one_line(text), style=style)


def show_table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows under headers, which may have several lines; columns in ``right`` are right-aligned.

    Off a terminal: two spaces, no rules.
    """
    heads = [list(map(one_line, header.split("\n"))) for header in headers]
    rows = [list(map(one_line, row)) for row in rows]
    depth = max(map(len, heads))
    above = [[*[""] * (depth - len(lines)), *lines] for lines in heads]  # the last lines stand side by side
    lines = plain_lines([*zip(*above, strict=True), *rows], right=right)
    if not sys.stdout.isatty() or max(map(cell_len, lines)) > console().width:  # never wrap a number
        for line in lines:
            print(line)
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, head in enumerate(above):
        justify: Literal["left", "right"] = "right" if index in right else "left"
        table.add_column(Text("\n".join(head)), justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console().print(table)


def fits_terminal(rows: Sequence[Sequence[str]]) -> bool:
    """Whether a terminal is wide enough for a table with these rows, its heading one of them; yes off a terminal."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return not sys.stdout.isatty() or sum(widths) + _BETWEEN_COLUMNS * (len(widths) - 1) <= console().width


def plain_lines(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Rows as lines of aligned text."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - cell_len(cell))
            cells.append(padding + cell if index in right else cell + padding)
        lines.append("  ".join(cells).rstrip())
    return lines


def percent(value: float | None) -> str:
    """An accuracy: ``95.3 %``; a dash for None."""
    return "–" if value is None else f"{value:.1f} %"


def rate(images_per_second: float | None) -> str:
    """A speed: ``2,140 images/s``; a dash for None."""
    return "–" if images_per_second is None else f"{images_per_second:,.0f} images/s"
