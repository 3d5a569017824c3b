r"""A table as a LaTeX ``table*`` that needs booktabs and nothing else, ready to ``\input``.

The output is ASCII, so that it compiles under every engine and input encoding.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from repro.tables.assembled import AssembledTable
from repro.tables.layout import (
    FIGURE_HEADING,
    Block,
    Entry,
    Line,
    blocks,
    caption,
    label,
    legend,
    usual_number_of_seeds,
)

# A page of two columns at 10 pt holds four losses; further ones go into a second tabular below the first.
_COLUMNS_A_PANEL = 4
_TITLE_WIDTH = 24
_HEADING_WIDTH = 16

_COMMANDS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "#": r"\#",
    "$": r"\$",
    "%": r"\%",
    "&": r"\&",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "\N{NO-BREAK SPACE}": "~",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "°": r"$^{\circ}$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "→": r"$\to$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "µ": r"$\mu$",
    "σ": r"$\sigma$",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": r"\`",
    "\N{COMBINING ACUTE ACCENT}": r"\'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": r"\^",
    "\N{COMBINING TILDE}": r"\~",
    "\N{COMBINING DIAERESIS}": r"\"",
    "\N{COMBINING CARON}": r"\v ",
    "\N{COMBINING CEDILLA}": r"\c ",
    "\N{COMBINING RING ABOVE}": r"\r ",
}


def render(tables: Sequence[AssembledTable], command: str) -> str:
    """All tables, each an environment of its own below comments that say where it is from."""
    return "\n".join(_environment(table, command) for table in tables)


def escape(text: str) -> str:
    """Text as LaTeX; between backticks as typewriter, breakable after punctuation."""
    parts = text.split("`")
    return "".join(_typewriter(part) if i % 2 else _text(part) for i, part in enumerate(parts))


def _environment(table: AssembledTable, command: str) -> str:
    usual_n = usual_number_of_seeds(table)
    body = blocks(table, usual_n=usual_n)
    panels = [slice(start, start + _COLUMNS_A_PANEL) for start in range(0, len(table.columns), _COLUMNS_A_PANEL)]
    anchor = re.sub(r"[^A-Za-z0-9.]+", "-", table.id)
    is_printed = table.kind == "paper" and table.comparable
    heading = caption(table) if is_printed else f"{label(table)}. {caption(table)}"
    between_panels = "  \\par\\medskip"
    lines = [
        *_comments(table, command),
        r"\begin{table*}",
        r"  \centering",
        rf"  \caption{{{escape(heading)}}}",
        rf"  \label{{tab:{anchor}}}",
        r"  \medskip",
        r"  \small" if len(table.columns) < _COLUMNS_A_PANEL else r"  \footnotesize",
        r"  \setlength{\tabcolsep}{5pt}",
    ]
    for index, panel in enumerate(panels):
        lines += [between_panels] * (index > 0) + list(_tabular(table, body, panel))
    lines += [r"  \par\smallskip", *_notes(table, usual_n), r"\end{table*}", ""]
    return "\n".join(lines)


def _comments(table: AssembledTable, command: str) -> list[str]:
    """Where the figures are from, as comments."""
    reasons = [one.why for one in table.left_out]
    why = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(reasons))
    return [
        f"% {_ascii(table.id)}: {table.recorded_runs} of {table.planned_runs} runs recorded"
        + (f"; left out of every mean: {why}" if why else ""),
        f"% produced by: {_ascii(command)}",
        r"% needs: \usepackage{booktabs}",
    ]


def _tabular(table: AssembledTable, body: Sequence[Block], panel: slice) -> Iterator[str]:
    columns = table.columns[panel]
    yield rf"  \begin{{tabular}}{{@{{}}l@{{\hspace{{8pt}}}}ll{'l' * len(columns)}@{{}}}}"
    yield r"    \toprule"
    wrapped = [_wrapped(heading.title, _HEADING_WIDTH) for heading in columns]
    height = max(len(lines) for lines in wrapped)
    stacked = [[*[""] * (height - len(lines)), FIGURE_HEADING, *lines] for lines in wrapped]
    for i in range(height + 1):
        first = ["Model", "", "Parameters"] if i == height else ["", "", ""]
        yield _row([_text(text) for text in (*first, *(lines[i] for lines in stacked))])
    yield r"    \midrule"
    for index, block in enumerate(body):
        if index:
            yield r"    \addlinespace"
        yield from _block(block, panel)
    yield r"    \bottomrule"
    yield r"  \end{tabular}"


def _block(block: Block, panel: slice) -> Iterator[str]:
    """A model's lines, with its title running down beside them."""
    title = [_text(text) for text in _wrapped(block.title, _TITLE_WIDTH)]
    title[-1] += _marks(block.marks)
    indent = r"\quad " if block.variant else ""
    blank = Line("", "", tuple(Entry("") for _ in block.lines[0].entries))
    for text, line in zip_longest(title, block.lines, fillvalue=None):
        line = line or blank
        figures = [_entry(entry) for entry in line.entries[panel]]
        yield _row([indent + text if text else "", _text(line.label), _text(line.parameters), *figures])


def _entry(entry: Entry) -> str:
    seeds = rf"\,{{\scriptsize $n{{=}}{entry.n}$}}" if entry.n else ""
    return _text(entry.figure).replace(r" $\pm$ ", r"\,$\pm$\,") + seeds + _marks(entry.marks)


def _notes(table: AssembledTable, usual_n: int | None) -> list[str]:
    texts = [escape(text) for text in legend(table, usual_n=usual_n)]
    notes = [(_marks((note.mark,)) + r"\," if note.mark else "") + escape(note.text) for note in table.notes]
    body = "\n    \\par\n".join(_filled(paragraph) for paragraph in [" ".join(texts), *notes])
    return [r"  \parbox{0.94\textwidth}{\scriptsize\raggedright", body, "  }"]


def _filled(paragraph: str) -> str:
    """A long paragraph over several lines of the source."""
    indent = "    "
    return textwrap.fill(
        paragraph, 110, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _marks(marks: Sequence[str]) -> str:
    return rf"\textsuperscript{{{_text(','.join(marks))}}}" if marks else ""


def _row(texts: Sequence[str]) -> str:
    return f"    {' & '.join(texts)} \\\\".replace("  &", " &")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, break_on_hyphens=False) or [""]


def _text(text: str) -> str:
    """Text in the font around it; a hyphen after a hyphen would become a dash."""
    return "".join(map(_character, text.replace("--", "-\N{ZERO WIDTH SPACE}-")))


def _typewriter(text: str) -> str:
    broken = re.sub(r"([^A-Za-z0-9 ])(?=[A-Za-z0-9])", "\\1\N{ZERO WIDTH SPACE}", text)
    return rf"\texttt{{{''.join(map(_character, broken))}}}"


def _character(character: str) -> str:
    if character == "\N{ZERO WIDTH SPACE}":
        return r"\allowbreak{}"
    if character in _COMMANDS:
        return _COMMANDS[character]
    if " " <= character <= "~":
        return character
    base, *accents = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS:
        return f"{_ACCENTS[accents[0]]}{{{base}}}".replace(" {", "{")
    return f"[U+{ord(character):04X}]"


def _ascii(text: str) -> str:
    """A comment's text: nothing in it may end the line or need an encoding."""
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())
