"""Tables: what the records say beside what was published, and one renderer a format."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repro.tables import csv_format as delimited
from repro.tables import html_format as html
from repro.tables import json_format as data
from repro.tables import latex_format as latex
from repro.tables import markdown_format as markdown
from repro.tables.assemble import assemble
from repro.tables.gather import gather, modified_siblings, variants_of
from repro.tables.structure import METRICS, VERDICTS, AssembledTable, Metric, Verdicts

__all__ = [
    "METRICS",
    "RENDERERS",
    "SUFFIXES",
    "VERDICTS",
    "AssembledTable",
    "Metric",
    "Renderer",
    "Verdicts",
    "assemble",
    "gather",
    "modified_siblings",
    "variants_of",
]


# Tables to the text of one format; the second argument is the command that gives it, for formats that can say so.
Renderer = Callable[[Sequence[AssembledTable], str], str]

RENDERERS: dict[str, Renderer] = {
    "markdown": markdown.render,
    "latex": latex.render,
    "csv": delimited.render,
    "json": data.render,
    "html": html.render,
}

SUFFIXES = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".json": "json", ".html": "html"}
