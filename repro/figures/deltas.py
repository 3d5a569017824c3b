"""Our differences from cross-entropy with their intervals, each beside the paper's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from repro.analysis.assessment import CellResult, Delta
from repro.experiment.schema import BASELINE, Column, Row
from repro.figures.drawing import Drawing, Panel, Point, Trace, add_note, new_figure, say_missing
from repro.figures.recorded import Recorded
from repro.figures.style import COLUMN_INCHES, INK, MUTED, PAPER, Series, series_of
from repro.tables.layout import interval, signed

_LINE_INCHES = 0.15
PRINTED_TOO = " and the paper's"
_ABOVE, _BELOW = -0.2, 0.16  # the paper's figure and ours, apart, in lines


@dataclass(frozen=True)
class _Line:
    """A line of the figure: a network's name (no column), or one of its cells."""

    label: str
    row: Row
    column: Column | None


def draw(tables: Sequence[Recorded]) -> Drawing:
    """A panel for each table, a line for each cell: the paper's delta a diamond, ours a point with its 95% interval."""
    lines = [list(_lines(table)) for table in tables]
    heights = [max(len(of_table), 4) for of_table in lines]
    figure = new_figure(COLUMN_INCHES, _LINE_INCHES * sum(heights) + 0.45 * len(tables) + 0.5)
    all_axes = figure.subplots(len(tables), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    drawn = [
        _panel(axes, table, of_table) for axes, table, of_table in zip(all_axes, tables, lines, strict=True) if of_table
    ]
    for axes, table, of_table in zip(all_axes, tables, lines, strict=True):
        if not of_table:
            say_missing(axes, f"{table.label} has no loss other than cross-entropy.")
    all_axes[-1].set_xlabel("difference from cross-entropy (points of top-1)")
    printed = any_printed(drawn)
    if drawn:
        add_legend(figure, printed=printed)
    add_note(figure, _far_baselines(tables))
    headings = " ".join(table.heading for table in tables)
    whose = f"ours with its 95% interval (hollow, without interval, below three seeds){PRINTED_TOO if printed else ''}"
    declared = "".join(f" {table.label}: {table.declared.words}." for table in tables if table.declared)
    return Drawing(
        figure,
        f"{headings} Top-1 difference from cross-entropy, paired by seed, in points: {whose}."
        f"{declared and f' Intervals hold at all interim analyses together.{declared}'}",
        tuple(drawn),
    )


def delta_text(delta: Delta) -> str:
    """``+0.61 (+0.42 to +0.80), n = 5``; without an interval where there is none."""
    ends = "" if delta.low is None or delta.high is None else f" ({interval(delta.low, delta.high)})"
    return f"{signed(delta.mean, 2)}{ends}, n = {delta.n}"


def draw_delta(axes: Axes, delta: Delta, at: float, look: Series, *, upright: bool = False) -> None:
    """A point with its interval at ``at``, along x, or upright along y; hollow where there is no interval."""
    ends = None if delta.low is None or delta.high is None else (delta.low, delta.high)
    if ends:
        there, across = ([at, at], list(ends))
        axes.plot(*((there, across) if upright else (across, there)), color=look.colour, linewidth=1.3)
    place = (at, delta.mean) if upright else (delta.mean, at)
    face = look.colour if ends else PAPER
    axes.plot(*([value] for value in place), marker=look.marker, markersize=4, markerfacecolor=face, color=look.colour)


def draw_printed(axes: Axes, x: float, y: float) -> None:
    """The paper's figure: a hollow diamond."""
    axes.plot([x], [y], marker="D", markersize=4, markerfacecolor="none", color=INK, markeredgewidth=0.8, zorder=3)


def add_legend(figure: Figure, *, printed: bool) -> None:
    """What the points of ``draw_delta`` and, where there are any, ``draw_printed`` are."""
    ours = Line2D([], [], color=INK, marker="o", markersize=4, linewidth=1.3, label="ours, 95% interval")
    paper = Line2D([], [], color=INK, marker="D", markersize=4, markerfacecolor="none", linestyle="none", label="paper")
    figure.legend(handles=[ours, paper] if printed else [ours], loc="outside upper right", ncols=2)


def any_printed(panels: Sequence[Panel]) -> bool:
    """Whether any of these panels shows a published difference."""
    return any(trace.label == "paper" and trace.points for panel in panels for trace in panel.traces)


def _lines(table: Recorded) -> Iterator[_Line]:
    for row in table.table.rows:
        if len(table.compared) == 1:
            yield _Line(row.title, row, table.compared[0])
        elif table.compared:
            yield _Line(row.title, row, None)
            yield from (_Line(column.title, row, column) for column in table.compared)


def _panel(axes: Axes, table: Recorded, lines: Sequence[_Line]) -> Panel:
    looks = series_of(table.table.columns)
    axes.set_title(table.label)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_yticks(range(len(lines)), [line.label for line in lines])
    axes.tick_params(axis="y", length=0)
    for tick, line in zip(axes.get_yticklabels(), lines, strict=True):
        tick.set_fontweight("bold" if line.column is None else "normal")
    axes.axvline(0, color=MUTED, linewidth=0.6)
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    ours, printed = [], []
    for at, line in enumerate(lines):
        if line.column is None:
            continue
        result, name = table.result(line.row, line.column), f"{line.row.title}, {line.column.title}"
        if result.paper_delta is not None:
            draw_printed(axes, result.paper_delta, at + _ABOVE)
            printed.append(Point(result.paper_delta, at + _ABOVE, name, signed(result.paper_delta, 2)))
        if result.delta:
            draw_delta(axes, result.delta, at + _BELOW, looks[line.column.id])
            ours.append(Point(result.delta.mean, at + _BELOW, name, delta_text(result.delta)))
        axes.text(1.02, at, _outcome(result), transform=axes.get_yaxis_transform(), va="center", fontsize=6)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    if not (ours or printed):
        axes.set_xlim(-1.5, 1.5)
    traces = (Trace("ours", looks[table.compared[0].id].colour, tuple(ours)), Trace("paper", INK, tuple(printed)))
    return Panel(axes, table.label, "y", traces)


def _outcome(result: CellResult) -> str:
    """The word at the end of a line."""
    if result.delta is None:
        return "no pair of runs"
    return result.verdict.value if result.verdict else ""


def _far_baselines(tables: Sequence[Recorded]) -> list[str]:
    """A note on networks whose cross-entropy accuracy is far from the printed one."""
    far = [
        f"{row.title} ({table.label}, {signed(offset, 1)})"
        for table in tables
        for row in table.table.rows
        if (result := table.assessment.cells[table.table.id, row.id, BASELINE]).baseline_is_far
        and (offset := result.baseline_offset) is not None
    ]
    return [f"Our cross-entropy is more than a point from the paper's: {', '.join(far)}."] if far else []
