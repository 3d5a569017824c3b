"""Assumptions and interpretations: the chapters of ``docs/reproducing.md``, so that there is one text only."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import count
from pathlib import Path

# Not assumptions: the report has its own claims and its own runs.
_LEFT_OUT = ("How far our cross-entropy is from the paper's", "What the paper claims")
_LINKS = ("link_open", "link_close", "image")


@dataclass(frozen=True)
class Chapter:
    """A chapter of the document: its heading, and its text as Markdown and as HTML without links."""

    heading: str
    markdown: str

    @property
    def html(self) -> str:
        """The text as HTML, its own headings from the fourth level on."""
        return _to_html(self.markdown, self.heading)


def reproducing_document() -> str:
    """The text of ``reproducing.md``: in an installed package, or in the docs of a checkout."""
    inside = Path(__file__).with_name("reproducing.md")
    return (inside if inside.is_file() else Path(__file__).parents[2] / "docs" / "reproducing.md").read_text("utf-8")


def chapters(text: str) -> list[Chapter]:
    """The chapters on assumptions and interpretations, in the document's order."""
    parts = re.split(r"^## +(.+)$", text, flags=re.MULTILINE)[1:]
    found = [Chapter(heading.strip(), body.strip()) for heading, body in zip(parts[::2], parts[1::2], strict=True)]
    return [chapter for chapter in found if chapter.heading not in _LEFT_OUT]


def assumed_settings(text: str) -> list[str]:
    """The table rows that are marked as assumptions, as ``chapter: what: choice``."""
    found = []
    for chapter in chapters(text):
        for line in chapter.markdown.splitlines():
            if line.startswith("|") and "**assumption" in line:
                what, choice, *_ = (cell.strip() for cell in line.strip("|").split("|"))
                found.append(f"{chapter.heading}: {what}: {choice}")
    return found


@cache
def _to_html(markdown: str, heading: str) -> str:
    from markdown_it import MarkdownIt

    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = renderer.parse(markdown)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1:]) + 1, 6)}"
        if token.children:
            # The page is self-contained: drop links, keep their words.
            token.children = [child for child in token.children if child.type not in _LINKS]
    html: str = renderer.renderer.render(tokens, renderer.options, {})
    html = html.replace("<th></th>", "<td></td>").replace("</table>", "</table></div>")
    numbers = count(1)
    frame = '<div class="wide" tabindex="0" role="region" aria-label="{}, table {}"><table>'
    return re.sub("<table>", lambda _: frame.format(escape(heading), next(numbers)), html)
