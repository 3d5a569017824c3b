"""Figures inside the page: SVG in the page's colours, and the values shown when pointing at them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any

from repro.figures import Drawing
from repro.figures.drawing import Panel
from repro.figures.style import BLUE, GREEN, INK, MUTED, ORANGE, PAPER, PURPLE, RULE, SKY, VERMILLION

_NAMES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "page",
    BLUE: "blue",
    VERMILLION: "vermillion",
    GREEN: "green",
    PURPLE: "purple",
    ORANGE: "orange",
    SKY: "sky",
}
_POINTS_PER_INCH = 72  # the units of matplotlib's SVG
_DRAWN_WITH_NUMBERS = ("d", "x", "y", "points", "transform", "width", "height")


@dataclass(frozen=True)
class InlineFigure:
    """A figure of the page: ``svg`` holds no script and no reference outside itself; ``readings`` is JSON data."""

    id: str
    title: str
    caption: str
    svg: str
    readings: list[dict[str, Any]]


def inline_figure(drawing: Drawing, figure_id: str, title: str) -> InlineFigure:
    """``drawing`` for the page; ``figure_id`` is unique in it."""
    svg = _svg(ET.fromstring(drawing.to_bytes("svg")), figure_id)  # first: drawing settles where the panels are
    return InlineFigure(figure_id, title, drawing.caption, svg, [_readings(drawing, panel) for panel in drawing.panels])


def _svg(root: ET.Element, figure_id: str) -> str:
    """The drawing without metadata or page-wide style, with unique ids and named colours."""
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    referred = {found for element in root.iter() for value in element.attrib.values() for found in _references(value)}
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _attribute(_local(key), value, figure_id) for key, value in element.items()}
        if element.get("id", "").removeprefix(f"{figure_id}-") not in referred:
            element.attrib.pop("id", None)
    root.attrib = {"viewBox": root.attrib["viewBox"], "aria-hidden": "true", "focusable": "false"}
    return ET.tostring(root, encoding="unicode")


def _attribute(name: str, value: str, figure_id: str) -> str:
    if name == "id":
        return f"{figure_id}-{value}"
    if name == "href":
        return value.replace("#", f"#{figure_id}-", 1)
    if name in _DRAWN_WITH_NUMBERS:
        return re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}", value)
    value = value.replace("url(#", f"url(#{figure_id}-")
    return re.sub("#[0-9a-f]{6}", lambda colour: themed(colour[0]), value)


def themed(colour: str) -> str:
    """The page's CSS variable for one of our colours, so that it follows light or dark mode."""
    return f"var(--{_NAMES[colour]})" if colour in _NAMES else colour


def _references(value: str) -> list[str]:
    return re.findall(r"url\(#([^)]+)\)", value) + ([value[1:]] if value.startswith("#") else [])


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _readings(drawing: Drawing, panel: Panel) -> dict[str, Any]:
    """A panel's place and its groups of values (trace, x, y, text) in reading order. SVG units."""
    height = drawing.figure.get_figheight() * _POINTS_PER_INCH
    scale = _POINTS_PER_INCH / drawing.figure.dpi

    def place(x: float, y: float) -> tuple[float, float]:
        return round(x * scale, 1), round(height - y * scale, 1)

    groups: dict[str, list[list[Any]]] = {}
    for index, trace in enumerate(panel.traces):
        for point in trace.points:
            x, y = panel.axes.transData.transform((point.x, point.y))
            groups.setdefault(point.group, []).append([index, *place(x, y), point.text])
    box = panel.axes.bbox
    across = 1 if panel.along == "x" else 2
    return {
        "title": panel.title,
        "along": panel.along,
        "box": [*place(box.x0, box.y1), *place(box.x1, box.y0)],
        "traces": [{"label": trace.label, "colour": themed(trace.colour)} for trace in panel.traces],
        "groups": sorted(groups.items(), key=lambda group: group[1][0][across]),
    }
