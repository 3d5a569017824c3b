"""YAML text to plain data, strictly, with the place of every value.

PyYAML's ``safe_load`` reads ``1e-3`` as a string, ``010`` as 8 and ``1:30`` as 90, keeps the last of two equal keys,
and expands alias bombs. This reader walks the parser's events with its own stack (no recursion to overflow), accepts
the JSON subset of scalars (``null``, ``true``, ``false``, decimal numbers, strings), and refuses duplicate keys,
anchors, aliases, tags, control characters and anything above the size and depth limits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from repro.errors import ConfigError, resembling

MAX_BYTES = 200_000  # 60 times the longest built-in experiment, and about a second of PyYAML's time
MAX_DEPTH = 20
_LONGEST_NUMBER = 40  # characters; longer ones stay text, so that no number of 10,000 digits is ever converted

# PyYAML's words for what it was reading, and ours for what opens it.
_UNCLOSED = {
    "while scanning a quoted scalar": "quote",
    "while parsing a flow sequence": "bracket",
    "while parsing a flow mapping": "brace",
}

KeyPath = tuple[str | int, ...]

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][-+]?[0-9]+)?")
# Half a surrogate pair cannot be written to any file, and a control character in a title would reach the terminal.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BEYOND_UNICODE = re.compile(r"\\U(?!0010|000)[0-9a-fA-F]{8}")
_WORDS: dict[str, Any] = {"null": None, "~": None, "": None, "true": True, "false": False}


@dataclass
class Document:
    """Plain data, and the line and column (from 1) of the value and the key at every key path."""

    source: str
    data: Any = None
    value_marks: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)
    key_marks: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)

    def mark(self, path: KeyPath, *, key: bool = False) -> tuple[int, int]:
        """Line and column of the value at ``path`` (or of its key), or of what encloses it most closely."""
        while path:
            for marks in (self.key_marks, self.value_marks) if key else (self.value_marks, self.key_marks):
                if path in marks:
                    return marks[path]
            path = path[:-1]
        return self.value_marks.get((), (1, 1))

    def locate(self, path: KeyPath, *, key: bool = False) -> str:
        """``source:line:column`` of ``mark``."""
        return _place(self.source, *self.mark(path, key=key))


@dataclass
class _Open:
    """A collection that is being read: its data, its path, and the key whose value comes next."""

    data: dict[str, Any] | list[Any]
    path: KeyPath
    key: str | None = None

    def child_path(self) -> KeyPath:
        return (*self.path, self.key if self.key is not None else len(self.data))


def read_text(path: Path) -> str:
    """The text of a YAML file. Raises ConfigError if it cannot be read, is too large, or is not UTF-8."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # reading might never end
            raise ConfigError("this is a pipe or a device", where=str(path), hint="Save it as a file first.")
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        meant = resembling(path.name, [file.name for file in path.parent.glob("*.y*ml")])
        hint = f"Did you mean '{path.with_name(meant)}'?" if meant else "Built-in tables have no .yaml: table2."
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path), hint=hint) from error
    except IsADirectoryError as error:
        raise ConfigError("this is a folder", where=str(path), hint="Name a YAML file in it.") from error
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValueError as error:  # a zero byte in the path
        raise ConfigError(f"cannot be read: {error}", where=repr(str(path))) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"larger than {MAX_BYTES:,} bytes: not an experiment file", where=str(path))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ConfigError(
            f"not UTF-8: byte 0x{raw[error.start]:02x}", where=_place(str(path), line, column), hint="Save it as UTF-8."
        ) from error


