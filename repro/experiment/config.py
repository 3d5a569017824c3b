"""From a name or a path to a table: the built-in experiments, users' own files, and overrides.

``table2``                      a built-in experiment
``my/own.yaml``                 a file of the same form
``table2+recipe.epochs=2``      either, with overrides: what ``--set recipe.epochs=2`` makes

Such a reference finds a table. Its results folder is named by the table's ``id``, which has the name in the file
(``table: mine``) instead of the path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from repro.errors import ConfigError, UserError, nearest
from repro.experiment.catalog import network, networks_with
from repro.experiment.dataset_problems import dataset_problems
from repro.experiment.diagnosis import Problem, describe, problems_of
from repro.experiment.overrides import with_overrides
from repro.experiment.papers import PAPERS
from repro.experiment.recipe_checks import recipe_problems, recipe_warnings
from repro.experiment.schema import BASELINE, Cell, ModelOptions, Run, Table
from repro.experiment.strict_yaml import Document, parse, quoted, read_text

MOST_RUNS = 100_000  # of a table, and of a sweep
_LONGEST_ID = 200  # characters; file systems take names of 255 bytes


def builtin_folder() -> Path:
    """The folder of the built-in experiments: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "experiments"
    return inside if inside.is_dir() else package.parent / "experiments"


def builtin_names() -> tuple[str, ...]:
    """The names of the built-in experiments, sorted."""
    return tuple(sorted(path.stem for path in builtin_folder().glob("*.yaml")))


def find_table(reference: str) -> Table:
    """The table that ``reference`` names: a built-in name or a path, with any ``+key=value`` overrides.

    ``find_table(table.reference)`` gives the same table again; for a built-in one, so does ``find_table(table.id)``.
    Raises ConfigError or UserError for an unknown name, a wrong file or a refused override.
    """
    name, settings = split_reference(reference)
    return load_table(_path_of(name), settings)


def split_reference(reference: str) -> tuple[str, list[str]]:
    """The name or path in a reference, and its overrides; a file that exists may have an override in its path."""
    parts = re.split(r"\+(?=[a-z_]+\.[a-z_.]+=)", reference)
    names = ["+".join(parts[:count]) for count in range(1, len(parts) + 1)]
    count = max((count for count, name in enumerate(names, 1) if os.path.isfile(name)), default=1)  # noqa: PTH113 - False for a name too long
    return names[count - 1], parts[count:]


def load_table(path: Path | str, overrides: Sequence[str] = ()) -> Table:
    """Read, override and check one experiment file.

    ``overrides`` are ``dotted.key=value`` texts, validated exactly like the file. Raises ConfigError naming every
    problem with file, line, column and key.
    """
    path = Path(path)
    # Cached by the file's text: a process asks for the same table hundreds of times, and its file may be edited.
    return _checked(str(path), read_text(path), tuple(overrides))[0]


def warnings_of(table: Table) -> str:
    """What is perhaps not meant in the file of ``table`` and its overrides, with its place; empty if there is none."""
    name, settings = split_reference(table.reference)
    path = _path_of(name)
    return _checked(str(path), read_text(path), tuple(settings))[1]


@lru_cache(maxsize=64)
def _checked(path: str, text: str, overrides: tuple[str, ...]) -> tuple[Table, str]:
    """The table, and what is perhaps not meant in it."""
    document = parse(text, source=path)
    if not isinstance(document.data, dict):
        empty = document.data is None
        raise ConfigError(
            "the file is empty" if empty else "an experiment is a mapping of keys to values",
            where=document.locate(()),
            hint="docs/experiments.md lists the keys; experiments/demo.yaml is a short example.",
        )
    for key in ("origin", "overrides"):  # fields of the model, not keys of the file
        if key in document.data:
            raise ConfigError(f"unknown key '{key}'", where=document.locate((key,), key=True))
    data, applied = with_overrides(document.data, overrides)
    try:
        table = Table.model_validate({**data, "origin": _origin(path), "overrides": tuple(sorted(applied.items()))})
    except ValidationError as error:
        raise ConfigError(describe(problems_of(error), document, applied)) from error
    table = _with_folder(table, Path(path).parent)
    contradictions = list(_contradictions(table, document))
    if contradictions:
        raise ConfigError(describe(contradictions, document, applied))
    warnings = list(recipe_warnings(table.recipe, [key.removeprefix("recipe.") for key in applied]))
    return _settled(table, document.data), describe(warnings, document, applied)


def _with_folder(table: Table, beside: Path) -> Table:
    """The table with the path of its folder of images absolute; in the file it is relative to the file's folder."""
    if table.dataset.path is None:
        return table
    absolute = os.path.abspath(beside / Path(table.dataset.path).expanduser())  # noqa: PTH100 - keeps symbolic links
    return table.model_copy(update={"dataset": table.dataset.model_copy(update={"path": absolute})})


def find_cell(reference: str) -> Cell:
    """The cell ``table/row/column``. Raises UserError with the nearest cell if there is none."""
    parts = reference.rsplit("/", 2)
    if len(parts) != 3:
        raise UserError(
            f"{quoted(reference)} is not a cell", hint="A cell is table/row/column, such as table2/squeezenet/bias."
        )
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
            raise UserError(f"no {kind} is called {quoted(name)}", hint=nearest(name, ids))
    return [item for item in items if item.id in wanted]


def runs_of(cells: Iterable[Cell], seeds: Iterable[int]) -> list[Run]:
    """Every cell with every seed, seed by seed, so that the first comparison is complete early."""
    cells = list(cells)
    return [Run(cell=cell, seed=seed) for seed in seeds for cell in cells]


