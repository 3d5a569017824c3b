"""A drawn figure, what can be read off it by pointing, and its bytes."""

from __future__ import annotations

import io
import warnings
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from textwrap import fill
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from repro.figures.style import MUTED, our_style
from repro.wording import printable

# What the formats would say of the moment and the version of matplotlib: without it, equal figures are equal files.
_METADATA: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "ModDate": None, "Producer": None, "Creator": "biasrepro"},
    "svg": {"Date": None, "Creator": "biasrepro"},
    "png": {"Software": "biasrepro"},
}


@dataclass(frozen=True)
class Point:
    """A place in a panel, in its data's units; ``group`` says where it is, ``text`` what is there."""

    x: float
    y: float
    group: str
    text: str


@dataclass(frozen=True)
class Trace:
    """What belongs together in a panel: a curve, or the points of one kind."""

    label: str
    colour: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Panel:
    """Axes with what can be read off them: the points of a group together, the groups one after another ``along``."""

    axes: Axes
    title: str
    along: Literal["x", "y"]
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class Drawing:
    """A figure; the caption says all that a reader needs beside it. ``empty``: nothing of ours is in it."""

    figure: Figure
    caption: str
    panels: tuple[Panel, ...] = ()
    empty: bool = False

    def to_bytes(self, format_name: str) -> bytes:
        """The figure as PDF, SVG (text as text) or PNG (300 dpi): the same bytes for the same figure."""
        buffer = io.BytesIO()
        for text in self.figure.findobj(Text):
            text.set_text(printable(text.get_text()))  # invisible characters end some formats in an error
        with our_style(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # a script that the font lacks: drawn as boxes
            self.figure.savefig(buffer, format=format_name, metadata=_METADATA[format_name])
        return buffer.getvalue()


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure whose parts make room for each other."""
    # the pads are in inches, the spaces between panels in fractions of one
    engine = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03, wspace=0.03, hspace=0.04)
    return Figure(figsize=(width_inches, height_inches), layout=engine)


def shortened(text: str, width_inches: float, *, font_points: float = 6.5, weight: str = "normal") -> str:
    """``text`` as far as it fits: its middle gives way to an ellipsis, since ends tell similar names apart."""
    font = FontProperties(family="DejaVu Sans", size=font_points, weight=weight)

    def fits(candidate: str) -> bool:
        return text_to_path.get_text_width_height_descent(candidate, font, False)[0] <= 72 * width_inches

    text = printable(text)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        if fits(text):
            return text
        lengths = range(1, len(text))
        length = max(1, bisect_left(lengths, True, key=lambda count: not fits(_without_middle(text, count))))
    return _without_middle(text, length)


def _without_middle(text: str, length: int) -> str:
    tail = length // 3
    return f"{text[: length - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def say_missing(axes: Axes, sentence: str) -> None:
    """A plain sentence if there is nothing to draw."""
    axes.set_axis_off()  # not its ticks: those may be another panel's too
    text = fill(sentence, 56, max_lines=4, placeholder="…")
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=MUTED)


def add_note(figure: Figure, sentences: Iterable[str]) -> None:
    """Small print below everything."""
    text = "\n".join(fill(sentence, 72, max_lines=4, placeholder="…") for sentence in sentences)
    if text:
        figure.supxlabel(text, fontsize=5.5, color=MUTED, x=0.02, ha="left")


def add_remark(axes: Axes, text: str) -> None:
    """Small print above a panel, on the right: inside, it would lie over what is drawn."""
    axes.set_title(fill(text, 30, max_lines=5, placeholder="…"), loc="right", fontsize=5.5, color=MUTED)
