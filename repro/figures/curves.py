"""Training curves: test top-1 by epoch, mean and range over seeds, with the last quarter enlarged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from repro.experiment.schema import Column, Row
from repro.figures.drawing import Drawing, Panel, Point, Trace, add_note, add_remark, new_figure, say_missing, shortened
from repro.figures.recorded import Recorded
from repro.figures.style import COLUMN_INCHES, INK, TITLE_INCHES, Series, series_in_turn
from repro.results import RunRecord
from repro.wording import counted

_PANEL_INCHES, _SENTENCE_INCHES = 1.25, 0.55
_NAME_INCHES = 1.2  # of a loss in the legend, which has two columns
_MARKER_POINTS = 3
_ENLARGED = 0.25  # the part of training whose differences are those that the tables report
_MARKERS = 4  # on an enlarged curve, about: they tell curves apart where dashes are not enough

_SeriesKey = tuple[str, str, str]


def draw(tables: Sequence[Recorded]) -> Drawing:
    """A line of panels for each network with runs, and a sentence that names the others of its table."""
    lines = [line for table in tables for line in _lines(table)]
    heights = [_PANEL_INCHES if isinstance(row, Row) else _SENTENCE_INCHES for _, row in lines]
    columns = {_series_key(column): column for table in tables for column in table.table.columns}
    looks = dict(zip(columns, series_in_turn(list(columns.values())), strict=True))
    legend_lines = max(2, -(-len(columns) // 2))
    figure = new_figure(COLUMN_INCHES, sum(heights) + 0.4 + 0.15 * legend_lines)
    grid = figure.add_gridspec(len(lines), 2, width_ratios=[1.5, 1], height_ratios=heights)
    drawn: list[Panel] = []
    last = max((index for index, (_, row) in enumerate(lines) if isinstance(row, Row)), default=0)
    for index, (table, row) in enumerate(lines):
        if not isinstance(row, Row):
            say_missing(figure.add_subplot(grid[index, :]), row)
            continue
        whole, end = figure.add_subplot(grid[index, 0]), figure.add_subplot(grid[index, 1])
        title = f"{table.label}: {row.title}" if len(tables) > 1 else row.title
        whole.set_title(shortened(title, TITLE_INCHES, font_points=7.5))
        whole.set_ylabel("top-1 (%)")
        if index == last:
            whole.set_xlabel("epoch")
            end.set_xlabel("epoch")
        drawn += [_panel(whole, table, row, looks), _panel(end, table, row, looks, enlarged=True)]
    if drawn:
        handles = [_in_legend(column, looks[key]) for key, column in columns.items()]
        title = "top-1 on the test images; right: the last quarter of training"
        figure.legend(handles=handles, loc="outside upper left", ncols=2, title=title, alignment="left")
    add_note(figure, _notes(tables) if drawn else [])
    headings = " ".join(table.heading for table in tables)
    single = "A line without a band is a single run. " if 1 in _numbers_of_runs(tables) else ""
    return Drawing(
        figure,
        f"{headings} Test top-1 by epoch: mean over seeds (line), and from the lowest to the highest seed where there "
        f"are several (band); on the right the last quarter, enlarged. {single}A thin line that ends in a cross is a "
        "diverged run, which is not in the mean.",
        tuple(drawn),
        empty=not drawn,
    )


def _series_key(column: Column) -> _SeriesKey:
    """What is one line of the legend: tables may give one id to different losses, or one loss different titles."""
    return column.id, column.loss, column.title


class EpochMean(NamedTuple):
    """The test top-1 of ``n`` runs after an epoch, in percent; ``std`` is the sample's, None for one run.

    ``low`` and ``high`` are the lowest and the highest run's.
    """

    epoch: int
    mean: float
    std: float | None
    n: int
    low: float
    high: float


def by_epoch(records: Iterable[RunRecord]) -> list[EpochMean]:
    """The mean of all runs at each epoch that any of them has."""
    means = []
    by_number: dict[float, list[float]] = defaultdict(list)
    for record in records:
        for number, value in zip(*record.curve(), strict=True):
            by_number[number].append(value)
    for number, values in sorted(by_number.items()):
        std = float(np.std(values, ddof=1)) if len(values) > 1 else None
        means.append(EpochMean(int(number), float(np.mean(values)), std, len(values), min(values), max(values)))
    return means


def epochs_of(records: Iterable[RunRecord], *keys: str) -> list[tuple[int, list[Sequence[float]]]]:
    """Each epoch's number, and for each of ``keys`` what the runs recorded of it."""
    epochs: dict[float, list[tuple[float, ...]]] = defaultdict(list)
    for record in records:
        for number, *values in zip(*map(record.epochs.column, ("epoch", *keys)), strict=True):
            epochs[number].append(tuple(values))
    return [(int(number), list(zip(*values, strict=True))) for number, values in sorted(epochs.items())]


def has_epochs(records: Iterable[RunRecord]) -> bool:
    """Whether any of the runs recorded an epoch."""
    return any(record.epochs for record in records)


