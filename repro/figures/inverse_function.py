"""Figure 1 of the supplement: the weight that the inverse bias loss gives, over the scaled variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from repro.figures.drawing import Drawing, Panel, Point, Trace, add_note, new_figure
from repro.figures.recorded import Recorded
from repro.figures.style import BLUE, COLUMN_INCHES, VERMILLION, Dashes

# The legend's pairs of alpha and beta, as far as they can be read.
_PAIRS: tuple[tuple[float, float, str, Dashes], ...] = ((0.3, 0.3, BLUE, ()), (0.7, 0.6, VERMILLION, (4.0, 1.6)))


def draw(tables: Sequence[Recorded]) -> Drawing:
    """The function of eq. 1 for the legible pairs; ``tables`` are not used."""
    figure = new_figure(COLUMN_INCHES, 2.3)
    axes = figure.add_subplot()
    variance = np.linspace(0, 1, 101)
    traces = []
    for alpha, beta, colour, dashes in _PAIRS:
        name = f"α = {alpha}, β = {beta}"
        weight = inverse_weight(variance, alpha, beta)
        axes.plot(variance, weight, color=colour, dashes=dashes, label=name)
        places = zip(variance, weight, strict=True)
        points = tuple(Point(float(v), float(z), f"v = {v:.2f}", f"z = {z:.3f}") for v, z in places)
        traces.append(Trace(name, colour, points))
    axes.set(xlim=(0, 1), ylim=(0.5, 2.6), xlabel="scaled variance v", ylabel="weight z = 1 / (exp(α v) − β)")
    axes.grid(True)
    axes.legend(loc="upper right")
    add_note(figure, ["α and β read off a damaged scan of the paper's figure."])
    return Drawing(
        figure,
        "Figure 1 of the supplement: the inverse bias function of eq. 1, z = 1 / (exp(α v) − β), over the scaled "
        "variance v; lower variance gets more weight. The pairs of α and β are those legible in a damaged scan "
        "of the original's legend, whose axis reaches 2.5 = 1 / (1 − 0.6).",
        (Panel(axes, "Weight by scaled variance", "x", tuple(traces)),),
    )


def inverse_weight(variance: NDArray[np.float64], alpha: float, beta: float) -> NDArray[np.float64]:
    """z of the inverse bias loss (supplement, eq. 1) for scaled variances in [0, 1], float64 of the same shape."""
    return 1 / (np.exp(alpha * variance) - beta)
