r"""A table as a LaTeX ``table*`` that needs booktabs and nothing else, ready to ``\input``; siunitx is optional.

The output is ASCII, so that it compiles under every engine and input encoding.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest

from repro.tables.latex_fitting import Model, fit
from repro.tables.layout import (
    FIGURE_HEADING,
    MINUS,
    Block,
    Entry,
    Line,
    blocks,
    caption,
    label,
    legend,
    spans,
    usual_number_of_seeds,
)
from repro.tables.structure import AssembledTable

_SISETUP = r"  \sisetup{separate-uncertainty = true, retain-explicit-plus = true}"
_FIGURE = re.compile(rf"([+{MINUS}]?\d+(?:\.\d+)?(?: ± \d+(?:\.\d+)?)?)")
_TITLE_WIDTH = 24
_HEADING_WIDTH = 16

_COMMANDS = {
    "[": "{[}",  # bare, it would be an argument of the line's end before it; and so would the star
    "*": "{*}",
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "`": r"\`{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\symbol{34}",
    "\N{NO-BREAK SPACE}": "~",
    "\N{ZERO WIDTH SPACE}": r"\allowbreak{}",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "−": "$-$",
    "°": r"$^{\circ}$",
}
_COMMANDS |= {character: rf"\{character}" for character in "{}#$%&_"}
# each character before the name of its command
_SYMBOLS = "†dagger ‡ddagger ±pm ×times ·cdot ≤le ≥ge →to ΔDelta αalpha βbeta γgamma λlambda μmu µmu σsigma"
_COMMANDS |= {named[0]: rf"$\{named[1:]}$" for named in _SYMBOLS.split()}
_LETTERS = "ßss øo ØO æae ÆAE łl ŁL"
_COMMANDS |= {named[0]: rf"\{named[1:]}{{}}" for named in _LETTERS.split()}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": r"\`",
    "\N{COMBINING ACUTE ACCENT}": r"\'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": r"\^",
    "\N{COMBINING TILDE}": r"\~",
    "\N{COMBINING DIAERESIS}": r"\"",
    "\N{COMBINING CARON}": r"\v",
    "\N{COMBINING CEDILLA}": r"\c",
    "\N{COMBINING RING ABOVE}": r"\r",
}


def render(tables: Sequence[AssembledTable], command: str, *, siunitx: bool = False) -> str:
    r"""All tables, each in its own environment, with comments on how it was produced.

    With ``siunitx`` every number is a ``\num``, formatted by the document's ``\sisetup``.
    """
    return "\n".join(_environment(table, command, _num_entry if siunitx else _entry) for table in tables)


def escape(text: str) -> str:
    """Text as LaTeX; between backticks as typewriter, breakable after punctuation."""
    return "".join(_typewriter(part) if is_code else _text(part) for part, is_code in spans(text))


def _environment(table: AssembledTable, command: str, entry: Callable[[Entry], str]) -> str:
    usual_n = usual_number_of_seeds(table)
    body = blocks(table, usual_n=usual_n)
    titles = [_wrapped(block.title, _TITLE_WIDTH) for block in body]
    models = list(zip(body, titles, strict=True))
    headings = [[FIGURE_HEADING, *_wrapped(heading.title, _HEADING_WIDTH)] for heading in table.columns]
    fitting = fit(models, headings)
    anchor = re.sub(r"[^A-Za-z0-9.]+", "-", table.id)
    is_printed = table.kind == "paper" and table.comparable
    heading = caption(table) if is_printed else f"{label(table)}. {caption(table)}"
    packages, setup = ("booktabs, siunitx", [_SISETUP]) if entry is _num_entry else ("booktabs", [])
    lines = [
        *_comments(table, command),
        rf"% needs: \usepackage{{{packages}}}",
        r"\begin{table*}",
        r"  \centering",
        *setup,
        rf"  \caption{{{escape(heading)}}}",
        rf"  \label{{tab:{anchor}}}",
        r"  \medskip",
        rf"  {fitting.size}",
        rf"  \setlength{{\tabcolsep}}{{{fitting.separation_points:g}pt}}",
    ]
    for panel in fitting.panels:
        lines += [*_tabular(models, headings, panel, entry), r"  \par\smallskip"]
    lines += [*_notes(table, usual_n), r"\end{table*}", ""]
    return "\n".join(lines)


def _comments(table: AssembledTable, command: str) -> list[str]:
    """How the numbers were produced, as LaTeX comments."""
    recorded = f"% {_ascii(table.id)}: {table.recorded_runs} of {table.planned_runs} runs recorded"
    reasons = Counter(record.why for record in table.left_out)
    if reasons:
        recorded += f"; left out of every mean: {', '.join(f'{count} {why}' for why, count in reasons.items())}"
    return [recorded, f"% produced by: {_ascii(command)}"]


def _tabular(
    models: Sequence[Model], headings: Sequence[Sequence[str]], panel: slice, entry: Callable[[Entry], str]
) -> Iterator[str]:
    """The models' lines under the columns of one panel."""
    columns = [["Model"], [""], ["Parameters"], *headings[panel]]
    height = max(map(len, columns))
    stacked = [[*[""] * (height - len(lines)), *lines] for lines in columns]
    yield rf"  \begin{{tabular}}{{@{{}}{'l' * len(columns)}@{{}}}}"
    yield r"    \toprule"
    for texts in zip(*stacked, strict=True):
        yield _row(map(_text, texts))
    yield r"    \midrule"
    for index, (block, title) in enumerate(models):
        if index:
            yield r"    \addlinespace"
        yield from _block(block, title, panel, entry)
    yield r"    \bottomrule"
    yield r"  \end{tabular}"


