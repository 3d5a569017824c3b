"""The sample weights z of each loss over training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from repro.experiment.schema import Column
from repro.figures.curves import epochs_of, has_epochs
from repro.figures.drawing import Drawing, Panel, Point, Trace, add_note, add_remark, new_figure, say_missing, shortened
from repro.figures.recorded import Recorded
from repro.figures.style import COLUMN_INCHES, MUTED, TITLE_INCHES, series_of
from repro.results import RunRecord
from repro.wording import counted

_PANEL_INCHES, _EMPTY_INCHES, _REMARK_INCHES = 1.3, 0.4, 1.2
_SUMMARY = ("weight_mean", "weight_std", "weight_min", "weight_max")


class Spread(NamedTuple):
    """The weights of one epoch, over all samples of several runs."""

    epoch: int
    mean: float
    std: float
    low: float
    high: float


def draw(tables: Sequence[Recorded]) -> Drawing:
    """A panel for each loss of each table: the mean and the range from least to greatest.

    The weights are skewed, so a standard deviation on either side would reach beyond the least of them.
    """
    panels = [(table, column, _completed(table, column)) for table in tables for column in _weighting(table)]
    heights = [_PANEL_INCHES if has_epochs(runs) else _EMPTY_INCHES for _, _, runs in panels]
    figure = new_figure(COLUMN_INCHES, sum(heights) + _EMPTY_INCHES)
    if not panels:
        say_missing(figure.add_subplot(), "There is no loss other than cross-entropy, whose weights are all 1.")
        return Drawing(figure, "No loss weights its samples.", empty=True)
    drawn = []
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (table, column, runs) in zip(all_axes, panels, strict=True):
        title = f"{table.label}: {column.title}" if len(tables) > 1 else column.title
        if has_epochs(runs):
            axes.set_title(shortened(title, TITLE_INCHES - _REMARK_INCHES, font_points=7.5))
            drawn.append(_panel(axes, table, column, runs))
        else:
            say_missing(axes, f"No runs recorded for {title}.")
    if drawn:
        add_note(figure, ["Line: mean. Band: minimum to maximum."])
    headings = " ".join(table.heading for table in tables)
    return Drawing(
        figure,
        f"{headings} The weights z over training, by loss, over all networks and seeds: mean (line), minimum to "
        "maximum (band). Under cross-entropy every weight is 1 (thin line).",
        tuple(drawn),
        empty=not drawn,
    )


def spread_by_epoch(records: Iterable[RunRecord]) -> list[Spread]:
    """The weights of all samples of ``records`` by epoch, each run counting the same.

    The variance of runs taken together is the mean of their variances plus the variance of their means.
    """
    spreads = []
    for number, (means, stds, lows, highs) in epochs_of(records, *_SUMMARY):
        mean = fmean(means)
        variance = fmean(std**2 + (of_run - mean) ** 2 for of_run, std in zip(means, stds, strict=True))
        spreads.append(Spread(number, mean, math.sqrt(variance), min(lows), max(highs)))
    return spreads


def _weighting(table: Recorded) -> list[Column]:
    """The columns whose weights are not all 1."""
    return [column for column in table.table.columns if column.loss != "ce"]


def _completed(table: Recorded, column: Column) -> list[RunRecord]:
    """The completed runs under a loss, of every network."""
    return [record for row in table.table.rows for record in table.completed(row, column)]


def _panel(axes: Axes, table: Recorded, column: Column, records: Sequence[RunRecord]) -> Panel:
    look = series_of(table.table.columns)[column.id]
    spreads = spread_by_epoch(records)
    epochs, means, _, lows, highs = np.array(spreads).T
    axes.axhline(1, color=MUTED, linewidth=0.5)
    axes.fill_between(epochs, lows, highs, color=look.colour, alpha=0.2, linewidth=0)
    axes.plot(epochs, means, color=look.colour, marker=look.marker if len(epochs) == 1 else None, markersize=3)
    axes.set(xlabel="epoch", ylabel="weight z")
    axes.margins(x=0.01)
    axes.locator_params(axis="x", integer=True)
    axes.grid(True)
    rows = len({record.row for record in records})
    about = f"{counted(len(records), 'run')}, {rows} of {len(table.table.rows)} networks"
    add_remark(axes, about)
    points = []
    for s in spreads:
        text = f"{s.mean:.3f} ± {s.std:.3f}, {s.low:.3f} to {s.high:.3f}"
        points.append(Point(s.epoch, s.mean, f"Epoch {s.epoch}", text))
    return Panel(axes, f"{table.label}, {column.title}", "x", (Trace(column.title, look.colour, tuple(points)),))
