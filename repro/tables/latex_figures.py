r"""The figures of a LaTeX table, in line on the decimal point. Each takes two cells of the tabular, a text spans both.

Plain LaTeX has what is before the point in one cell and the rest in the other, with nothing between them. With siunitx
the number is in an S column, which the document's ``\sisetup`` formats, and the spread or a difference beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from repro.tables.latex_text import plain_text
from repro.tables.layout import Block, Entry
from repro.wording import MINUS

CELLS = 2  # of a tabular, for each figure
_BEGINNING = re.compile(rf"([<+{MINUS}]?\d+)(\.\d+)?")
_NUMBER = re.compile(rf"([+{MINUS}]?\d+(?:\.\d+)?)")


class Number(NamedTuple):
    """A figure that begins with a number: its digits before the point, those after it with the point, and the rest."""

    before: str
    after: str
    rest: str


def number_of(text: str) -> Number | None:
    """The parts of a figure; None for one that begins with no number."""
    found = _BEGINNING.match(text)
    return Number(found[1], found[2] or "", text[found.end() :]) if found else None


def decimals_by_line(blocks: Iterable[Block]) -> dict[str, int]:
    """The most decimals of the figures on the lines of each label: what a whole number there lacks is left blank."""
    most: dict[str, int] = {}
    for line in (line for block in blocks for line in block.lines):
        numbers = (number_of(entry.figure) for entry in line.entries)
        decimals = (len(number.after) - 1 for number in numbers if number)
        most[line.label] = max(0, most.get(line.label, 0), *decimals)
    return most


def spanning(text: str) -> str:
    """A text over both cells of a figure."""
    return rf"\multicolumn{{{CELLS}}}{{c}}{{{text}}}" if text else "&"


def plain_column(entries: Sequence[Entry]) -> str:
    """The columns of the tabular for the figures of a loss."""
    return "r@{}l"


def plain_figure(entry: Entry, decimals: int = 0) -> str:
    """The two cells of a figure; a whole number has blank space for ``decimals`` before what follows it."""
    number = number_of(entry.figure)
    if number is None:
        return spanning(_with_seeds(_spaced(entry.figure), entry))
    before, after = plain_text(number.before), plain_text(number.after)
    if entry.best:
        before, after = rf"\textbf{{{before}}}", rf"\textbf{{{after}}}" if after else ""
    rest = _with_seeds(_spaced(number.rest), entry)
    lacking = decimals + 1 - len(number.after) if decimals else 0
    if rest and lacking > 0:
        after += rf"\phantom{{{'.' * (not number.after)}{'0' * (lacking - (not number.after))}}}"
    return f"{before} & {after}{rest if after else _not_stripped(rest)}"


def siunitx_column(entries: Sequence[Entry]) -> str:
    """The columns of the tabular for the figures of a loss: an S column as wide as its widest number."""
    numbers = [number for number in map(_siunitx_number, entries) if number]
    signed = "+" if any(not number.before.isdigit() for number in numbers) else ""
    whole = max((len(number.before.lstrip(f"+{MINUS}")) for number in numbers), default=1)
    decimals = max((len(number.after) - 1 for number in numbers), default=0)
    return f"S[table-format={signed}{whole}.{max(decimals, 0)}]@{{}}l"


def siunitx_figure(entry: Entry, decimals: int = 0) -> str:
    """The two cells of a figure; ``decimals`` has no effect, since an S column leaves the space."""
    number = _siunitx_number(entry)
    if number is None:
        return spanning(_with_seeds(_numbers(entry.figure), entry))
    bold = r"\bfseries " if entry.best else ""
    value = f"{number.before}{number.after}".replace(MINUS, "-")
    return f"{bold}{value} & {_not_stripped(_with_seeds(_numbers(number.rest), entry))}"


def marks_text(marks: Sequence[str]) -> str:
    """The marks of footnotes."""
    return rf"\textsuperscript{{{plain_text(','.join(marks))}}}" if marks else ""


def _siunitx_number(entry: Entry) -> Number | None:
    """As ``number_of``; a number with a sign of comparison is a text."""
    number = number_of(entry.figure)
    return None if number is None or number.before.startswith("<") else number


def _numbers(text: str) -> str:
    r"""Text with every number as a ``\num``."""
    parts = _NUMBER.split(text)  # text, number, text, number, ... text
    parts[::2] = map(_spaced, parts[::2])
    parts[1::2] = (rf"\num{{{number.replace(MINUS, '-')}}}" for number in parts[1::2])
    return "".join(parts)


def _spaced(text: str) -> str:
    return plain_text(text).replace(r" $\pm$ ", r"\,$\pm$\,")


def _with_seeds(text: str, entry: Entry) -> str:
    seeds = rf"\,{{\scriptsize $n{{=}}{entry.n}$}}" if entry.n else ""
    return text + seeds + marks_text(entry.marks)


def _not_stripped(text: str) -> str:
    """A text at the beginning of a cell, where LaTeX ignores a space."""
    return f"~{text[1:]}" if text.startswith(" ") else text


class Style(NamedTuple):
    """How figures are set: the packages that it needs, what it sets up, and both functions from above."""

    packages: str
    setup: tuple[str, ...]
    column: Callable[[Sequence[Entry]], str]
    figure: Callable[[Entry, int], str]


PLAIN = Style("booktabs", (), plain_column, plain_figure)
SIUNITX = Style(
    "booktabs, siunitx",
    (r"  \sisetup{retain-explicit-plus = true, detect-weight = true}",),
    siunitx_column,
    siunitx_figure,
)