def has_curves(records: Iterable[RunRecord]) -> bool:
    """Whether the accuracy after some epoch is known of any of the runs."""
    return any(record.curve()[0] for record in records)


def _panel(axes: Axes, table: Recorded, row: Row, looks: dict[_SeriesKey, Series], *, enlarged: bool = False) -> Panel:
    """A curve a loss over all epochs or, enlarged, over the last of them; and the names of the losses without one."""
    axes.grid(True)
    axes.margins(x=0.05 if enlarged else 0.01)  # a marker at either end is drawn whole
    axes.locator_params(axis="x", integer=True, min_n_ticks=1)  # no epoch 2.5, also around a single one
    first = round(table.table.recipe.epochs * (1 - _ENLARGED)) if enlarged else 0
    traces, without = [], []
    for column in table.table.columns:
        look, diverged = looks[_series_key(column)], table.diverged(row, column)
        means = [mean for mean in by_epoch(table.completed(row, column)) if mean.epoch >= first]
        if means:
            traces.append(_curve(axes, means, column, look, marked=enlarged))
        elif not diverged:
            without.append(column.title)
        for record in diverged if not enlarged else ():
            _draw_diverged(axes, record, look.colour)
    if without and enlarged:  # above the whole curves is the title
        add_remark(axes, f"no runs: {', '.join(without)}")
    return Panel(axes, f"{table.label}, {row.title}", "x", tuple(traces))


def _curve(axes: Axes, means: Sequence[EpochMean], column: Column, look: Series, *, marked: bool) -> Trace:
    epochs, heights = [mean.epoch for mean in means], [mean.mean for mean in means]
    marker = look.marker if marked or len(means) == 1 else None  # a curve of one epoch is a point
    every = max(1, len(means) // _MARKERS)
    axes.plot(epochs, heights, marker=marker, markevery=every, **_line_style(look))
    band = [(mean.epoch, mean.low, mean.high) for mean in means if mean.n > 1]
    if band:
        axes.fill_between(*np.array(band).T, color=look.colour, alpha=0.15, linewidth=0)
    points = []
    for mean in means:
        spread = "" if mean.std is None else f" ± {mean.std:.2f}"
        points.append(Point(mean.epoch, mean.mean, f"Epoch {mean.epoch}", f"{mean.mean:.2f}{spread} (n = {mean.n})"))
    return Trace(column.title, look.colour, tuple(points))


def _in_legend(column: Column, look: Series) -> Line2D:
    """The line of a loss, with the marker that the enlarged curves have."""
    return Line2D([], [], marker=look.marker, label=shortened(column.title, _NAME_INCHES), **_line_style(look))


def _line_style(look: Series) -> dict[str, Any]:
    return {"color": look.colour, "dashes": look.dashes, "markersize": _MARKER_POINTS}


def _draw_diverged(axes: Axes, record: RunRecord, colour: str) -> None:
    if record.epochs:
        epochs, values = map(record.epochs.column, ("epoch", "test_top1_percent"))
        axes.plot(epochs, values, color=colour, linewidth=0.5)
        axes.plot(epochs[-1:], values[-1:], color=INK, marker="x", markersize=4, linestyle="none")


def _lines(table: Recorded) -> list[tuple[Recorded, Row | str]]:
    """The networks of a table that have curves, and a sentence on those that have none."""
    rows = table.table.rows
    without = [row for row in rows if not _has_curves(table, row)]
    lines: list[tuple[Recorded, Row | str]] = [(table, row) for row in rows if row not in without]
    if without:
        whom = ", ".join(row.title for row in without)
        lines.append((table, f"No runs recorded for {table.label if len(without) == len(rows) else whom}."))
    return lines


def _has_curves(table: Recorded, row: Row) -> bool:
    runs = (run for column in table.table.columns for run in table.completed(row, column) + table.diverged(row, column))
    return has_curves(runs)


def _notes(tables: Sequence[Recorded]) -> list[str]:
    """What lines and bands are, and how many runs diverged before their first epoch ended and cannot be drawn."""
    at_once = 0
    for table in tables:
        for row, column in product(table.table.rows, table.table.columns):
            at_once += sum(not record.epochs for record in table.diverged(row, column))
    numbers = _numbers_of_runs(tables)
    notes = ["Each line is a single run."] if numbers == {1} else []
    if max(numbers, default=0) > 1:
        notes = ["Line: mean over seeds. Band: lowest to highest seed."]
        notes += ["Without a band: a single run."] if 1 in numbers else []
    return [*notes, f"{counted(at_once, 'more run')} diverged within the first epoch."] if at_once else notes


def _numbers_of_runs(tables: Sequence[Recorded]) -> set[int]:
    """How many runs the lines are of."""
    cells = ((table, *cell) for table in tables for cell in product(table.table.rows, table.table.columns))
    return {len(table.completed(row, column)) for table, row, column in cells} - {0}
