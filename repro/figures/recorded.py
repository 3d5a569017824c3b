"""What figures and the report are drawn from: a table, its runs that count, and what they say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from repro.analysis.assessment import Assessment
from repro.analysis.cell import CellResult
from repro.analysis.evidence import Evidence, family_of, gather_evidence, variants_of
from repro.analysis.preregistration import Declaration
from repro.analysis.runs import LeftOut, Metric
from repro.experiment.schema import Column, Row, Table, baseline_names
from repro.results import RunRecord
from repro.tables import AssembledTable, assemble
from repro.tables.footnotes import plain
from repro.tables.interim_notes import stopping_notes
from repro.tables.layout import caveat, label
from repro.wording import signed


@dataclass(frozen=True)
class Recorded:
    """A table as shown; ``assessment`` also covers its variants and the tables of its family."""

    table: Table
    shown: AssembledTable
    assessment: Assessment

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
    def baseline(self) -> str:
        """What the differences are taken from, in a sentence."""
        return plain(self.table.baseline_name)

    @property
    def declared(self) -> Declaration | None:
        """Its preregistration, if any: its intervals are then repeated ones."""
        return self.assessment.looks.get(self.table.id)

    @property
    def compared(self) -> tuple[Column, ...]:
        """The columns that have a delta: all but the baseline."""
        return tuple(column for column in self.table.columns if column.id != self.table.baseline)

    def result(self, row: Row, column: Column) -> CellResult:
        """What is said of a cell."""
        return self.assessment.cells[self.table.id, row.id, column.id]

    def completed(self, row: Row, column: Column) -> tuple[RunRecord, ...]:
        """The runs of a cell that count, by seed."""
        return self.result(row, column).runs.completed

    def diverged(self, row: Row, column: Column) -> tuple[RunRecord, ...]:
        """The runs of a cell that a non-finite loss stopped, by seed."""
        return self.result(row, column).runs.diverged


def gather_recorded(tables: Sequence[Table], results: Path, metric: Metric = "last") -> list[Recorded]:
    """Each of ``tables`` with what is recorded of it under ``results``, every epoch included."""
    judged = [other for table in tables for other in tables_judged(table, tables)]
    evidence = gather_evidence(results, judged, metric, epochs=True)
    return [recorded(table, evidence, tables) for table in tables]


def tables_judged(table: Table, given: Sequence[Table] = ()) -> list[Table]:
    """The tables that an answer on ``table`` covers; ``given`` are those shown with it."""
    return [*family_of(table, given), *variants_of(table)]


def recorded(table: Table, evidence: Evidence, given: Sequence[Table] = ()) -> Recorded:
    """``table`` with what ``evidence`` holds of it; ``given`` are the tables shown with it."""
    assessment = evidence.assess(tables_judged(table, given))
    shown = assemble(
        table,
        evidence.found,
        metric=evidence.metric,
        variants=variants_of(table),
        lending=evidence.lending,
        count_imported=evidence.count_imported,
    )
    return Recorded(table, replace(shown, notes=(*shown.notes, *stopping_notes(assessment, table.id))), assessment)


def baselines_of(tables: Iterable[Recorded]) -> str:
    """What the differences in ``tables`` are taken from, in a sentence."""
    return plain(baseline_names(recorded.table for recorded in tables))


def baselines_beside_the_papers(tables: Iterable[Recorded], *, far: bool) -> list[str]:
    """The networks whose accuracy under the baseline is within a point of the printed one; if ``far``, the others.

    Each with its table and how far it is, in points: ``ResNet 18 (Table 1, +0.4)``.
    """
    found = []
    for table in tables:
        for row in table.table.rows:
            baseline = table.assessment.cells[table.table.id, row.id, table.table.baseline]
            offset = baseline.baseline_offset
            if offset is not None and baseline.baseline_is_far == far:
                found.append(f"{row.title} ({table.label}, {signed(offset, 1)})")
    return found


def unusable(tables: Iterable[Recorded]) -> list[LeftOut]:
    """The records that no figure shows: damaged, edited, in a wrong place or of another configuration."""
    left_out = chain.from_iterable(table.shown.left_out for table in tables)
    return list({record.path: record for record in left_out if record.why not in ("diverged", "imported")}.values())


def imported_runs(tables: Iterable[Recorded]) -> tuple[set[str], set[str]]:
    """The runs that were trained elsewhere and imported, by id: those that figures show, and those left out."""
    shown, left_out = set(), set()
    for table in tables:
        ids = {row.table for row in table.shown.rows}
        for cell in (cell for cell in table.assessment.cells.values() if cell.table in ids):
            shown |= {record.id for record in cell.runs.completed if record.imported}
        left_out |= {record.run for record in table.shown.left_out if record.why == "imported"}
    return shown, left_out
