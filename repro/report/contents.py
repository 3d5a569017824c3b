"""What goes into a report: the paper's two tables always, whatever else was recorded, and the answers to the claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.analysis.cell import CellResult
from repro.analysis.claims import Claim, assess_claims
from repro.analysis.compute import Compute, Spent, compute_of
from repro.analysis.evidence import Evidence, gather_evidence, table_of_folder, variants_of
from repro.analysis.runs import Metric
from repro.experiment.config import builtin_names, find_table
from repro.experiment.schema import Table, TableKind
from repro.figures import Recorded
from repro.figures.recorded import recorded, tables_judged
from repro.results import RunRecord

_ORDER: tuple[TableKind, ...] = ("paper", "released", "study", "variants", "demo")


@dataclass(frozen=True)
class Report:
    """What was found. ``papers`` are the tables that the verdict is on; ``sections`` those shown, the paper's first.

    ``unknown`` are the folders of results whose experiment is no built-in one and was not named.
    """

    metric: Metric
    papers: tuple[Recorded, ...]
    sections: tuple[Recorded, ...]
    claims: tuple[Claim, ...]
    unknown: tuple[str, ...]

    @property
    def on_paper(self) -> bool:
        """Whether a table of the paper is shown; else the report is on the tables shown, and on no claim."""
        return bool({table.table.id for table in self.papers} & {table.table.id for table in self.sections})

    @property
    def on_another_paper(self) -> bool:
        """Whether all tables shown are another paper's, so that nothing of Bias Loss is said."""
        return not self.on_paper and all(is_of_a_paper(table) for table in self.sections)

    def answers_on(self, table: Recorded) -> bool:
        """Whether the report's first answer is on ``table``: on the paper's own where one is shown, else on all."""
        return not self.on_paper or table.table.id in {paper.table.id for paper in self.papers}

    @property
    def family(self) -> str:
        """What Holm's adjustment is over, in words."""
        if self.on_paper:
            return "both tables, and of any other table separately"
        if self.on_another_paper:
            return "the paper's tables"
        return "the table" if len(self.sections) == 1 else "each table separately"

    @property
    def records(self) -> list[RunRecord]:
        """Every run that was trained by biasrepro and is in a number of some section."""
        return [record for record in self._in_numbers if record.imported is None]

    @property
    def imported(self) -> list[RunRecord]:
        """Every run that was trained elsewhere and is in a number of some section."""
        return [record for record in self._in_numbers if record.imported is not None]

    @property
    def compute(self) -> Compute | None:
        """What the runs of the sections took, each once; None if none was trained by biasrepro."""
        shown = {row.table for section in self.sections for row in section.shown.rows}
        diverged = [record for cell in self._cells for record in cell.runs.diverged]
        found = {record.id: Spent.of(record) for record in (*self._in_numbers, *diverged)}
        return compute_of(filter(None, found.values()), shown)

    @property
    def _in_numbers(self) -> list[RunRecord]:
        found = {record.id: record for cell in self._cells for record in cell.runs.completed}
        return [found[run] for run in sorted(found)]

    @property
    def _cells(self) -> Iterator[CellResult]:
        for section in self.sections:
            shown = {row.table for row in section.shown.rows}
            yield from (cell for cell in section.assessment.cells.values() if cell.table in shown)


def gather_report(
    results: Path, tables: Sequence[Table] = (), metric: Metric = "last", *, count_imported: bool = False
) -> Report:
    """The report on what lies under ``results``: on ``tables``, or on the paper's and all others with records.

    ``count_imported`` asks for imported runs in every table.
    """
    papers = [table for table in map(find_table, builtin_names()) if table.kind == "paper"]
    folders = sorted({path.parts[-5] for path in results.glob("*/*/*/seed-*/run.json")})
    found = {name: table_of_folder(name) for name in folders}
    unknown = [name for name, table in found.items() if table is None]
    ids = {paper.id for paper in papers}
    others = [table for table in found.values() if table and table.id not in ids]
    beside = {variant.id for paper in papers for variant in variants_of(paper)}
    sections = list(tables) or [*papers, *(table for table in others if table.id not in beside)]
    product = find_table("product")
    judged = [other for table in (*papers, *sections) for other in tables_judged(table, sections)]
    evidence = gather_evidence(results, [*judged, product], metric, epochs=True, count_imported=count_imported)
    # The paper's tables first, a demo last; overridden tables after the others.
    sections.sort(key=lambda table: (not table.comparable, _ORDER.index(table.kind), table.id))
    return report_on(papers, sections, product, evidence, tuple(unknown if not tables else ()))


def report_on(
    papers: Sequence[Table],
    sections: Sequence[Table],
    product: Table,
    evidence: Evidence,
    unknown: tuple[str, ...] = (),
) -> Report:
    """The report on ``evidence``; ``product`` is the table of the last claim."""
    of_table = {table.id: recorded(table, evidence, sections) for table in (*papers, *sections)}
    of_claims = [*papers, product]
    return Report(
        metric=evidence.metric,
        papers=tuple(of_table[table.id] for table in papers),
        sections=tuple(of_table[table.id] for table in sections),
        claims=assess_claims(of_claims, evidence.assess(of_claims)),
        unknown=unknown,
    )


def is_of_a_paper(table: Recorded) -> bool:
    """Whether it is a table of a paper, under the paper's protocol."""
    return table.table.family != table.table.id
