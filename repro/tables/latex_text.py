r"""Text as LaTeX that needs no package: escaped, and as ASCII, so that every engine and input encoding sets it.

Characters are put into their composed form first. Greek, arrows, superscripts and the letters of European names are
commands; a character that the first fonts do not have is shown as its code point, which is never broken.
"""

from __future__ import annotations

import re
import unicodedata

from repro.tables.layout import spans

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
_SYMBOLS = (
    "†dagger ‡ddagger ±pm ×times ÷div ·cdot ≤le ≥ge ≠ne ≈approx ∞infty ∂partial √surd ∑sum µmu "
    "←leftarrow →to ↑uparrow ↓downarrow ↔leftrightarrow ⇐Leftarrow ⇒Rightarrow ⇔Leftrightarrow ↦mapsto "
    "⟵longleftarrow ⟶longrightarrow ↗nearrow ↘searrow ↙swarrow ↖nwarrow "
    "αalpha βbeta γgamma δdelta εvarepsilon ϵepsilon ζzeta ηeta θtheta ϑvartheta ιiota κkappa λlambda μmu νnu ξxi πpi "
    "ϖvarpi ρrho ϱvarrho σsigma ςvarsigma τtau υupsilon φvarphi ϕphi χchi ψpsi ωomega "
    "ΓGamma ΔDelta ΘTheta ΛLambda ΞXi ΠPi ΣSigma ΥUpsilon ΦPhi ΨPsi ΩOmega"
)
_COMMANDS |= {named[0]: rf"$\{named[1:]}$" for named in _SYMBOLS.split()}
_COMMANDS |= dict(zip("ΑΒΕΖΗΙΚΜΝΟοΡΤΧ", "ABEZHIKMNOoPTX", strict=True))  # Greek letters without commands
_LETTERS = "ßss øo ØO æae ÆAE œoe ŒOE łl ŁL ıi ȷj"
_COMMANDS |= {named[0]: rf"\{named[1:]}{{}}" for named in _LETTERS.split()}
# Letters that the first fonts lack, put together from those that they have.
_COMMANDS |= {
    "đ": r"d\llap{\raisebox{.5ex}{-}}",
    "Đ": r"\rlap{\raisebox{.1ex}{-}}D",
    "ð": r"d\llap{\raisebox{.5ex}{-}}",
    "Ð": r"\rlap{\raisebox{.1ex}{-}}D",
    "ħ": r"\rlap{\raisebox{.5ex}{-}}h",
    "þ": r"\rlap{b}p",
    "Þ": r"\rlap{I}\raisebox{-.25ex}{P}",
    "ŋ": r"n\llap{\raisebox{-.25ex}{j}}",
    "Ħ": r"\rlap{\raisebox{.6ex}{--}}H",
    "Ŋ": r"N\llap{\raisebox{-.25ex}{\j{}}}",
    "ẞ": "SS",
}
_ACCENTS = {
    "\N{COMBINING GRAVE ACCENT}": r"\`",
    "\N{COMBINING ACUTE ACCENT}": r"\'",
    "\N{COMBINING CIRCUMFLEX ACCENT}": r"\^",
    "\N{COMBINING TILDE}": r"\~",
    "\N{COMBINING MACRON}": r"\=",
    "\N{COMBINING BREVE}": r"\u",
    "\N{COMBINING DOT ABOVE}": r"\.",
    "\N{COMBINING DIAERESIS}": r"\"",
    "\N{COMBINING RING ABOVE}": r"\r",
    "\N{COMBINING DOUBLE ACUTE ACCENT}": r"\H",
    "\N{COMBINING CARON}": r"\v",
    "\N{COMBINING DOT BELOW}": r"\d",
    "\N{COMBINING COMMA BELOW}": r"\c",
    "\N{COMBINING CEDILLA}": r"\c",
    "\N{COMBINING MACRON BELOW}": r"\b",
}
_MATH_ACCENTS = {"\N{COMBINING ACUTE ACCENT}": r"\acute", "\N{COMBINING DIAERESIS}": r"\ddot"}
_COMPATIBLE = {"<super>": r"\textsuperscript", "<sub>": r"\textsubscript", "<fraction>": "", "<compat>": ""}
_COMMANDS["\N{FRACTION SLASH}"] = "/"
_OGONEK = "\N{COMBINING OGONEK}"
# A character with the marks on it.
_CHARACTER = re.compile(r".[\u0300-\u036f]*", re.DOTALL)