def parse(text: str, *, source: str) -> Document:
    """Parse YAML text, or one value such as ``[4, 8]``. Raises ConfigError for anything but strict YAML."""
    document = Document(source)
    stack: list[_Open] = []
    for event in _events(text, source):
        mark = (event.start_mark.line + 1, event.start_mark.column + 1) if event.start_mark else (1, 1)
        where = _place(source, *mark)
        _require_data(event, where, document)
        if isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            stack.pop()
        elif isinstance(event, (yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            parent = stack[-1] if stack else None
            if parent is not None and isinstance(parent.data, dict) and parent.key is None:
                _take_key(parent, event, mark, where, document)
                continue
            path = parent.child_path() if parent else ()
            document.value_marks[path] = mark
            if isinstance(event, yaml.ScalarEvent):
                _attach(parent, _scalar(event, where), document)
            else:
                collection: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
                _attach(parent, collection, document)
                if len(stack) >= MAX_DEPTH:
                    raise ConfigError(f"nested deeper than {MAX_DEPTH} levels", where=where)
                stack.append(_Open(collection, path))
    return document


def _events(text: str, source: str) -> Iterator[yaml.Event]:
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(error, text, source) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        where = _place(source, before.count("\n") + 1, error.position - before.rfind("\n"))
        raise ConfigError(f"not YAML: the character {chr(error.character)!a} is not allowed", where=where) from error
    except (ValueError, OverflowError, RecursionError, IndexError, AttributeError) as error:
        # PyYAML's scanner lets a few plain exceptions through, without a place: for an escape beyond Unicode above all.
        escape = _BEYOND_UNICODE.search(text)
        what = f"the escape {escape.group()} is beyond Unicode" if escape else str(error)
        start = escape.start() if escape else 0
        where = _place(source, text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start))
        raise ConfigError(f"not YAML: {what}", where=where) from error


def _not_yaml(error: yaml.MarkedYAMLError, text: str, source: str) -> ConfigError:
    """What YAML found wrong and where; of a quote or a bracket that is not closed, where it opens."""
    mark, problem = error.problem_mark or error.context_mark, error.problem or error.context or "cannot be read"
    if mark is None:
        return ConfigError(f"not YAML: {problem}", where=source)
    unclosed, opened = _UNCLOSED.get(error.context or ""), error.context_mark
    if unclosed and opened and opened.line < mark.line:
        what = f"this {unclosed} is not closed; at line {mark.line + 1}: {problem}"
    else:
        opened = _quote_before(text, mark)
        what = f"this quote is closed at line {mark.line + 1} only, and after it: {problem}" if opened else problem
    place = opened or mark
    return ConfigError(f"not YAML: {what}", where=_place(source, place.line + 1, place.column + 1))


def _quote_before(text: str, mark: yaml.Mark) -> yaml.Mark | None:
    """Where a quoted text over several lines opens that ends in the line of ``mark``, before it; None without one."""
    opened = None
    with suppress(yaml.YAMLError):
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if token.start_mark.index >= mark.index:
                break
            if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
                opened = token.start_mark if token.start_mark.line < token.end_mark.line == mark.line else None
    return opened


def _require_data(event: yaml.Event, where: str, document: Document) -> None:
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
        raise ConfigError("anchors and aliases are not allowed", where=where, hint="Write the value out.")
    tag = getattr(event, "tag", None)
    if tag not in (None, "!"):
        raise ConfigError(f"the tag {tag!r} is not allowed", where=where, hint="Leave the tag out.")
    if isinstance(event, yaml.DocumentStartEvent) and document.value_marks:
        raise ConfigError("a second document begins here", where=where, hint="Put one table in a file.")


def _take_key(parent: _Open, event: yaml.Event, mark: tuple[int, int], where: str, document: Document) -> None:
    if not isinstance(event, yaml.ScalarEvent):
        raise ConfigError("a key must be a word", where=where)
    assert isinstance(parent.data, dict)
    key = _printable(event.value, where)
    if not key.isprintable():
        raise ConfigError(f"the key {quoted(key)} is not one line of text", where=where)
    path = (*parent.path, key)
    if key in parent.data:
        first_line, first_column = document.key_marks[path]
        raise ConfigError(
            f"key {quoted(key)} occurs twice; the first is at line {first_line}, column {first_column}",
            where=where,
            hint="Keep one of them.",
        )
    parent.key = key
    document.key_marks[path] = mark


def _attach(parent: _Open | None, value: Any, document: Document) -> None:
    if parent is None:
        document.data = value
    elif isinstance(parent.data, dict):
        assert parent.key is not None
        parent.data[parent.key] = value
        parent.key = None
    else:
        parent.data.append(value)


def is_text(plain: str) -> bool:
    """Whether a scalar without quotes is read as a text, not as a word such as ``true`` or as a number."""
    if plain in _WORDS:
        return False
    if len(plain) > _LONGEST_NUMBER:
        return True
    has_digits = any(character.isdigit() for character in re.split("[eE]", plain)[0])
    return not (has_digits and (_INTEGER.fullmatch(plain) or _FLOAT.fullmatch(plain)))


def _scalar(event: yaml.ScalarEvent, where: str) -> Any:
    text = _printable(event.value, where)
    if not event.implicit[0] or is_text(text):  # quoted, or a block: always a string
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ConfigError(f"{text} is too large for a number", where=where)
    return number + 0.0  # -0.0 is 0.0, in the hash too


def _printable(text: str, where: str) -> str:
    unprintable = _UNPRINTABLE.search(text)
    if unprintable:
        raise ConfigError(f"the character {unprintable.group()!a} is not allowed", where=where)
    return text


def quoted(name: str) -> str:
    """A name from a user's file, for a message: in quotes, on one line, at most 60 characters long."""
    return repr(name) if len(name) <= 60 else repr(f"{name[:57]}...")


def _place(source: str, line: int, column: int) -> str:
    return f"{source}:{line}:{column}"
