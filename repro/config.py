"""From a name or a path to a table: the built-in experiments, users' own files, and overrides.

``table2``                      a built-in experiment
``my/own.yaml``                 a file of the same form
``table2+recipe.epochs=2``      either, with overrides (what ``--set recipe.epochs=2`` makes; also its results folder)
"""

from __future__ import annotations

import copy
import difflib
import re
import types
import typing
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from repro.errors import ConfigError, UserError
from repro.schema import BASELINE, NUM_CLASSES, Cell, Run, Table
from repro.strict_yaml import Document, KeyPath, parse_scalar, read_document

__all__ = [
    "Cell",
    "Run",
    "Table",
    "builtin_folder",
    "builtin_names",
    "find_cell",
    "find_table",
    "load_table",
    "runs_of",
    "select",
]

# What `--set` may touch. Rows and columns are lists: whoever changes those writes a table of their own.
OVERRIDABLE = ("dataset", "recipe", "weighting", "execution")


def builtin_folder() -> Path:
    """The folder of the built-in experiments: inside an installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "experiments"
    return inside if inside.is_dir() else package.parent / "experiments"


def builtin_names() -> tuple[str, ...]:
    """The names of the built-in experiments, sorted."""
    return tuple(sorted(path.stem for path in builtin_folder().glob("*.yaml")))


@cache
def find_table(reference: str) -> Table:
    """The table that ``reference`` names: a built-in name or a path, each with ``+key=value`` overrides after it.

    Raises ConfigError or UserError for a name that is not there, a file that is wrong, an override that is refused.
    """
    name, *settings = re.split(r"\+(?=[a-z_]+\.[a-z_.]+=)", reference)
    return load_table(_path_of(name), tuple(settings))


def load_table(path: Path | str, overrides: Sequence[str] = ()) -> Table:
    """Read, override and check one experiment file.

    ``overrides`` are ``dotted.key=value`` texts, validated exactly like the file. Raises ConfigError naming every
    problem with file, line, column and key.
    """
    document = read_document(Path(path))
    if not isinstance(document.data, dict):
        raise ConfigError("an experiment is a mapping of keys to values", where=document.locate(()))
    if "overrides" in document.data:
        raise ConfigError("unknown key 'overrides'", where=document.locate(("overrides",), key=True))
    data, applied = _with_overrides(document.data, overrides)
    try:
        table = Table.model_validate({**data, "overrides": tuple(sorted(applied.items()))})
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error, document, applied))) from error
    for path_in_file, reason, mend in _contradictions(table):
        raise ConfigError(reason, where=_where(path_in_file, document, applied), mend=mend)
    return _settled(table)


def find_cell(reference: str) -> Cell:
    """The cell ``table/row/column``. Raises UserError with the nearest cell where there is none."""
    parts = reference.rsplit("/", 2)
    if len(parts) != 3:
        raise UserError(f"'{reference}' is no cell", mend="A cell is table/row/column, such as table2/squeezenet/bias.")
    table = find_table(parts[0])
    row = select(table.rows, [parts[1]], f"row of {table.id}")[0]
    column = select(table.columns, [parts[2]], f"column of {table.id}")[0]
    return table.cell(row, column)


def select(items: Sequence[Any], wanted: Iterable[str], kind: str) -> list[Any]:
    """The items whose ``id`` is wanted, in the table's order. Raises UserError with the nearest valid id."""
    ids = [item.id for item in items]
    wanted = list(wanted)
    for name in wanted:
        if name not in ids:
            raise UserError(f"no {kind} is called '{name}'", mend=_nearest(name, ids))
    return [item for item in items if item.id in wanted]


def runs_of(cells: Iterable[Cell], seeds: Iterable[int]) -> list[Run]:
    """Every cell with every seed, seed by seed: the first comparison is complete as soon as it can be."""
    cells = list(cells)
    return [Run(cell=cell, seed=seed) for seed in seeds for cell in cells]


def _path_of(name: str) -> Path:
    if name in builtin_names():
        return builtin_folder() / f"{name}.yaml"
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise UserError(
        f"no experiment is called '{name}'",
        mend=f"{_nearest(name, builtin_names())} Or give the path of a YAML file.",
    )


