"""Tables as one self-contained HTML page, ruled like printed tables; all text is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape as escape_html

from repro.tables.layout import (
    DELTA,
    FIGURE_HEADING,
    INTERVAL,
    VERDICT,
    Block,
    Entry,
    blocks,
    caption,
    label,
    spans,
)
from repro.tables.legend import legend
from repro.tables.structure import AssembledTable

_STYLE = """\
  body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a; background: #fff;
         font: 15px/1.45 Georgia, "Times New Roman", serif; }
  section { margin-bottom: 3rem; overflow-x: auto; }
  table { border-collapse: collapse; border-top: 2px solid; border-bottom: 2px solid; white-space: nowrap;
          font-variant-numeric: tabular-nums lining-nums; }
  caption { text-align: left; white-space: normal; padding-bottom: .6rem; }
  thead th { border-bottom: 1px solid; vertical-align: bottom; }
  th, td { text-align: left; font-weight: normal; padding: .1rem 1.4rem .1rem 0; }
  tbody tr:first-child > * { padding-top: .45rem; vertical-align: top; }
  th[scope=rowgroup] { white-space: normal; min-width: 11rem; }
  .variant th[scope=rowgroup] { padding-left: 1.2rem; }
  .label, .n, .notes, .published td { color: #555; }
  .notes { font-size: 13px; margin: .6rem 0 0; padding: 0; list-style: none; }
  code { font-size: 90%; overflow-wrap: anywhere; }
  sup { line-height: 0; }"""

# The style of a line, by its label; the label of published figures is the source's.
_CLASSES = {"ours": "ours", "": "ours", DELTA: "delta", VERDICT: "verdict", INTERVAL: "verdict"}


def render(tables: Sequence[AssembledTable], command: str) -> str:
    """A whole page with every table, and the command that produced it at the end."""
    title = ", ".join(label(table) for table in tables)
    sections = "\n".join(line for table in tables for line in _section(table))
    return f"""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape_html(title)}</title>
<style>
{_STYLE}
</style>
</head>
<body>
{sections}
<p class="notes">Produced by <code>{escape_html(command)}</code>.</p>
</body>
</html>
"""


def escape(text: str) -> str:
    """Text with HTML's special characters escaped; between backticks as code."""
    return "".join(f"<code>{part}</code>" if is_code else part for part, is_code in spans(escape_html(text)))


def _section(table: AssembledTable) -> Iterator[str]:
    yield f'<section id="{escape_html(table.id)}">'
    yield "<table>"
    yield f"<caption><strong>{escape(label(table))}.</strong> {escape(caption(table))}</caption>"
    heads = "".join(f'<th scope="col">{FIGURE_HEADING}<br>{escape(heading.title)}</th>' for heading in table.columns)
    yield f'<thead><tr><th scope="col">Model</th><th></th><th scope="col">Parameters</th>{heads}</tr></thead>'
    for block in blocks(table):
        yield from _body(block, table.labs)
    yield "</table>"
    yield '<ul class="notes">'
    yield from (f"<li>{escape(text)}</li>" for text in legend(table))
    for note in table.notes:
        mark = f"{_marks((note.mark,))} " if note.mark else ""
        yield f"<li>{mark}{escape(note.text)}</li>"
    yield "</ul>"
    yield "</section>"


def _body(block: Block, labs: Sequence[str]) -> Iterator[str]:
    title = f'<th scope="rowgroup" rowspan="{len(block.lines)}">{escape(block.title)}{_marks(block.marks)}</th>'
    yield '<tbody class="variant">' if block.variant else "<tbody>"
    for line in block.lines:
        head = f'<th scope="row" class="label">{escape(line.label)}</th><td>{escape(line.parameters)}</td>'
        figures = "".join(f"<td>{_entry(entry)}</td>" for entry in line.entries)
        lab = line.label.removeprefix(f"{DELTA} ")
        kind = "published" if lab not in labs else "ours" if lab == line.label else "delta"
        kind = _CLASSES.get(line.label, kind)
        yield f'<tr class="{kind}">{title}{head}{figures}</tr>'
        title = ""  # the first line's cell spans them all
    yield "</tbody>"


def _entry(entry: Entry) -> str:
    seeds = f' <span class="n">(n={entry.n})</span>' if entry.n else ""
    number, rest = map(escape, entry.number_and_rest)
    figure = f"<b>{number}</b>{rest}" if entry.best else escape(entry.figure)
    return figure + seeds + _marks(entry.marks)


def _marks(marks: Sequence[str]) -> str:
    return f"<sup>{','.join(marks)}</sup>" if marks else ""
