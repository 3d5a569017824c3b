"""Tables: recorded results beside the published ones, and one renderer for each format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repro.tables import csv_format, html_format, json_format, latex_format, markdown_format
from repro.tables.assemble import assemble
from repro.tables.gather import gather, modified_siblings
from repro.tables.labs import lab_names, side_by_side
from repro.tables.part import Part
from repro.tables.structure import VERDICTS, AssembledTable, Verdicts

__all__ = [
    "RENDERERS",
    "SUFFIXES",
    "VERDICTS",
    "AssembledTable",
    "Part",
    "Renderer",
    "Verdicts",
    "assemble",
    "gather",
    "lab_names",
    "modified_siblings",
    "side_by_side",
]


# From tables, and the command that made them (for formats with a place for it), to text.
Renderer = Callable[[Sequence[AssembledTable], str], str]

RENDERERS: dict[str, Renderer] = {
    "markdown": markdown_format.render,
    "latex": latex_format.render,
    "csv": csv_format.render,
    "json": json_format.render,
    "html": html_format.render,
}

SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
