"""Counts, sizes, times and differences in words, and text that is safe to show."""

from __future__ import annotations

import shlex
import unicodedata
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

MINUS = "−"

# Invisible, and harmless: they join letters in Persian and Indic scripts, and parts of emoji.
_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
_FORMULA_SIGNS = tuple("=+-@\t\r＝＋－＠")
_UNITS_OF_TIME = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))  # with their seconds
_MANY_DAYS = 100  # hours beside so many days say nothing
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 run``, ``2,000 runs``; ``plural`` is the noun with an s unless given."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def readable_size(count: float) -> str:
    """A number of bytes in decimal units: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float | None) -> str:
    """Seconds, readable: ``42 s``, ``3 min 39 s``, ``1 h 20 min``, ``2 d 4 h``, ``1,700 d``; a dash for None.

    Every time that a person reads has this form: the largest unit and the next one, rounded to that.
    """
    if seconds is None:
        return "–"
    seconds = max(0.0, seconds)  # clocks of two machines differ
    for (unit, length), (finer, finer_length) in pairwise(_UNITS_OF_TIME):
        count, rest = divmod(round(seconds / finer_length), length // finer_length)
        if count:
            return f"{count:,} {unit} {rest} {finer}" if rest and count < _MANY_DAYS else f"{count:,} {unit}"
    return "under 1 s" if 0 < seconds < 0.5 else f"{round(seconds)} s"


def device_hours(hours: float) -> str:
    """Core-hours or GPU-hours, to what can be known of them: ``1,542``, ``4.3``, ``0.095``, ``under 0.001``."""
    if hours >= 1:
        return f"{hours:,.0f}" if hours >= 100 else f"{hours:.1f}"
    return f"{hours:.2g}" if hours >= 0.001 else "under 0.001"


def signed(points: float, decimals: int = 2) -> str:
    """A number with its sign; what rounds to zero counts as positive."""
    return f"{points:+z.{decimals}f}".replace("-", MINUS)


def decimals_printed(accuracies: Iterable[float]) -> int:
    """The decimals of the most precise of these printed accuracies, at least one: a paper drops a decimal of zero."""
    return max((len(f"{value:g}".partition(".")[2]) for value in accuracies), default=1) or 1


def printable(text: str, *, keep: str = "\n\t") -> str:
    """``text`` with whatever controls a terminal or is invisible as an escape, ``\\x1b``, except ``keep``.

    A byte of a file's name that is no UTF-8 becomes ``\\xff``.
    """
    if text.isprintable():
        return text
    return "".join(c if c in keep + _JOINERS or _is_visible(c) else _escaped(c) for c in text)


def in_utf8(text: str) -> str:
    """``text`` as a file in UTF-8 can hold it: a byte of a file's name that is no UTF-8 becomes ``\\xff``."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def one_line(text: str) -> str:
    """``text`` as ``printable`` has it, on one line: nothing in it can look like a line of its own."""
    return printable(text, keep="")


def shell_line(words: Iterable[str]) -> str:
    """The words of a command as a shell reads them, on one line: a line's end in one of them as ``$'\\n'``."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if one_line(word) == word:
        return shlex.quote(word)
    return "$'" + one_line(word.replace("\\", r"\\").replace("'", r"\'")) + "'"


def spreadsheet_text(value: Any) -> Any:
    """A field of a CSV file; a text that a spreadsheet would run as a formula gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA_SIGNS else value


def _is_visible(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] != "C" and category not in ("Zl", "Zp")


def _escaped(character: str) -> str:
    is_byte = "\udc80" <= character <= "\udcff"  # how Python keeps one in a name
    if character in _SHORT:
        return _SHORT[character]
    if is_byte or character < "\x80":
        return f"\\x{ord(character) & 0xFF:02x}"
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"
