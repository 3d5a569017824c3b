"""From the results folder to an assembled table: reads the records of a table and of its variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from repro.analysis.assessment import assess
from repro.analysis.preregistration import read_declarations
from repro.experiment.config import builtin_names, find_table
from repro.experiment.schema import Table
from repro.results import load_records
from repro.tables.assemble import assemble
from repro.tables.interim_notes import stopping_notes
from repro.tables.structure import AssembledTable, Metric, Verdicts
from repro.tables.verdicts import with_verdicts


def gather(
    table: Table,
    results: Path,
    *,
    metric: Metric = "last",
    show_variants: bool | None = None,
    verdicts: Verdicts | None = None,
) -> AssembledTable:
    """``table`` with every record of it under ``results``, and its variants as ``assemble`` shows them."""
    variants = variants_of(table)
    family = family_of(table) if verdicts else [table]
    found = load_records(results, sorted({one.id for one in (*family, *variants)}), epochs=False)
    shown = assemble(table, found, metric=metric, variants=variants, show_variants=show_variants)
    if verdicts is None:
        return shown
    records = [one.record for one in found if one.record]
    judged = [*family, *variants]
    assessment = assess(judged, records, metric, looks=read_declarations(results, judged))
    shown = replace(shown, notes=(*shown.notes, *stopping_notes(assessment, [table.id], records)))
    return with_verdicts(shown, assessment, verdicts)


def family_of(table: Table) -> list[Table]:
    """``table`` with the tables of the paper, under its overrides where those leave it comparable.

    Holm's adjustment is over all cells of the paper, whichever of its tables is shown; a table without published
    figures may share its cross-entropy runs with one of them.
    """
    settings = table.id.removeprefix(table.table) if table.comparable else ""
    papers = [other for other in map(find_table, builtin_names()) if other.kind == "paper"]
    own = [find_table(f"{paper.table}{settings}") for paper in papers] if settings else papers
    return list({one.id: one for one in (*own, table)}.values())


def variants_of(table: Table) -> list[Table]:
    """The built-in tables of kind ``variants`` that stand beside ``table``, under the same overrides."""
    if table.table not in builtin_names():
        return []
    settings = table.id.removeprefix(table.table)
    beside = (variant for variant in map(find_table, builtin_names()) if variant.beside == table.table)
    return [find_table(f"{variant.table}{settings}") for variant in beside if variant.kind == "variants"]


def modified_siblings(table: Table, results: Path) -> list[tuple[str, int]]:
    """The ids of the same table under overrides that have records under ``results``, and how many each."""
    if not results.is_dir():
        return []
    folders = sorted(folder for folder in results.iterdir() if folder.name.startswith(f"{table.table}+"))
    counts = [(folder.name, sum(1 for _ in folder.glob("*/*/seed-*/run.json"))) for folder in folders]
    return [(name, count) for name, count in counts if count and name != table.id]