def _with_overrides(data: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    data = copy.deepcopy(data)
    applied: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"'{text}' is no override", mend="Write --set key=value, such as recipe.epochs=2.")
        key = key.strip()
        section, *rest = key.split(".")
        if section not in OVERRIDABLE or not rest:
            raise ConfigError(
                f"'{key}' cannot be set from the command line",
                mend=f"{_nearest(section, OVERRIDABLE)} Rows and columns are changed in a YAML file of your own.",
            )
        place = data.setdefault(section, {})
        for part in rest[:-1]:
            place = place.setdefault(part, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place[rest[-1]] = applied[key] = parse_scalar(value)
    return data, applied


def _settled(table: Table) -> Table:
    """The table with its overrides as they were validated and typed: ``recipe.learning_rate=1`` is 1.0."""
    settled = []
    for key, _ in table.overrides:
        value: Any = table
        for part in key.split("."):
            value = getattr(value, part)
        settled.append((key, list(value) if isinstance(value, tuple) else value))
    return table.model_copy(update={"overrides": tuple(settled)})


def _contradictions(table: Table) -> Iterable[tuple[KeyPath, str, str | None]]:
    """What no single key shows: yields the key path, the reason and the way out of each contradiction."""
    columns = [column.id for column in table.columns]
    for kind, ids in (("columns", columns), ("rows", [row.id for row in table.rows])):
        for index, name in enumerate(ids):
            if name in ids[:index]:
                yield (kind, index, "id"), f"two {kind} are called '{name}'", "Give each an id of its own."
    for index, row in enumerate(table.rows):
        for name in row.published.top1_percent if row.published else ():
            if name not in columns:
                yield (
                    ("rows", index, "published", "top1_percent", name),
                    f"no column is called '{name}'",
                    _nearest(name, columns),
                )
    if BASELINE not in columns:
        yield ("columns",), f"no column is called '{BASELINE}', which every delta is taken against", None
    available = NUM_CLASSES[table.dataset.name]
    if table.dataset.classes and table.dataset.classes > available:
        yield ("dataset", "classes"), f"{table.dataset.name} has {available} classes, not {table.dataset.classes}", None
    milestones = table.recipe.decay_epochs
    if list(milestones) != sorted(set(milestones)):
        yield ("recipe", "decay_epochs"), "decay_epochs must rise from one to the next", None
    if table.recipe.warmup_epochs > table.recipe.epochs:
        yield ("recipe", "warmup_epochs"), "the warm-up is longer than the training", None


def _explain(error: ValidationError, document: Document, applied: dict[str, Any]) -> list[str]:
    """One line a problem: place, key, reason, nearest valid name."""
    lines = []
    for problem in error.errors(include_url=False):
        path: KeyPath = problem["loc"]
        while path and isinstance(path[-1], str) and path[-1].startswith(("literal", "constrained", "int", "tuple")):
            path = path[:-1]  # names that pydantic adds for the branch of a union
        unknown, missing = problem["type"] == "extra_forbidden", problem["type"] == "missing"
        key = ".".join(str(part) for part in path) or "the whole file"
        if unknown:
            reason = f"unknown key '{path[-1]}'. {_nearest(str(path[-1]), _keys_at(path[:-1]))}"
        elif missing:
            reason = f"key '{path[-1]}' is missing"
        else:
            reason = _reason(problem)
        lines.append(f"{_where(path, document, applied, key=unknown)}: {key}: {reason}".rstrip())
    return lines


def _reason(problem: Any) -> str:
    message = problem["msg"]
    given = problem["input"]
    shown = (
        f"{given!r}" if not isinstance(given, (dict, list)) else f"a {'mapping' if isinstance(given, dict) else 'list'}"
    )
    if problem["type"] == "literal_error":
        expected = re.findall(r"'([^']*)'", problem["ctx"]["expected"])
        if expected and isinstance(given, str):
            return f"{shown} is none of the valid names. {_nearest(given, expected)}"
    return f"{message[0].lower()}{message[1:]}, not {shown[:80]}"


def _where(path: KeyPath, document: Document, applied: dict[str, Any], *, key: bool = False) -> str:
    dotted = ".".join(str(part) for part in path)
    for override in applied:
        if dotted == override or dotted.startswith(f"{override}."):
            return f"--set {override}"
    return document.locate(path, key=key)


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that may stand in the mapping at ``path``, read off the schema itself."""
    annotation: Any = Table
    for part in path:
        if isinstance(part, str) and isinstance(annotation, type) and issubclass(annotation, BaseModel):
            if part not in annotation.model_fields:
                return []
            annotation = _model_in(annotation.model_fields[part].annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [name for name in annotation.model_fields if name != "overrides"]
    return []


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside ``X | None``, ``tuple[X, ...]`` or ``Annotated[X, ...]``; else the annotation."""
    if isinstance(annotation, (types.UnionType, types.GenericAlias)) or typing.get_origin(annotation) is not None:
        for inner in typing.get_args(annotation):
            found = _model_in(inner)
            if isinstance(found, type) and issubclass(found, BaseModel):
                return found
    return annotation


def _nearest(name: str, valid: Iterable[str]) -> str:
    valid = list(valid)
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return f"Did you mean '{close[0]}'?"
    return f"Valid: {', '.join(valid)}." if valid else ""
