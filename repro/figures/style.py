"""The style of all figures: one width and one colour-blind safe palette; a user's matplotlibrc has no effect.

The colours are Okabe and Ito's (2008, Color Universal Design). Dashes and marker shapes differ too, for grey prints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from repro.experiment import catalog
from repro.experiment.schema import Column

FORMATS = ("pdf", "svg", "png")
COLUMN_INCHES = 3.3  # the column of a two-column paper
TITLE_INCHES = 2.7  # the longest title of a panel, which begins beside the labels of its axis
INK, MUTED, RULE, PAPER = "#1a1a1a", "#666666", "#d6d6d6", "#ffffff"
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"

Dashes = tuple[float, ...]  # lengths in line widths, empty for a solid line

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 7,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "text.parse_math": False,  # a title is text, whatever dollars it holds
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 6.5,
    "legend.handlelength": 2.2,
    "legend.columnspacing": 1.2,
    "lines.linewidth": 1.1,
    "grid.color": RULE,
    "grid.linewidth": 0.4,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "biasrepro",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}


@dataclass(frozen=True)
class Series:
    """The style of one loss in every figure of its table."""

    colour: str
    dashes: Dashes
    marker: str


# For losses without a style of their own: neighbours differ in colour, dashes and shape.
_COLOURS = (ORANGE, SKY, PURPLE, GREEN, VERMILLION, BLUE)
_LINES: tuple[tuple[Dashes, str], ...] = (((), "X"), ((4.0, 1.6), "D"), ((5.0, 1.4, 1.2, 1.4), "<"), ((1.2, 1.2), ">"))
_MORE = [Series(colour, *_LINES[(turn + i) % 4]) for turn in (1, 2, 3, 4) for i, colour in enumerate(_COLOURS)]


def series_of(columns: Sequence[Column]) -> dict[str, Series]:
    """The style of each column of a table, by id, as ``series_in_turn`` chooses it."""
    return dict(zip((column.id for column in columns), series_in_turn(columns), strict=True))


def series_in_turn(columns: Sequence[Column]) -> list[Series]:
    """The style of each column: its loss's own, or the next unused one; of unused dashes while there are any."""
    chosen: list[Series] = []
    for column in columns:
        loss = catalog.loss(column.loss)
        own = [Series(loss.colour, loss.dashes, loss.marker or "o")] if loss.colour else []
        dashes = {series.dashes for series in chosen}
        of_other_dashes = [series for series in _MORE if series.dashes not in dashes]
        unused = (series for series in (*own, *of_other_dashes, *_MORE) if series not in chosen)
        chosen.append(next(unused, _MORE[len(chosen) % len(_MORE)]))
    return chosen


@contextmanager
def our_style() -> Iterator[None]:
    """Draw and save inside this: matplotlib's defaults and ours, nothing of a user's matplotlibrc."""
    from matplotlib import style

    with style.context(["default", _STYLE]):
        yield
