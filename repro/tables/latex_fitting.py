r"""How a table fits the page: its size of type, and into how many tabulars its columns go.

Widths are estimated from Computer Modern's metrics, and a test lets TeX judge what comes of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from repro.tables.latex_figures import number_of
from repro.tables.layout import Block, Entry

Model = tuple[Block, list[str]]  # with the lines of its title

# The estimates come out 3 to 6 % too wide: what fits into these fits the 453 pt of an A4 page of two columns at 10 pt.
_PAGE_POINTS = 465.0

# Type, the width of its digits and the space beside a column, in points. Marks and numbers of seeds are set smaller.
_SETTINGS = ((r"\small", 4.62, 5.0), (r"\footnotesize", 4.25, 5.0), (r"\footnotesize", 4.25, 3.0))
_SCRIPT_DIGIT_POINTS = 3.98
_BOLDER_DIGITS = 0.6  # by which a number of four digits is wider in bold

# Heights, in points; a page of letter paper at 10 pt has 538.
_PAGE_HEIGHT_POINTS = 500.0
_LINE_POINTS = {r"\small": 11.0, r"\footnotesize": 9.5}
_RULES_POINTS, _BETWEEN_MODELS_POINTS, _NOTE_LINE_POINTS = 20.0, 5.0, 8.0

# Widths of other characters in digits; of those not named here, capitals are 1.5, all others 1.0.
_DIGITS_WIDE = dict.fromkeys(".,:;'iljI", 0.6) | dict.fromkeys("()[]-frst", 0.8) | {" ": 0.7}
_DIGITS_WIDE |= dict.fromkeys("+−=ΔmwMW%&", 1.7)


@dataclass(frozen=True)
class Fit:
    """The command for the size of type, and the columns of figures that go into each tabular."""

    size: str
    separation_points: float
    panels: tuple[slice, ...]

    def pages(self, models: Sequence[Model], heading_lines: int, note_lines: int) -> list[slice]:
        """The models that go onto each page: all on one if they fit; the notes below the last."""
        line = _LINE_POINTS[self.size]
        room = _PAGE_HEIGHT_POINTS - len(self.panels) * (heading_lines * line + _RULES_POINTS)
        heights = [
            len(self.panels) * (max(len(block.lines), len(title)) * line + _BETWEEN_MODELS_POINTS)
            for block, title in models
        ]
        heights[-1] += note_lines * _NOTE_LINE_POINTS
        starts, used = [0], 0.0
        for index, height in enumerate(heights):
            if used and used + height > room:
                starts.append(index)
                used = 0.0
            used += height
        return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(models)], strict=True)]


def fit(models: Sequence[Model], headings: Sequence[Sequence[str]]) -> Fit:
    """The largest type at which all columns stand side by side; else small type, and the fewest equal panels.

    ``headings`` are the lines above each column.
    """
    for size, digit, separation in _SETTINGS:
        left = _left_points(models, digit) + 6 * separation
        widths = [_column_points(models, i, lines, digit) + 2 * separation for i, lines in enumerate(headings)]
        if left + sum(widths) <= _PAGE_POINTS:
            return Fit(size, separation, (slice(0, len(widths)),))
    for count in range(1, len(widths) + 1):
        columns = math.ceil(len(widths) / count)
        panels = [slice(start, start + columns) for start in range(0, len(widths), columns)]
        if all(left + sum(widths[panel]) <= _PAGE_POINTS for panel in panels):
            break
    return Fit(size, separation, tuple(panels))


def _left_points(models: Sequence[Model], digit: float) -> float:
    """Model, label and parameters."""
    titles = (
        max(map(_digits, title)) * digit + _marks_points(block.marks) + 2 * digit * block.variant
        for block, title in models
    )
    label = max(_digits(line.label) for block, _ in models for line in block.lines) * digit
    return max(titles) + label + _digits("Parameters") * digit


def _column_points(models: Sequence[Model], index: int, heading: Sequence[str], digit: float) -> float:
    before, after, texts = 0.0, 0.0, max(map(_digits, heading)) * digit
    for entry in (line.entries[index] for block, _ in models for line in block.lines):
        number = number_of(entry.figure)
        if number is None:
            texts = max(texts, _entry_points(entry, entry.figure, digit))
        else:
            before = max(before, _digits(number.before) * digit)
            after = max(after, _entry_points(entry, number.after + number.rest, digit))
    return max(before + after, texts)


def _entry_points(entry: Entry, text: str, digit: float) -> float:
    """The width of ``text``, which is the figure of ``entry`` or a part, with all that stands behind it."""
    seeds = (_digits(f"n={entry.n}") + 0.5) * _SCRIPT_DIGIT_POINTS if entry.n else 0.0
    bold = _BOLDER_DIGITS if entry.best else 0.0
    return (_digits(text) + bold) * digit + seeds + _marks_points(entry.marks)


def _marks_points(marks: Sequence[str]) -> float:
    return _digits(",".join(marks)) * _SCRIPT_DIGIT_POINTS


def _digits(text: str) -> float:
    return sum(_DIGITS_WIDE.get(character, 1.5 if character.isupper() else 1.0) for character in text)
