"""Figures of recorded results; missing results are shown as missing. No torch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from repro.machine import package_path

with contextlib.chdir(package_path()):  # else it reads a file matplotlibrc of the current folder
    import matplotlib  # noqa: F401

from repro.figures import curves, deltas, inverse_function, parameters, weights
from repro.figures.drawing import Drawing
from repro.figures.recorded import Recorded, gather_recorded, recorded, unusable
from repro.figures.style import FORMATS, our_style
from repro.wording import counted

__all__ = [
    "FIGURES",
    "FORMATS",
    "NEEDS_NO_RUNS",
    "SHOWS_EVERY_EPOCH",
    "Drawing",
    "Recorded",
    "draw_figure",
    "gather_recorded",
    "recorded",
    "unusable",
]

FIGURES: dict[str, Callable[[Sequence[Recorded]], Drawing]] = {
    "1": inverse_function.draw,
    "curves": curves.draw,
    "deltas": deltas.draw,
    "parameters": parameters.draw,
    "weights": weights.draw,
}
NEEDS_NO_RUNS = ("1",)
SHOWS_EVERY_EPOCH = ("curves", "weights")


def draw_figure(name: str, tables: Sequence[Recorded]) -> Drawing:
    """The figure ``name`` of ``FIGURES``; its caption says how many records were left out."""
    with our_style():
        drawing = FIGURES[name](tables)
    count = len(unusable(tables))
    if not count:
        return drawing
    records = counted(count, "record is", "records are")
    caption = f"{drawing.caption} {records} left out: damaged, edited, not readable or of another configuration."
    return replace(drawing, caption=caption)
