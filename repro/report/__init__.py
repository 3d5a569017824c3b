"""The report: an HTML page or a Markdown summary from the records. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from repro.report.contents import Report, gather_report
from repro.report.html_page import render_html
from repro.report.markdown_summary import render_markdown

__all__ = ["FORMATS", "SUFFIXES", "Report", "gather_report", "render_html", "render_markdown"]

# The second argument: the commands that reproduce the report.
FORMATS: dict[str, Callable[[Report, Sequence[str]], str]] = {"html": render_html, "markdown": render_markdown}
SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown"}
