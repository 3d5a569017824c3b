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
from repro.figures.recorded import Recorded, gather_recorded, imported_runs, recorded, unusable
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
    """The figure ``name`` of ``FIGURES``; its caption says how many records were left out, and how many imported."""
    with our_style():
        drawing = FIGURES[name](tables)
    caption = [drawing.caption]
    if count := len(unusable(tables)):
        records = counted(count, "record is", "records are")
        caption.append(f"{records} left out: damaged, edited, not readable or of another configuration.")
    shown, left_out = imported_runs(tables)
    for runs, what in ((shown, "in it"), (left_out, "left out")):
        if runs:
            caption.append(f"{counted(len(runs), 'run')} imported, not trained by biasrepro: {what}.")
    return replace(drawing, caption=" ".join(caption))
