"""From the results folder to an assembled table: reads the records of a table, of its variants and of its lenders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from repro.analysis.evidence import family_of, gather_evidence, variants_of
from repro.analysis.runs import Metric
from repro.experiment.schema import Table
from repro.tables.assemble import assemble
from repro.tables.interim_notes import stopping_notes
from repro.tables.part import ALL, Part
from repro.tables.structure import AssembledTable, Verdicts
from repro.tables.verdicts import with_verdicts


def gather(
    table: Table,
    results: Path,
    *,
    metric: Metric = "last",
    show_variants: bool | None = None,
    verdicts: Verdicts | None = None,
    given: Sequence[Table] = (),
    count_imported: bool = False,
    part: Part = ALL,
) -> AssembledTable:
    """``table`` with every record of it under ``results``, and its variants as ``assemble`` shows them.

    ``given`` are the tables shown with it; ``count_imported`` asks for imported runs in every table.
    Of a ``part``, the verdicts are those of the whole table.
    """
    variants = variants_of(table)
    judged = [*(family_of(table, given) if verdicts else [table]), *variants]
    evidence = gather_evidence(results, judged, metric, count_imported=count_imported)
    shown = assemble(
        table,
        evidence.found,
        metric=metric,
        variants=variants,
        show_variants=show_variants,
        lending=evidence.lending,
        count_imported=count_imported,
        part=part,
    )
    if verdicts is None:
        return shown
    assessment = evidence.assess(judged)
    shown = replace(shown, notes=(*shown.notes, *stopping_notes(assessment, table.id)))
    return with_verdicts(shown, assessment, verdicts)


def modified_siblings(table: Table, results: Path) -> list[tuple[str, int]]:
    """The ids of the same table under overrides that have records under ``results``, and how many each."""
    if not results.is_dir():
        return []
    folders = sorted(folder for folder in results.iterdir() if folder.name.startswith(f"{table.table}+"))
    counts = [(folder.name, len(list(folder.glob("*/*/seed-*/run.json")))) for folder in folders]
    return [(name, count) for name, count in counts if count and name != table.id]
