"""Looks declared for a table before there are results: ``<results>/<table>/looks.json``, sealed, and never replaced.

Whoever may look, and then choose when to look, can find anything. So the looks are written down first, with the date
and the version, and with every run that was there already. The file belongs into version control beside the records:
the seal shows that it was edited, the history when it came.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import repro
from repro.analysis.stats.alpha_spending import Looks, Spending
from repro.analysis.stats.decision_rule import ALPHA
from repro.errors import DataError, UserError
from repro.experiment.schema import BASELINE, Cell, Table
from repro.results.durable import make_folder, write_durably
from repro.results.files import read_file
from repro.results.record import sealed, unsealed

FILE_NAME = "looks.json"
_MOST_NAMED = 3


class Declaration(BaseModel):
    """What was declared: to look at ``cells`` of ``table`` when their first ``seeds`` are in, and how alpha is spent.

    ``configurations`` holds the hash of every cell concerned, cross-entropy's too, so that the looks are of these
    experiments and no others. ``recorded_before`` are the runs of them that had a record when it was declared, and
    ``unseen`` says that the person who declared stated that nobody had looked at these. ``declared_at`` is in UTC.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    table: str
    cells: Annotated[tuple[str, ...], Field(strict=False)]
    configurations: dict[str, str]
    seeds: Annotated[tuple[int, ...], Field(strict=False)]
    spending: Spending
    alpha: float
    declared_at: str
    biasrepro: str
    recorded_before: Annotated[tuple[str, ...], Field(strict=False)] = ()
    unseen: bool = False

    @property
    def looks(self) -> Looks:
        """The looks, as the statistics take them."""
        return Looks(self.seeds, self.spending)

    @property
    def words(self) -> str:
        """``looks at 5, 10, 20 seeds (Pocock type), declared on 2026-01-01 10:00 UTC``."""
        return f"{looks_text(self.looks)}, declared on {self.declared_at[:16].replace('T', ' ')} UTC"


@dataclass(frozen=True)
class Declared:
    """A declaration in force; ``new`` where it was written just now."""

    declaration: Declaration
    path: Path
    new: bool


def looks_text(looks: Looks) -> str:
    """``looks at 5, 10, 20 seeds (Pocock type)``."""
    return f"looks at {', '.join(map(str, looks.seeds))} seeds ({_TYPES[looks.spending]} type)"


_TYPES: dict[Spending, str] = {"obrien_fleming": "O'Brien-Fleming", "pocock": "Pocock"}


def looked_at(table: Table) -> list[Cell]:
    """The cells of ``table`` that can be looked at: those with a difference printed to hold ours against."""
    return [
        table.cell(row, column)
        for row in table.rows
        for column in table.columns
        if table.comparable and row.published and column.id != BASELINE
        if {column.id, BASELINE} <= row.published.top1_percent.keys()
    ]


def draw_up(
    table: Table,
    looks: Looks,
    *,
    recorded_before: Sequence[str] = (),
    unseen: bool = False,
    at: datetime | None = None,
) -> Declaration:
    """The declaration of ``looks`` for every cell of ``table`` with a printed difference; nothing is written."""
    cells = looked_at(table)
    return Declaration(
        table=table.id,
        cells=tuple(cell.id for cell in cells),
        configurations={cell.id: cell.hash for cell in _arms(table, cells)},
        seeds=looks.seeds,
        spending=looks.spending,
        alpha=ALPHA,
        declared_at=(at or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="seconds"),
        biasrepro=repro.__version__,
        recorded_before=tuple(recorded_before),
        unseen=unseen,
    )


