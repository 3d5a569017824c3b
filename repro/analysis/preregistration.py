"""Preregistration of interim analyses: ``<results>/<table>/looks.json``, sealed and never replaced.

Choosing when to analyse after seeing results inflates the error rate. So the analyses are written down first, with the
date, the version and every run that already had a record. Commit the file beside the records: the seal shows edits, the
history shows when it was added. The file and its keys keep the older word "looks" for interim analyses.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import repro
from repro.analysis.stats.alpha_spending import Looks, Spending
from repro.analysis.stats.decision_rule import ALPHA
from repro.errors import DataError, UserError
from repro.experiment.canonical import digest
from repro.experiment.schema import Cell, Table
from repro.results.durable import make_folder, write_durably
from repro.results.files import read_file, reading_failed
from repro.results.record import sealed, unsealed
from repro.results.record_fields import Text
from repro.results.store import PREREGISTRATION, read_record
from repro.wording import counted

_MOST_NAMED = 3
_SPENDING_NAMES: dict[Spending, str] = {"obrien_fleming": "O'Brien-Fleming", "pocock": "Pocock"}
_RESTORE = "Restore the file from version control: the verdicts depend on it."


class Declaration(BaseModel):
    """Preregistered interim analyses of ``cells`` of ``table`` at ``seeds`` paired seeds, and how alpha is spent.

    ``configurations``: the hash of each of these cells and of their baselines. ``recorded_before``: their
    runs that already had a record; ``unseen``: its author stated that nobody had seen these. ``declared_at``: ISO, UTC.
    ``sources``: what only a machine that has it knows of these cells, such as the SHA-256 of a plugin.
    ``rule`` is what judges the cells: a file without one keeps the rule of its time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    table: Text
    cells: Annotated[tuple[Text, ...], Field(strict=False)]
    configurations: dict[Text, Text]
    seeds: Annotated[tuple[int, ...], Field(strict=False)]
    spending: Spending
    alpha: float
    declared_at: Text
    biasrepro: Text
    recorded_before: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    unseen: bool = False
    sources: dict[Text, Text] = Field({})
    rule: Literal["half_delta", "three_answers"] = "half_delta"

    @property
    def looks(self) -> Looks:
        """The schedule of interim analyses, for the statistics."""
        return Looks(self.seeds, self.spending)

    @property
    def words(self) -> str:
        """``interim analyses at 5, 10, 20 seeds (Pocock spending), preregistered on 2026-01-01 10:00 UTC``."""
        return f"{looks_text(self.looks)}, preregistered on {self.declared_on}"

    @property
    def declared_on(self) -> str:
        """``2026-01-01 10:00 UTC``."""
        return f"{self.declared_at[:16].replace('T', ' ')} UTC"


def looks_text(looks: Looks) -> str:
    """``interim analyses at 5, 10, 20 seeds (Pocock spending)``."""
    return f"interim analyses at {', '.join(map(str, looks.seeds))} seeds ({_SPENDING_NAMES[looks.spending]} spending)"


def tested_cells(table: Table) -> list[Cell]:
    """The cells of ``table`` with a published difference: those that interim analyses test."""
    cells = []
    for cell in table.cells if table.comparable else ():
        published = cell.row.published.top1_percent if cell.row.published else {}
        if cell.column.id != table.baseline and {cell.column.id, table.baseline} <= published.keys():
            cells.append(cell)
    return cells


def draw_up(table: Table, looks: Looks, *, recorded_before: Sequence[str] = (), unseen: bool = False) -> Declaration:
    """The preregistration of ``looks`` for every cell of ``table`` with a published difference; nothing is written."""
    cells = tested_cells(table)
    return Declaration(
        table=table.id,
        cells=tuple(cell.id for cell in cells),
        configurations={cell.id: cell.hash for cell in _arms(table, cells)},
        seeds=looks.seeds,
        spending=looks.spending,
        alpha=ALPHA,
        declared_at=datetime.now(UTC).isoformat(timespec="seconds"),
        biasrepro=repro.__version__,
        recorded_before=tuple(recorded_before),
        unseen=unseen,
        sources={name: known for cell in cells for name, known in cell.sources.items() if known is not None},
        rule="three_answers",
    )


