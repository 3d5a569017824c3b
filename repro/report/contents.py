"""What goes into a report: the paper's two tables always, whatever else was recorded, and the answers to the claims."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from repro.analysis.assessment import assess
from repro.analysis.claims import Claim, assess_claims
from repro.analysis.preregistration import Declaration, read_declarations
from repro.analysis.runs import Metric
from repro.errors import UserError
from repro.experiment.config import builtin_names, find_table
from repro.experiment.schema import Table, TableKind
from repro.figures import Recorded
from repro.figures.recorded import recorded
from repro.results import Found, RunRecord, load_records
from repro.tables import variants_of
from repro.tables.gather import family_of

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
    def records(self) -> list[RunRecord]:
        """Every run that is in a number of some section."""
        found = {
            run: section.runs[run]
            for section in self.sections
            for row in section.shown.rows
            for cell in row.cells
            for seed in (cell.ours.seeds if cell.ours else ())
            if (run := f"{row.table}/{row.id}/{cell.column}/seed-{seed}") in section.runs
        }
        return [found[run] for run in sorted(found)]


def gather_report(results: Path, tables: Sequence[Table] = (), metric: Metric = "last") -> Report:
    """The report on what lies under ``results``: on ``tables``, or on the paper's and all others with records."""
    papers = [table for table in map(find_table, builtin_names()) if table.kind == "paper"]
    folders = _folders(results)
    known, unknown = _known(folders)
    others = [table for table in known if table.id not in {paper.id for paper in papers}]
    beside = {variant.id for paper in papers for variant in variants_of(paper)}
    sections = list(tables) or [*papers, *(table for table in others if table.id not in beside)]
    product = find_table("product")
    wanted = {
        one.id: one for table in (*papers, product, *sections) for one in (*family_of(table), *variants_of(table))
    }
    found = load_records(results, sorted(wanted))
    looks = read_declarations(results, wanted.values())
    return report_on(papers, _in_order(sections), product, found, metric, tuple(unknown if not tables else ()), looks)


def report_on(
    papers: Sequence[Table],
    sections: Sequence[Table],
    product: Table,
    found: Sequence[Found],
    metric: Metric = "last",
    unknown: tuple[str, ...] = (),
    looks: Mapping[str, Declaration] | None = None,
) -> Report:
    """The report on the record files given; ``product`` is the table of the last claim, ``looks`` what was declared."""
    of_table = {table.id: recorded(table, found, metric, looks) for table in (*papers, *sections)}
    records = [one.record for one in found if one.record]
    of_claims = [*papers, product]
    declared = {table.id: looks[table.id] for table in of_claims if looks and table.id in looks}
    claims = assess_claims(of_claims, assess(of_claims, records, metric, looks=declared))
    return Report(
        metric=metric,
        papers=tuple(of_table[table.id] for table in papers),
        sections=tuple(of_table[table.id] for table in sections),
        claims=claims,
        unknown=unknown,
    )


def _folders(results: Path) -> list[str]:
    """The tables with a record under ``results``."""
    return sorted({path.parts[-5] for path in results.glob("*/*/*/seed-*/run.json")})


def _known(folders: Sequence[str]) -> tuple[list[Table], list[str]]:
    """The tables that the names of these folders find, and the names that find none."""
    known, unknown = [], []
    for name in folders:
        try:
            table = find_table(name)
        except UserError:
            unknown.append(name)
            continue
        if table.id == name:
            known.append(table)
        else:
            unknown.append(name)
    return known, unknown


def _in_order(tables: Sequence[Table]) -> list[Table]:
    """The paper's tables first, a demo last; what was overridden after what was not."""
    return sorted(tables, key=lambda table: (not table.comparable, _ORDER.index(table.kind), table.id))
