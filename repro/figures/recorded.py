"""What figures and the report are drawn from: a table, its runs that count, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from repro.analysis.assessment import Assessment, CellResult, assess
from repro.analysis.preregistration import Declaration, read_declarations
from repro.analysis.runs import Metric
from repro.experiment.schema import Column, Row, Table
from repro.results import Found, RunRecord, load_records
from repro.tables import AssembledTable, assemble, variants_of
from repro.tables.gather import family_of
from repro.tables.interim_notes import stopping_notes
from repro.tables.layout import caveat, label
from repro.tables.structure import LeftOut


@dataclass(frozen=True)
class Recorded:
    """A table with its whole records by run id; ``assessment`` may cover more tables, judged as one family with it."""

    table: Table
    shown: AssembledTable
    assessment: Assessment
    runs: Mapping[str, RunRecord]

    @property
    def label(self) -> str:
        """What the table is called: ``Table 2``, ``Table 1 (modified)``."""
        return label(self.shown)

    @property
    def heading(self) -> str:
        """The label, and what must be said at once of a demo, a study or a changed protocol."""
        warning = caveat(self.shown).replace("`", "")
        return f"{self.label}. {warning}" if warning else f"{self.label}."

    @property
    def declared(self) -> Declaration | None:
        """The looks declared for it, if any: its intervals are then repeated ones."""
        return self.assessment.looks.get(self.table.id)

    @property
    def compared(self) -> tuple[Column, ...]:
        """The columns that have a delta: all but the baseline."""
        baselines = {heading.id for heading in self.shown.columns if heading.baseline}
        return tuple(column for column in self.table.columns if column.id not in baselines)

    def result(self, row: Row, column: Column) -> CellResult:
        """What is said of a cell."""
        return self.assessment.cells[self.table.id, row.id, column.id]

    def completed(self, row: Row, column: Column) -> tuple[RunRecord, ...]:
        """The runs of a cell that count, by seed."""
        return tuple(self.runs[run] for run in self.result(row, column).arm.runs)

    def diverged(self, row: Row, column: Column) -> tuple[RunRecord, ...]:
        """The runs of a cell that a non-finite loss stopped, by seed."""
        left_out = (self.runs.get(one.run) for one in self.result(row, column).arm.left_out)
        return tuple(record for record in left_out if record and record.status == "diverged")


def gather_recorded(tables: Sequence[Table], results: Path, metric: Metric = "last") -> list[Recorded]:
    """Each of ``tables`` with what is recorded of it under ``results``."""
    wanted = [other for table in tables for other in (*family_of(table), *variants_of(table))]
    found = load_records(results, sorted({table.id for table in wanted}))
    looks = read_declarations(results, wanted)
    return [recorded(table, found, metric, looks) for table in tables]


def recorded(
    table: Table, found: Iterable[Found], metric: Metric = "last", looks: Mapping[str, Declaration] | None = None
) -> Recorded:
    """``table`` with what ``found`` holds of it and of the tables that its p-values are adjusted with.

    ``looks`` are the declarations of these tables, by their ids.
    """
    found = list(found)
    records = {one.record.id: one.record for one in found if one.record}
    family = family_of(table)
    declared = {one.id: looks[one.id] for one in family if looks and one.id in looks}
    assessment = assess(family, records.values(), metric, looks=declared)
    shown = assemble(table, found, metric=metric, variants=variants_of(table))
    notes = stopping_notes(assessment, [table.id], records.values())
    return Recorded(table, replace(shown, notes=(*shown.notes, *notes)), assessment, records)


def unusable(tables: Iterable[Recorded]) -> list[LeftOut]:
    """The records that no figure shows: damaged, edited, in a wrong place or of another configuration."""
    found = {one.path: one for table in tables for one in table.shown.left_out if one.why != "diverged"}
    return list(found.values())