def declare(results: Path, table: Table, looks: Looks, *, unseen: bool = False) -> tuple[Declaration, bool]:
    """Preregister ``looks`` for every cell of ``table`` with a published difference, and whether this call wrote it.

    Raises UserError if other analyses are preregistered, if nothing is published, if runs were imported into it, and if
    a difference could have been seen already (a cell and its baseline share a recorded seed), unless ``unseen`` states
    that nobody has.
    """
    cells = tested_cells(table)
    if not cells:
        raise UserError(
            f"{table.label} has no published differences to test",
            where=table.id,
            hint="Interim analyses need published differences: table1, table2, released, or a table of your own.",
        )
    path = results / table.id / PREREGISTRATION
    existing = read_declaration(results, table)
    if existing and existing.looks == looks:
        return existing, False
    if existing:
        raise UserError(
            f"different analyses are already preregistered: {existing.words}",
            where=str(path),
            hint="A preregistration cannot be changed: changing it after an analysis would not control the error rate.",
        )
    arms = _arms(table, cells)
    recorded = {cell.id: _recorded_seeds(results, cell) for cell in arms}
    seen = [cell.id for cell in cells if recorded[cell.id] & recorded[f"{table.id}/{cell.row.id}/{table.baseline}"]]
    if seen and not unseen:
        raise UserError(
            f"results exist already: {_named(seen)}. Analyses chosen after seeing results do not control the error",
            where=str(results / table.id),
            hint="If nobody has seen them (no table, report or log), state it with --unseen: the preregistration lists "
            "these runs, and the report says so. Otherwise use a fixed number of seeds: biasrepro sweep --seeds N.",
        )
    runs = [f"{cell.id}/seed-{seed}" for cell in arms for seed in sorted(recorded[cell.id])]
    if imported := [run for run in runs if _is_imported(results / run / "run.json")]:
        raise UserError(
            f"a preregistered table takes no imported runs, and here {counted(len(imported), 'is', 'are')} there, "
            f"{imported[0]} first",
            where=str(results / table.id),
            hint="Give another --results folder, or undo the import.",
        )
    declaration = draw_up(table, looks, recorded_before=runs, unseen=bool(seen))
    make_folder(path.parent, below=results)
    try:
        write_durably(path, _to_bytes(declaration), only_new=True)
    except FileExistsError:  # another process was faster
        return declare(results, table, looks, unseen=unseen)
    return declaration, True


def read_declaration(results: Path, table: Table) -> Declaration | None:
    """The preregistration of ``table`` under ``results``, None if there is none.

    Raises DataError if the file was damaged or edited, or the table has changed since.
    """
    path = results / table.id / PREREGISTRATION
    try:
        raw = read_file(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and not path.is_symlink():
            return None
        problem = reading_failed(error, path)
        problem.hint = problem.hint or _RESTORE
        raise problem from error
    try:
        declaration = Declaration.model_validate_json(unsealed(raw, where=str(path), what="preregistration") + b"\n}")
        looks = declaration.looks
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise DataError(f"not a valid preregistration: {key}: {first['msg']}", where=str(path)) from error
    except UserError as error:
        raise DataError(error.what, where=str(path), hint=_RESTORE) from error
    if declaration.table != table.id:
        raise DataError(f"this preregistration is for another table, {declaration.table}", where=str(path))
    if declaration.alpha != ALPHA:
        raise DataError(f"{looks_text(looks)} use alpha {declaration.alpha:g}, not {ALPHA:g}", where=str(path))
    now = {cell.id: digest(cell.determinants(declaration.sources)) for cell in table.cells}
    changed = [cell for cell, digest in declaration.configurations.items() if now.get(cell) != digest]
    if changed:
        raise DataError(
            f"the preregistration is for a different configuration of {_named(changed)}",
            where=str(path),
            hint="A changed experiment needs a results folder of its own: use --results.",
        )
    _require_its_baseline(table, declaration, path)
    return declaration


def _require_its_baseline(table: Table, declaration: Declaration, path: Path) -> None:
    """Raise DataError if the cells were preregistered as differences from another column."""
    cells = [cell for cell in table.cells if cell.id in declaration.cells]
    compared = {cell.id for cell in _arms(table, cells)}
    if compared != set(declaration.configurations) or any(cell.column.id == table.baseline for cell in cells):
        raise DataError(
            f"the preregistration is for differences from another column than {table.baseline}",
            where=str(path),
            hint="Restore the table's baseline, or use another results folder: --results.",
        )


def read_declarations(results: Path, tables: Iterable[Table]) -> dict[str, Declaration]:
    """The preregistrations of ``tables``, by table id. Raises DataError as ``read_declaration`` does."""
    found = {table.id: read_declaration(results, table) for table in tables}
    return {name: declaration for name, declaration in found.items() if declaration is not None}


def _arms(table: Table, cells: Iterable[Cell]) -> list[Cell]:
    """``cells`` and the baseline's cells that they are compared with, in the table's order."""
    wanted = {f"{table.id}/{cell.row.id}/{column}" for cell in cells for column in (cell.column.id, table.baseline)}
    return [cell for cell in table.cells if cell.id in wanted]


def _recorded_seeds(results: Path, cell: Cell) -> set[int]:
    """The seeds of ``cell`` that have a record, valid or not."""
    there = (path for path in (results / cell.id).glob("seed-*") if os.path.lexists(path / "run.json"))
    numbers = (path.name.removeprefix("seed-") for path in there)
    return {int(number) for number in numbers if number.isascii() and number.isdecimal()}


def _is_imported(path: Path) -> bool:
    """Whether the record at ``path`` was imported; not known of one that cannot be read, which counts nowhere."""
    try:
        return read_record(path, epochs=False).imported is not None
    except DataError:
        return False


def _named(cells: list[str]) -> str:
    rest = len(cells) - _MOST_NAMED
    return ", ".join(cells[:_MOST_NAMED]) + (f" and {rest} more cells" if rest > 0 else "")


def _to_bytes(declaration: Declaration) -> bytes:
    fields = declaration.model_dump(mode="json")
    lines = [f'  "{key}": {json.dumps(value, ensure_ascii=False)}' for key, value in fields.items()]
    return sealed(("{\n" + ",\n".join(lines)).encode())