def escape(text: str) -> str:
    """Text as LaTeX; between backticks as typewriter, breakable after punctuation."""
    return "".join(_typewriter(part) if is_code else plain_text(part) for part, is_code in spans(text))


def wrapped(text: str, width: int) -> list[str]:
    """The lines of a title. What LaTeX cannot set is replaced first, so that its width counts; it is never broken."""
    lines = [""]
    for word in text.split():
        units = [unit if _command(unit) else _code_point(unit) for unit in _characters(word)]
        if lines[-1] and len(lines[-1]) + 1 + sum(map(len, units)) > width:
            lines.append("")
        lines[-1] += " " if lines[-1] else ""
        for unit in units:
            if len(lines[-1]) + len(unit) > max(width, len(unit)):
                lines.append("")
            lines[-1] += unit
    return lines


def plain_text(text: str) -> str:
    """Text in the font around it; a hyphen after a hyphen would become a dash."""
    return "".join(map(_character, _characters(text.replace("--", "-\N{ZERO WIDTH SPACE}-"))))


def _typewriter(text: str) -> str:
    broken = re.sub(r"([^A-Za-z0-9 ])(?=[A-Za-z0-9])", "\\1\N{ZERO WIDTH SPACE}", text)
    return rf"\texttt{{{''.join(map(_typewritten, _characters(broken)))}}}"


def _typewritten(character: str) -> str:
    """A character of typewriter text; letters with accents in roman, whose first font has all accents."""
    is_accented = character.isalpha() and not character.isascii() and _command(character) is not None
    return rf"\textrm{{{_character(character)}}}" if is_accented else _character(character)


def _characters(text: str) -> list[str]:
    """The characters of ``text``, each with its marks if it can be set with them."""
    found = _CHARACTER.findall(unicodedata.normalize("NFC", text))
    return [part for whole in found for part in ([whole] if _command(whole) else whole)]


def _character(character: str) -> str:
    return _command(character) or rf"{{{_code_point(character)}}}\allowbreak{{}}"


def _command(character: str) -> str | None:
    """What sets ``character``, with its marks; None if pdfTeX's first fonts do not have it and no accent makes it."""
    if character in _COMMANDS:
        return _COMMANDS[character]
    if " " <= character <= "~" and len(character) == 1:
        return character
    kind, *codes = (unicodedata.decomposition(character).split() if len(character) == 1 else []) or [""]
    if kind in _COMPATIBLE:
        parts = [_command(chr(int(code, 16))) for code in codes]
        return None if None in parts else rf"{_COMPATIBLE[kind]}{{{''.join(map(str, parts))}}}"
    base, *accents = list(unicodedata.normalize("NFD", character))
    is_letter = base.isalpha() and (base.isascii() or base in _COMMANDS)
    command = _command(base) if accents and is_letter else None
    for accent in accents:
        if command is None:
            return None
        if accent == _OGONEK:
            command = rf"{command}\llap{{\raisebox{{-.6ex}}{{,}}}}"
        elif command.startswith("$"):
            command = rf"${_MATH_ACCENTS[accent]}{{{command.strip('$')}}}$" if accent in _MATH_ACCENTS else None
        else:
            command = f"{_ACCENTS[accent]}{{{command}}}" if accent in _ACCENTS else None
    return command


def _code_point(character: str) -> str:
    return f"[U+{ord(character):04X}]"
