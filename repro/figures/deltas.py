"""Our differences from the baseline with their intervals, each beside the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from repro.analysis.cell import CellResult, Delta
from repro.experiment.schema import Column, Row
from repro.figures.drawing import Drawing, Panel, Point, Trace, add_note, new_figure, say_missing, shortened
from repro.figures.recorded import Recorded, baselines_beside_the_papers, baselines_of
from repro.figures.style import COLUMN_INCHES, INK, MUTED, PAPER, TITLE_INCHES, Series, series_of
from repro.tables.layout import interval
from repro.wording import signed

_LINE_INCHES, _NAME_INCHES, _AXIS_INCHES = 0.15, 1.35, 1.6
_APART = 0.22  # the paper's figure above the middle of a line and ours below, in lines, where there are both
_WORDS = 28  # characters of a line beside the panel
_DIAMOND: dict[str, Any] = {"marker": "D", "markersize": 4, "markerfacecolor": "none"}

HOLLOW = "hollow, without interval, below three seeds or if they all agree"  # what a caption says of our points

_Line = tuple[str, Row, Column | None]  # its label and its cell; without a column, it is a network's name


def draw(tables: Sequence[Recorded]) -> Drawing:
    """A panel for each table, a line for each cell: the paper's delta a diamond, ours a point with its 95% interval."""
    lines_of, against = [_lines(table) for table in tables], baselines_of(tables)
    heights = [max(len(lines), 4) for lines in lines_of]
    figure = new_figure(COLUMN_INCHES, _LINE_INCHES * sum(heights) + 0.45 * len(tables) + 0.6)
    all_axes = figure.subplots(len(tables), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    drawn = []
    for axes, table, lines in zip(all_axes, tables, lines_of, strict=True):
        if lines:
            drawn.append(_panel(axes, table, lines))
        else:
            say_missing(axes, f"{table.label} has no loss other than {table.baseline}.")
    all_axes[-1].set_xlabel(f"difference from {shortened(against, _AXIS_INCHES)}\n(points of top-1)")
    add_legend(figure, drawn)
    add_note(figure, far_baselines(tables))
    headings = " ".join(table.heading for table in tables)
    caption = (
        f"{headings} Top-1 difference from {against}, paired by seed, in points: ours with its 95% interval, not "
        f"adjusted for the number of differences ({HOLLOW}){and_the_papers(drawn)}."
    )
    declared = [f"{table.label}: {table.declared.words}." for table in tables if table.declared]
    if declared:
        caption = " ".join([caption, "Intervals hold at all interim analyses together.", *declared])
    return Drawing(figure, caption, tuple(drawn), empty=not shows_ours(drawn))


def delta_text(delta: Delta) -> str:
    """``+0.61 (+0.42 to +0.80), n = 5``; without an interval if there is none."""
    ends = "" if delta.low is None or delta.high is None else f" ({interval(delta.low, delta.high)})"
    return f"{signed(delta.mean, 2)}{ends}, n = {delta.n}"


def draw_results(
    axes: Axes, results: Sequence[tuple[str, CellResult, float, Series]], *, upright: bool = False
) -> tuple[Trace, Trace]:
    """Named results, each at its place on the y axis, or ``upright`` on the x axis; returns our points and the paper's.

    The paper's delta is a diamond. Ours is a point with its interval, hollow if it has none.
    """
    ours, paper = [], []
    for name, result, place, look in results:
        delta, printed = result.delta, result.paper_delta
        apart = _APART if delta and printed is not None else 0
        if printed is not None:
            x, y = (place, printed) if upright else (printed, place - apart)
            # Not clipped: in the first line of a panel it stands at the edge.
            axes.plot([x], [y], color=INK, markeredgewidth=0.8, zorder=3, clip_on=False, **_DIAMOND)
            paper.append(Point(x, y, name, signed(printed, 2)))
        if delta:
            x, y = (place, delta.mean) if upright else (delta.mean, place + apart)
            face = PAPER
            if delta.low is not None and delta.high is not None:
                face, ends = look.colour, [delta.low, delta.high]
                axes.plot(*(([x, x], ends) if upright else (ends, [y, y])), color=look.colour, linewidth=1.3)
            axes.plot([x], [y], marker=look.marker, markersize=4, markerfacecolor=face, color=look.colour)
            ours.append(Point(x, y, name, delta_text(delta)))
    if not (ours or paper):
        set_limits = axes.set_ylim if upright else axes.set_xlim
        set_limits(-1.5, 1.5)
    return Trace("ours", results[0][3].colour, tuple(ours)), Trace("paper", INK, tuple(paper))


def add_legend(figure: Figure, panels: Sequence[Panel]) -> None:
    """What the points of ``draw_results`` are, if there is any panel of them."""
    handles = [Line2D([], [], color=INK, marker="o", markersize=4, linewidth=1.3, label="ours, 95% interval")]
    if and_the_papers(panels):
        handles.append(Line2D([], [], color=INK, linestyle="none", label="paper", **_DIAMOND))
    if panels:
        figure.legend(handles=handles, loc="outside upper right", ncols=2)


def shows_ours(panels: Sequence[Panel]) -> bool:
    """Whether any of these panels shows a difference of ours."""
    return _shown(panels, "ours")


def and_the_papers(panels: Sequence[Panel]) -> str:
    """What a caption adds if any of these panels shows a published difference."""
    return " and the paper's" if _shown(panels, "paper") else ""


def _shown(panels: Sequence[Panel], label: str) -> bool:
    return any(trace.label == label and trace.points for panel in panels for trace in panel.traces)


def _lines(table: Recorded) -> list[_Line]:
    lines: list[_Line] = []
    for row in table.table.rows:
        if len(table.compared) == 1:
            lines.append((row.title, row, table.compared[0]))
        elif table.compared:
            lines.append((row.title, row, None))
            lines += [(column.title, row, column) for column in table.compared]
    return lines


def _panel(axes: Axes, table: Recorded, lines: Sequence[_Line]) -> Panel:
    looks = series_of(table.table.columns)
    axes.set_title(shortened(table.label, TITLE_INCHES - _NAME_INCHES, font_points=7.5))
    axes.set_ylim(len(lines) - 0.5, -0.5)
    weights = ["bold" if column is None else "normal" for _, _, column in lines]
    names = [shortened(line[0], _NAME_INCHES, weight=weight) for line, weight in zip(lines, weights, strict=True)]
    axes.set_yticks(range(len(lines)), names)
    axes.tick_params(axis="y", length=0)
    axes.axvline(0, color=MUTED, linewidth=0.6)
    axes.grid(True, axis="x")
    axes.spines["left"].set_visible(False)
    results = []
    for place, ((_, row, column), label) in enumerate(zip(lines, axes.get_yticklabels(), strict=True)):
        if column is None:
            label.set_fontweight("bold")
            continue
        result = table.result(row, column)
        results.append((f"{row.title}, {column.title}", result, place, looks[column.id]))
        outcome = (result.verdict_words or "") if result.delta else "no pair of runs"
        # A qualified verdict has two smaller lines, so that it leaves room for the differences.
        points = 6 if len(outcome) < _WORDS else 5
        words = fill(outcome, _WORDS)
        axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), va="center", fontsize=points, linespacing=1)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    return Panel(axes, table.label, "y", draw_results(axes, results))


def far_baselines(tables: Sequence[Recorded]) -> list[str]:
    """A note on networks whose accuracy under the baseline is far from the printed one."""
    far = baselines_beside_the_papers(tables, far=True)
    return [f"Our {baselines_of(tables)} is more than a point from the paper's: {', '.join(far)}."] if far else []
