"""The gain of the bias loss against the size of the network: what Table 1 of the paper is about."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from matplotlib.axes import Axes

from repro.analysis.claim_tests import COMPACT_UP_TO, LARGE_FROM
from repro.experiment.catalog import loss
from repro.experiment.papers import PAPERS
from repro.experiment.schema import Column, Row
from repro.figures.deltas import HOLLOW, add_legend, and_the_papers, draw_results, far_baselines, shows_ours
from repro.figures.drawing import Drawing, Panel, add_note, new_figure, say_missing, shortened
from repro.figures.recorded import Recorded, baselines_of
from repro.figures.style import COLUMN_INCHES, MUTED, RULE, TITLE_INCHES, series_of

_TICKS_MILLIONS = (0.5, 1, 2, 5, 10, 20, 50)
_LABEL_GAP = 0.055  # between two names, as a fraction of the width
_NAMES_POINTS = 48  # the height that the names take above the axes
_NAME_INCHES, _AXIS_INCHES = 0.95, 1.2


def draw(tables: Sequence[Recorded]) -> Drawing:
    """A panel a table: ours with 95% intervals and the paper's, over parameters in millions (logarithmic)."""
    figure = new_figure(COLUMN_INCHES, 2.85 * len(tables) + 0.25)
    all_axes = figure.subplots(len(tables), 1, squeeze=False)[:, 0]
    drawn = []
    for axes, table in zip(all_axes, tables, strict=True):
        column, sizes = _proposed(table), _sizes(table)
        if column and sizes:
            drawn.append(_panel(axes, table, column, sizes))
        else:
            a_loss, a_size = "column of a loss that a paper proposes", "network with a known number of parameters"
            say_missing(axes, f"{table.label} has no {a_loss if column is None else a_size}.")
    add_legend(figure, drawn)
    add_note(figure, [*_notes(tables), *far_baselines(tables)])
    headings = " ".join(table.heading for table in tables)
    both_sides = any(_spans_the_change(table) for table in tables)
    losses = dict.fromkeys(column.title for column in map(_proposed, tables) if column)
    shaded = f"Shaded: from {COMPACT_UP_TO:g}M to {LARGE_FROM:g}M the sign changes in the paper. " if both_sides else ""
    sizes_are = "as printed" if any(map(_any_size_printed, tables)) else "as counted"
    return Drawing(
        figure,
        f"{headings} Top-1 difference of {' and '.join(losses) or 'the loss'} from {baselines_of(tables)}, paired by "
        f"seed, in points: ours with its 95% interval ({HOLLOW}){and_the_papers(drawn)}, against the number of "
        f"parameters {sizes_are}. {shaded}"
        "The networks differ in more than size.",
        tuple(drawn),
        empty=not shows_ours(drawn),
    )


def spread_out(wishes: Sequence[float], gap: float) -> list[float]:
    """Places for rising ``wishes``, each at least ``gap`` after the one before, moved as little as that takes.

    Least squares under that constraint: pooling neighbours that touch (Ayer et al. 1955, Ann. Math. Stat. 26).
    """
    groups: list[list[float]] = []
    for wish in wishes:
        groups.append([wish])
        while len(groups) > 1 and _start(groups[-2], gap) + gap * len(groups[-2]) > _start(groups[-1], gap):
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_start(group, gap) + gap * index for group in groups for index in range(len(group))]


def _start(group: Sequence[float], gap: float) -> float:
    return fmean(wish - gap * index for index, wish in enumerate(group))


def _proposed(table: Recorded) -> Column | None:
    """The column of the loss that the paper proposes."""
    return next((column for column in table.compared if loss(column.loss).proposed), None)


def _printed(row: Row) -> float | None:
    return row.published.parameters_millions if row.published else None


def _sizes(table: Recorded) -> list[tuple[Row, float]]:
    """The networks by rising size in millions of parameters: printed, or counted if nothing is printed."""
    counted = {row.id: row.counted_parameters for row in table.shown.rows if row.table == table.table.id}
    sizes = [(row, _printed(row) or (counted.get(row.id) or 0) / 1e6) for row in table.table.rows]
    return sorted(((row, size) for row, size in sizes if size), key=lambda entry: entry[1])


def _any_size_printed(table: Recorded) -> bool:
    return any(_printed(row) for row in table.table.rows)


def _spans_the_change(table: Recorded) -> bool:
    """Whether there are networks on both sides of where Bias Loss sees the sign change; never for another paper."""
    sizes, papers = _sizes(table), (None, PAPERS["bias_loss"])
    if not sizes or table.table.paper not in papers:
        return False
    return sizes[0][1] <= COMPACT_UP_TO and sizes[-1][1] >= LARGE_FROM


def _panel(axes: Axes, table: Recorded, column: Column, sizes: Sequence[tuple[Row, float]]) -> Panel:
    look = series_of(table.table.columns)[column.id]
    smallest, largest = sizes[0][1] / 1.35, sizes[-1][1] * 1.35
    axes.set_title(shortened(table.label, TITLE_INCHES, font_points=7.5), pad=_NAMES_POINTS)
    axes.set_xscale("log")
    axes.set_xlim(smallest, largest)
    axes.set_xticks([tick for tick in _TICKS_MILLIONS if smallest <= tick <= largest])
    axes.xaxis.set_major_formatter("{x:g}M")
    axes.minorticks_off()
    axes.set(xlabel="parameters", ylabel=f"difference from\n{shortened(table.baseline, _AXIS_INCHES)} (points)")
    axes.axhline(0, color=MUTED, linewidth=0.6)
    axes.grid(True, axis="y")
    if _spans_the_change(table):
        axes.axvspan(COMPACT_UP_TO, LARGE_FROM, color=RULE, alpha=0.45, linewidth=0)
    results = [(row.title, table.result(row, column), size, look) for row, size in sizes]
    traces = draw_results(axes, results, upright=True)
    axes.margins(y=0.12)
    _name_networks(axes, sizes)
    return Panel(axes, table.label, "x", traces)


def _name_networks(axes: Axes, sizes: Sequence[tuple[Row, float]]) -> None:
    """The names along the top, moved apart, each with a thread down to its place."""
    low, high = (math.log(limit) for limit in axes.get_xlim())
    wishes = [(math.log(size) - low) / (high - low) for _, size in sizes]
    for (row, _), wish, place in zip(sizes, wishes, spread_out(wishes, _LABEL_GAP), strict=True):
        axes.plot([wish, wish, place], [0, 0.94, 1], transform=axes.transAxes, color=RULE, linewidth=0.5, zorder=0)
        name = shortened(row.title, _NAME_INCHES, font_points=6)
        axes.text(place, 1.01, name, transform=axes.transAxes, rotation=50, rotation_mode="anchor", fontsize=6)


def _notes(tables: Sequence[Recorded]) -> Iterator[str]:
    """Notes on missing networks, and on sizes that are counted rather than printed."""
    if any(_printed(row) is None for table in tables for row, _ in _sizes(table)):
        yield f"Parameters as counted{' where none are printed' if any(map(_any_size_printed, tables)) else ''}."
    for table in tables:
        column = _proposed(table)
        without = [row.title for row in table.table.rows if column and not table.result(row, column).delta]
        if without:
            whom = "any network" if len(without) == len(table.table.rows) else ", ".join(without)
            yield f"{table.label}: no pair of runs for {whom}."