def declare(results: Path, table: Table, looks: Looks, *, unseen: bool = False) -> Declared:
    """Write down the looks for every cell of ``table`` with a printed difference; the same ones twice are no matter.

    Raises UserError where others are in force, where nothing is printed, and where a difference could have been seen
    already (a cell and its cross-entropy share a recorded seed) unless it is stated that nobody has looked.
    """
    cells = looked_at(table)
    if not cells:
        raise UserError(
            f"nothing is published in {table.label} to decide on",
            where=table.id,
            hint="Looks are for tables with published differences: table1, table2, released, or a file of your own.",
        )
    path = results / table.id / FILE_NAME
    there = read_declaration(results, table)
    if there is not None:
        return _same_or_refused(there, looks, path)
    arms = _arms(table, cells)
    recorded = _recorded(results, arms)
    seen = _seen(recorded, cells)
    if seen and not unseen:
        raise UserError(
            f"results are there already: {_named(seen)}. Looks chosen after one has seen results keep no error",
            where=str(results / table.id),
            hint="If nobody has looked at them (no table, no report, no log), state it with --unseen: the declaration "
            "names these runs, and the report says so. Otherwise fix a number of seeds: biasrepro sweep --seeds N.",
        )
    runs = [f"{cell.id}/seed-{seed}" for cell in arms for seed in sorted(recorded[cell.id])]
    declaration = draw_up(table, looks, recorded_before=runs, unseen=bool(seen))
    make_folder(path.parent, below=results)
    try:
        write_durably(path, _to_bytes(declaration), only_new=True)
    except FileExistsError:  # another process was faster
        there = read_declaration(results, table)
        assert there is not None
        return _same_or_refused(there, looks, path)
    return Declared(declaration, path, new=True)


def read_declaration(results: Path, table: Table) -> Declaration | None:
    """What was declared of ``table`` under ``results``, None where nothing was.

    Raises DataError where the file was damaged or edited, and where the table has changed since.
    """
    path = results / table.id / FILE_NAME
    try:
        raw = read_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path), hint=_MEND) from error
    try:
        declaration = Declaration.model_validate_json(unsealed(raw, where=str(path), what="declaration") + b"\n}")
        looks = declaration.looks
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the whole"
        raise DataError(f"no declaration of this version: {key}: {first['msg']}", where=str(path)) from error
    except UserError as error:
        raise DataError(error.what, where=str(path), hint=_MEND) from error
    if declaration.table != table.id:
        raise DataError(f"the declaration of another table, {declaration.table}, lies here", where=str(path))
    if declaration.alpha != ALPHA:
        raise DataError(f"{looks_text(looks)} at alpha {declaration.alpha:g}, not {ALPHA:g}", where=str(path))
    now = {cell.id: cell.hash for cell in table.cells}
    changed = [cell for cell, digest in declaration.configurations.items() if now.get(cell) != digest]
    if changed:
        raise DataError(
            f"the looks were declared for another configuration of {_named(changed)}",
            where=str(path),
            hint="A changed experiment is another one: give another --results folder.",
        )
    return declaration


def read_declarations(results: Path, tables: Iterable[Table]) -> dict[str, Declaration]:
    """What was declared of each of ``tables``, by its id. Raises DataError as ``read_declaration`` does."""
    found = {table.id: read_declaration(results, table) for table in tables}
    return {name: declaration for name, declaration in found.items() if declaration is not None}


_MEND = "Restore the file from version control: without it, verdicts would be those of nobody's plan."


def _same_or_refused(there: Declaration, looks: Looks, path: Path) -> Declared:
    if there.looks == looks:
        return Declared(there, path, new=False)
    raise UserError(
        f"other looks are in force: {there.words}",
        where=str(path),
        hint="Looks are declared once. A declaration that could be changed after a look would keep no error.",
    )


def _arms(table: Table, cells: Iterable[Cell]) -> list[Cell]:
    """``cells`` and the cross-entropy that each is held against, in the table's order."""
    wanted = {cell.id for cell in cells}
    rows = {cell.row.id for cell in cells}
    return [cell for cell in table.cells if cell.id in wanted or (cell.column.id == BASELINE and cell.row.id in rows)]


def _recorded(results: Path, arms: Iterable[Cell]) -> dict[str, set[int]]:
    """The seeds of each arm that have a record, sound or not, whatever it says."""
    return {
        cell.id: {
            int(number)
            for path in (results / cell.id).glob("seed-*/run.json")
            if (number := path.parent.name.removeprefix("seed-")).isascii() and number.isdecimal()
        }
        for cell in arms
    }


def _seen(recorded: dict[str, set[int]], cells: Iterable[Cell]) -> list[str]:
    """The cells of which a difference could have been seen."""
    return [cell.id for cell in cells if recorded[cell.id] & recorded[f"{cell.table}/{cell.row.id}/{BASELINE}"]]


def _named(cells: list[str]) -> str:
    rest = len(cells) - _MOST_NAMED
    return ", ".join(cells[:_MOST_NAMED]) + (f" and {rest} more cells" if rest > 0 else "")


def _to_bytes(declaration: Declaration) -> bytes:
    fields = declaration.model_dump(mode="json")
    lines = [f'  "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in fields.items()]
    return sealed(("{\n" + ",\n".join(lines)).encode())