def _path_of(name: str) -> Path:
    if name in builtin_names():
        return builtin_folder() / f"{name}.yaml"
    path = Path(name)
    with suppress(OSError):  # a name too long for the file system, a folder that may not be entered
        if name and (path.suffix in (".yaml", ".yml") or path.exists()):
            return path
    hint = f"{nearest(name, builtin_names())} Or give the path of a YAML file."
    if "+" in name:
        hint += " An override is +key=value after the name, such as table2+recipe.epochs=2."
    raise UserError(f"no experiment is called {quoted(name)}", hint=hint)


def _origin(path: str) -> str:
    """How a user refers to the file at ``path``: by name if it is a built-in experiment."""
    name = Path(path).stem
    return name if name in builtin_names() and Path(path) == builtin_folder() / f"{name}.yaml" else path


def _settled(table: Table, data: dict[str, Any]) -> Table:
    """The table with its overrides as validated: ``recipe.learning_rate=1`` becomes 1.0.

    An override to a value that every cell of the file, ``data``, has already is dropped: it would give the same runs
    another name.
    """
    if not table.overrides:
        return table
    try:
        cells = Table.model_validate(data).cells
    except ValidationError:  # the file is valid only with the overrides
        cells = ()
    changing = []
    for key, _ in table.overrides:
        value = _value(table, key)
        if not cells or any(_value(cell, key) != value for cell in cells):
            changing.append((key, value))
    table = table.model_copy(update={"overrides": tuple(changing)})
    if len(table.id) > _LONGEST_ID:
        raise ConfigError(
            "so many overrides make the name of the results folder too long", hint="Put them into your own YAML file."
        )
    return table


def _value(of: Table | Cell, key: str) -> Any:
    """The value of a dotted key in a table or a cell."""
    value: Any = of
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _contradictions(table: Table, document: Document) -> Iterator[Problem]:
    """Contradictions between keys, each of which is valid."""
    builtin = builtin_folder() / f"{table.table}.yaml"
    is_other = table.table in builtin_names() and table.origin != table.table
    if is_other and parse(read_text(builtin), source=str(builtin)).data != document.data:  # not an exact copy
        reason = f"'{table.table}' is the name of a built-in experiment, and this is another one"
        yield Problem(("table",), reason, "Choose another name: it names the results folder.")
    if table.kind == "paper" and table.paper is None:
        hint = f"Add 'paper: {next(iter(PAPERS))}', or 'paper: {{id: ..., citation: ...}}' for another paper."
        yield Problem(("kind",), "a table of kind 'paper' must name its paper", hint)
    if table.paper and table.paper != PAPERS.get(table.paper.id, table.paper):
        name = table.paper.id
        yield Problem(("paper", "id"), f"'{name}' is a known paper, and this is another one", "Choose another id.")
    if table.table in PAPERS:
        yield Problem(("table",), f"'{table.table}' is the name of a paper", "Choose another name for the table.")
    columns = [column.id for column in table.columns]
    for kind, ids in (("columns", columns), ("rows", [row.id for row in table.rows])):
        for index, name in enumerate(ids):
            if name in ids[:index]:
                yield Problem((kind, index, "id"), f"two {kind} are called '{name}'", "Give each its own id.")
    if (runs := len(columns) * len(table.rows) * table.seeds) > MOST_RUNS:
        reason = f"{runs:,} runs are more than the {MOST_RUNS:,} that a table may have"
        yield Problem(("rows",), reason, "Make several tables of it, or plan fewer seeds.")
    if table.baseline not in columns:
        reason = f"no column is called '{table.baseline}', the baseline of every difference"
        is_default = "baseline" not in table.model_fields_set
        hint = "Add it, or name another: baseline: ID." if is_default else nearest(table.baseline, columns)
        yield Problem(("columns",) if is_default else ("baseline",), reason, hint)
    for index, column in enumerate(table.columns):
        if column.id == BASELINE and column.loss != BASELINE:
            reason = f"the column '{BASELINE}' is cross-entropy wherever it is named, but its loss is {column.loss}"
            yield Problem(("columns", index, "loss"), reason, f"Give it 'loss: {BASELINE}', or another id.")
    for index, row in enumerate(table.rows):
        for option in sorted(row.options.model_fields_set - set(network(row.model).options)):
            if getattr(row.options, option) != ModelOptions.model_fields[option].default:
                reason, hint = f"{row.model} has no option '{option}'", f"Only {', '.join(networks_with(option))}."
                yield Problem(("rows", index, "options", option), reason, hint)
        for name in row.published.top1_percent if row.published else ():
            if name not in columns:
                place = ("rows", index, "published", "top1_percent", name)
                yield Problem(place, f"no column is called {quoted(name)}", nearest(name, columns))
    yield from _execution_problems(table)
    yield from dataset_problems(table.dataset)
    yield from recipe_problems(table.recipe, table.dataset.train_count, [column.loss for column in table.columns])


def _execution_problems(table: Table) -> Iterator[Problem]:
    """The first row whose settings torch cannot carry out."""
    for index, row in enumerate(table.rows):
        execution = table.cell(row, table.columns[0]).execution
        if execution.compile and execution.recompute and "recompute" in network(row.model).options:
            of_row = row.execution is not None and "compile" in row.execution.model_fields_set
            place = ("rows", index, "execution", "compile") if of_row else ("execution", "compile")
            reason = f"torch cannot compile {row.model} with execution.recompute (row '{row.id}')"
            yield Problem(place, reason, "Leave execution.compile or execution.recompute out.")
            return