def _block(block: Block, title_lines: Sequence[str], panel: slice, entry: Callable[[Entry], str]) -> Iterator[str]:
    """A model's lines, with its title running down beside them."""
    title = [_text(text) for text in title_lines]
    title[-1] += _marks(block.marks)
    indent = r"\quad " if block.variant else ""
    blank = Line("", "", (Entry(""),) * len(block.lines[0].entries))
    for text, line in zip_longest(title, block.lines):
        line = line or blank
        figures = [entry(figure) for figure in line.entries[panel]]
        yield _row([indent + text if text else "", _text(line.label), _text(line.parameters), *figures])


def _entry(entry: Entry) -> str:
    seeds = rf"\,{{\scriptsize $n{{=}}{entry.n}$}}" if entry.n else ""
    return _text(entry.figure).replace(r" $\pm$ ", r"\,$\pm$\,") + seeds + _marks(entry.marks)


def _num_entry(entry: Entry) -> str:
    """The entry with its numbers and uncertainties as siunitx numbers."""
    parts = _FIGURE.split(entry.figure)  # text, figure, text, figure, ... text
    parts[::2] = map(_text, parts[::2])
    parts[1::2] = (rf"\num{{{figure.replace(MINUS, '-')}}}".replace("±", r"\pm") for figure in parts[1::2])
    return "".join(parts) + _entry(Entry("", entry.n, entry.marks))


def _notes(table: AssembledTable, usual_n: int | None) -> list[str]:
    texts = [escape(text) for text in legend(table, usual_n=usual_n)]
    paragraphs = [" ".join(texts)]
    for note in table.notes:
        mark = _marks((note.mark,)) + r"\," if note.mark else ""
        paragraphs.append(mark + escape(note.text))
    filled = (textwrap.fill(text, 106, break_long_words=False, break_on_hyphens=False) for text in paragraphs)
    body = textwrap.indent("\n\\par\n".join(filled), "    ")
    return [r"  \parbox{0.94\textwidth}{\scriptsize\raggedright", body, "  }"]


def _marks(marks: Sequence[str]) -> str:
    return rf"\textsuperscript{{{_text(','.join(marks))}}}" if marks else ""


def _row(texts: Iterable[str]) -> str:
    return f"    {' & '.join(texts)} \\\\".replace("  &", " &")


def _wrapped(text: str, width: int) -> list[str]:
    """The lines of a title. Characters LaTeX cannot set are replaced first, so that their width counts."""
    settable = "".join(character if _command(character) else _code_point(character) for character in text)
    return textwrap.wrap(settable, width, break_on_hyphens=False) or [""]


def _text(text: str) -> str:
    """Text in the font around it; a hyphen after a hyphen would become a dash."""
    return "".join(map(_character, text.replace("--", "-\N{ZERO WIDTH SPACE}-")))


def _typewriter(text: str) -> str:
    broken = re.sub(r"([^A-Za-z0-9 ])(?=[A-Za-z0-9])", "\\1\N{ZERO WIDTH SPACE}", text)
    return rf"\texttt{{{''.join(map(_character, broken))}}}"


def _character(character: str) -> str:
    return _command(character) or rf"{{{_code_point(character)}}}\allowbreak{{}}"


def _command(character: str) -> str | None:
    """What sets ``character``; None if pdfTeX's first fonts do not have it and no accent makes it."""
    if character in _COMMANDS:
        return _COMMANDS[character]
    if " " <= character <= "~":
        return character
    base, *accents = list(unicodedata.normalize("NFD", character))
    if base.isascii() and base.isalpha() and len(accents) == 1 and accents[0] in _ACCENTS:
        return f"{_ACCENTS[accents[0]]}{{{base}}}"
    return None


def _code_point(character: str) -> str:
    return f"[U+{ord(character):04X}]"


def _ascii(text: str) -> str:
    """A comment's text: nothing in it may end the line or need an encoding."""
    return " ".join(text.encode("ascii", "backslashreplace").decode().split())
