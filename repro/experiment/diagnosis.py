"""What is wrong with an experiment file, in the terms of the file: place, key, reason and hint, one line per problem.

Pydantic's own messages are about tuples and model instances.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from repro.errors import nearest, resembling
from repro.experiment.schema import Table
from repro.experiment.strict_yaml import Document, KeyPath, quoted
from repro.wording import counted

MOST_PROBLEMS = 10  # shown for one file

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
}


@dataclass(frozen=True)
class Problem:
    """One problem: where in the data, why, and a hint; ``of_key`` if the key itself is wrong."""

    path: KeyPath
    reason: str
    hint: str | None = None
    of_key: bool = False


def problems_of(error: ValidationError) -> list[Problem]:
    """The problems that pydantic found, without those that only follow from another one.

    Pydantic also reports a misspelt key as missing, and a list with a wrong row as too short.
    """
    found = error.errors(include_url=False)
    paths = [problem["loc"] for problem in found]
    unknown = [problem["loc"] for problem in found if problem["type"] == "extra_forbidden"]
    meant = {(*path[:-1], resembling(str(path[-1]), _keys_at(path[:-1]))) for path in unknown}
    problems = []
    for problem in found:
        path = problem["loc"]
        follows = problem["type"] == "missing" and path in meant
        if problem["type"] == "too_short":
            follows = any(len(other) > len(path) and other[: len(path)] == path for other in paths)
        if not follows:
            problems.append(_problem(problem))
    return problems


def describe(problems: Sequence[Problem], document: Document, overrides: Iterable[str]) -> str:
    """One line per problem: place, key, reason, hint. ``overrides`` are the dotted keys set on the command line."""
    overrides = tuple(overrides)
    lines = []
    in_order = sorted(problems, key=lambda problem: document.mark(problem.path, key=problem.of_key))
    for problem in in_order[:MOST_PROBLEMS]:
        where = _where(problem, document, overrides)
        key = ".".join(str(part)[:60] for part in problem.path)
        named = "" if problem.of_key or not key or where.startswith("--set") else f"{key}: "
        hint = f". {problem.hint}" if problem.hint else ""
        lines.append(f"{where}: {named}{problem.reason}{hint}")
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"... and {len(problems) - MOST_PROBLEMS:,} more problems")
    return "\n".join(lines)


def key_model(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """The model of the keys below ``key``; None if ``key`` has a value."""
    return _model_in(model.model_fields[key].annotation)


def _problem(problem: Any) -> Problem:
    path: KeyPath = problem["loc"]
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        name = str(path[-1])
        inside = f" in {'.'.join(map(str, path[:-1]))}" if path[:-1] else ""
        return Problem(path, f"unknown key {quoted(name)}{inside}", nearest(name, _keys_at(path[:-1])), of_key=True)
    if kind == "missing":
        return Problem(path[:-1], f"key '{path[-1]}' is missing")
    if kind in _WANTED:
        return Problem(path, f"must be {_WANTED[kind]}, not {_shown(given)}")
    if kind in ("too_short", "too_long"):
        allowed, counts = ("at least", "min_length") if kind == "too_short" else ("at most", "max_length")
        wanted = counted(problem["ctx"][counts], "item")
        return Problem(path, f"must have {allowed} {wanted}, not {problem['ctx']['actual_length']}")
    if kind == "literal_error":
        valid = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        if valid and isinstance(given, str):
            return Problem(path, f"unknown name {quoted(given)}", nearest(given, valid))
    if kind == "unknown_name":
        named = problem["ctx"]
        return Problem(path, f"unknown {named['kind']} {quoted(given)}", nearest(given, named["valid"]))
    if kind == "string_pattern_mismatch":
        wanted = "must be one line of at most 400 characters"
        if path[-1] in ("id", "table", "beside"):
            wanted = "must be lowercase letters, digits, '_', '-' and '.', at most 64, a letter or digit first"
        return Problem(path, f"{wanted}, not {_shown(given)}")
    message = problem["ctx"]["error"].args[0] if kind == "value_error" else problem["msg"]
    message = re.sub("^input should ", "must ", f"{message[0].lower()}{message[1:]}")
    return Problem(path, f"{message}, not {_shown(given)}")


def _shown(given: Any) -> str:
    if isinstance(given, bool):
        return "true" if given else "false"
    if given is None:
        return "empty"
    if isinstance(given, (dict, list, tuple)):
        return "a mapping" if isinstance(given, dict) else "a list"
    return quoted(given) if isinstance(given, str) else str(given)


def _where(problem: Problem, document: Document, overrides: tuple[str, ...]) -> str:
    dotted = ".".join(str(part) for part in problem.path)
    for override in overrides:
        if dotted == override or dotted.startswith(f"{override}."):
            return f"--set {override}"
    return document.locate(problem.path, key=problem.of_key)


def _keys_at(path: KeyPath) -> list[str]:
    """The valid keys of the mapping at ``path``, according to the schema."""
    model: type[BaseModel] | None = Table
    for part in path:
        if isinstance(part, str):  # the items of a list have the model of its key
            if model is None or part not in model.model_fields:
                return []
            model = key_model(model, part)
    return [name for name in model.model_fields if name not in ("origin", "overrides")] if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model in an annotation: itself, or inside ``X | None``, ``tuple[X, ...]``, ``Annotated[X, ...]``."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
