"""Figures: what the records say, drawn; what is missing is drawn as missing. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repro.figures import curves, deltas, inverse_function, parameters, weights
from repro.figures.drawing import Drawing
from repro.figures.recorded import Recorded, gather_recorded, recorded
from repro.figures.style import FORMATS, our_style

__all__ = ["FIGURES", "FORMATS", "NEEDS_NO_RUNS", "Drawing", "Recorded", "draw_figure", "gather_recorded", "recorded"]

FIGURES: dict[str, Callable[[Sequence[Recorded]], Drawing]] = {
    "1": inverse_function.draw,
    "curves": curves.draw,
    "deltas": deltas.draw,
    "parameters": parameters.draw,
    "weights": weights.draw,
}
NEEDS_NO_RUNS = ("1",)


def draw_figure(name: str, tables: Sequence[Recorded]) -> Drawing:
    """The figure called ``name`` of ``FIGURES``, in our style."""
    with our_style():
        return FIGURES[name](tables)
