"""The sample weights z of each loss over training."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from matplotlib.axes import Axes

from repro.experiment.schema import Column
from repro.figures.drawing import Drawing, Panel, Point, Trace, add_remark, new_figure, say_missing
from repro.figures.recorded import Recorded
from repro.figures.style import COLUMN_INCHES, MUTED, series_of
from repro.results import EpochRecord, RunRecord

_PANEL_INCHES, _EMPTY_INCHES = 1.3, 0.4


@dataclass(frozen=True)
class Spread:
    """The weights of one epoch, over all samples of several runs."""

    epoch: int
    mean: float
    std: float
    low: float
    high: float


def draw(tables: Sequence[Recorded]) -> Drawing:
    """A panel for each loss of each table: mean, ± one standard deviation, and the range from least to greatest."""
    panels = [(table, column, _counting(table, column)) for table in tables for column in table.compared]
    heights = [_PANEL_INCHES if any(one.epochs for one in runs) else _EMPTY_INCHES for *_, runs in panels]
    figure = new_figure(COLUMN_INCHES, sum(heights) + _EMPTY_INCHES)
    if not panels:
        say_missing(figure.add_subplot(), "There is no loss other than cross-entropy, whose weights are all 1.")
        return Drawing(figure, "No loss weights its samples.")
    drawn = []
    all_axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (table, column, records) in zip(all_axes, panels, strict=True):
        title = f"{table.label}: {column.title}" if len(tables) > 1 else column.title
        spreads = spread_by_epoch(records)
        if spreads:
            axes.set_title(title)
            drawn.append(_panel(axes, table, column, spreads, records))
        else:
            say_missing(axes, f"No runs recorded for {title}.")
    headings = " ".join(table.heading for table in tables)
    return Drawing(
        figure,
        f"{headings} The weights z over training, by loss, over all networks and seeds: mean (line), ± one standard "
        "deviation (dark band), minimum to maximum (light band). Under cross-entropy every weight is 1 (thin line).",
        tuple(drawn),
    )


def spread_by_epoch(records: Iterable[RunRecord]) -> list[Spread]:
    """The weights of all samples of ``records`` by epoch, each run counting the same.

    The variance of runs taken together is the mean of their variances plus the variance of their means.
    """
    epochs: dict[int, list[EpochRecord]] = defaultdict(list)
    for record in records:
        for epoch in record.epochs:
            epochs[epoch.epoch].append(epoch)
    return [_spread(number, of_runs) for number, of_runs in sorted(epochs.items())]


def _counting(table: Recorded, column: Column) -> list[RunRecord]:
    """The runs under a loss that count, of every network."""
    return [record for row in table.table.rows for record in table.completed(row, column)]


def _spread(epoch: int, of_runs: Sequence[EpochRecord]) -> Spread:
    mean = fmean(one.weight_mean for one in of_runs)
    variance = fmean(one.weight_std**2 + (one.weight_mean - mean) ** 2 for one in of_runs)
    low, high = min(one.weight_min for one in of_runs), max(one.weight_max for one in of_runs)
    return Spread(epoch, mean, math.sqrt(variance), low, high)


def _panel(
    axes: Axes, table: Recorded, column: Column, spreads: Sequence[Spread], records: Sequence[RunRecord]
) -> Panel:
    look = series_of(table.table.columns)[column.id]
    epochs, means = [one.epoch for one in spreads], [one.mean for one in spreads]
    axes.axhline(1, color=MUTED, linewidth=0.5)
    outer = [one.low for one in spreads], [one.high for one in spreads]
    inner = [one.mean - one.std for one in spreads], [one.mean + one.std for one in spreads]
    axes.fill_between(epochs, *outer, color=look.colour, alpha=0.14, linewidth=0)
    axes.fill_between(epochs, *inner, color=look.colour, alpha=0.28, linewidth=0)
    axes.plot(epochs, means, color=look.colour, marker=look.marker if len(epochs) == 1 else None, markersize=3)
    axes.set(xlabel="epoch", ylabel="weight z")
    axes.margins(x=0.01)
    axes.locator_params(axis="x", integer=True)
    axes.grid(True)
    rows = len({record.row for record in records})
    about = f"{len(records)} run{'' if len(records) == 1 else 's'}, {rows} of {len(table.table.rows)} networks"
    add_remark(axes, about)
    points = tuple(
        Point(
            one.epoch,
            one.mean,
            f"Epoch {one.epoch}",
            f"{one.mean:.3f} ± {one.std:.3f}, {one.low:.3f} to {one.high:.3f}",
        )
        for one in spreads
    )
    return Panel(axes, f"{table.label}, {column.title}", "x", (Trace(column.title, look.colour, points),))
