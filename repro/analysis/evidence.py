"""What an answer is based on: the tables that belong to it, their records and their preregistrations, read once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from repro.analysis.runs import Metric, borrows, count_runs, equal_cells
from repro.errors import UserError
from repro.experiment.config import builtin_names, find_table
from repro.experiment.schema import Cell, Table
from repro.results import Found, load_records
from repro.results.store import is_preregistered

if TYPE_CHECKING:  # the statistics are imported where they are used: a sweep and a status need none
    from repro.analysis.assessment import Assessment


@dataclass(frozen=True)
class Evidence:
    """Records of some tables and of those that they borrow from: ``lending`` as ``lending_cells`` gives it.

    ``count_imported`` asks for imported runs in every table.

    ``preregistered`` are the tables with a preregistration under ``results``, by id. It is read when they are judged.
    """

    found: Sequence[Found]
    metric: Metric = "last"
    results: Path = Path()
    preregistered: Mapping[str, Table] = field(default_factory=dict)
    lending: Mapping[str, Sequence[Cell]] = field(default_factory=dict)
    count_imported: bool = False

    @property
    def unread(self) -> dict[str, str]:
        """The paths of the records that could not be read, and why."""
        return {str(entry.path): entry.problem for entry in self.found if entry.problem and entry.kind != "damaged"}

    def assess(self, tables: Sequence[Table]) -> Assessment:
        """Judge ``tables`` together. Raises DataError for a damaged preregistration."""
        from repro.analysis.assessment import assess
        from repro.analysis.preregistration import read_declarations

        judged = [table for table in tables if table.id in self.preregistered]
        looks = read_declarations(self.results, judged)
        return assess(
            tables,
            self.found,
            self.metric,
            looks=looks,
            lending=self.lending,
            count_imported=self.count_imported,
        )


def gather_evidence(
    results: Path,
    tables: Iterable[Table],
    metric: Metric = "last",
    *,
    epochs: bool = False,
    count_imported: bool = False,
) -> Evidence:
    """Read what is recorded of ``tables`` under ``results``, and what they borrow; epochs take much memory."""
    by_id = {table.id: table for table in tables}
    lending: dict[str, list[Cell]] = {}
    for table in by_id.values():
        lending |= lending_cells(results, table)
    names = {*by_id, *(cell.table for cell in chain.from_iterable(lending.values()))}
    found = load_records(results, sorted(names), epochs=epochs)
    preregistered = {name: table for name, table in by_id.items() if is_preregistered(results, name)}
    return Evidence(found, metric, results, preregistered, lending, count_imported)


def paths_of(results: Path, tables: Sequence[Table]) -> list[Path]:
    """The files of the records of ``tables``, whether they count or not, and of those that these tables borrow."""
    evidence = gather_evidence(results, tables)
    counted, _ = count_runs(tables, evidence.found, lending=evidence.lending)
    names = {table.id for table in tables}
    counts = {record.id for runs in counted.values() for record in (*runs.completed, *runs.diverged)}
    return [
        entry.path
        for entry in evidence.found
        if entry.path.relative_to(results).parts[0] in names or (entry.record and entry.record.id in counts)
    ]


def family_of(table: Table, given: Sequence[Table] = ()) -> list[Table]:
    """``table`` with those that its answers depend on: of its family, and what it stands beside, built in or ``given``.

    Holm's adjustment is over all cells of a paper, whichever of its tables is shown: of the built-in ones, and of the
    files that its ``paper`` lists. Raises ConfigError or UserError for such a file that cannot be read.
    """
    overrides = table.id.removeprefix(table.table)
    listed = table.paper.tables if table.paper and table.family == table.paper.id else ()
    known = [*_built_in(table), *(find_table(f"{Path(table.origin).parent / name}{overrides}") for name in listed)]
    related = [other for other in known if other.family == table.family]
    beside = [other for other in (*known, *given) if other.table == table.beside]
    related += [other for other in beside if other.overrides == table.overrides]
    return list({other.id: other for other in (*related, table)}.values())


def variants_of(table: Table) -> list[Table]:
    """The built-in tables of kind ``variants`` that stand beside ``table``, under the same overrides."""
    if table.table not in builtin_names():
        return []
    return [other for other in _built_in(table) if other.beside == table.table and other.kind == "variants"]


def table_of_folder(name: str) -> Table | None:
    """The table whose results are in a folder of this name; None for a YAML file that is not known by name."""
    with contextlib.suppress(UserError):
        table = find_table(name)
        return table if table.id == name else None
    return None


def lending_cells(results: Path, table: Table) -> dict[str, list[Cell]]:
    """For the id of a cell of ``table``, the cells of built-in tables whose runs it counts if it has none."""
    declared = [table.id] if is_preregistered(results, table.id) else []
    if not borrows(table, declared):
        return {}
    overrides = table.id.removeprefix(table.table)
    recorded = [name for name in builtin_names() if (results / f"{name}{overrides}").is_dir()]
    return equal_cells(table, _built_in(table, recorded))


def _built_in(table: Table, names: Iterable[str] | None = None) -> list[Table]:
    """The built-in tables (of these names) under the overrides of ``table``, without those that cannot have them."""
    overrides = table.id.removeprefix(table.table)
    tables = []
    for name in builtin_names() if names is None else names:
        with contextlib.suppress(UserError):
            tables.append(find_table(f"{name}{overrides}"))
    return tables
