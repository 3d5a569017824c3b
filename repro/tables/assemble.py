"""From a table's definition and the records found to what the table says. Pure: no file, no format, no torch."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import chain
from typing import Any, NamedTuple

from repro.analysis.chance import chance_level_percent
from repro.analysis.compute import Spent, compute_of
from repro.analysis.runs import (
    CellKey,
    CellRuns,
    LeftOut,
    Metric,
    Reason,
    count_runs,
    difference_points,
)
from repro.experiment.schema import Cell, Column, Row, Table
from repro.results import Found, RunRecord
from repro.tables.compute_words import compute_text
from repro.tables.configuration_words import configuration_lines
from repro.tables.footnotes import (
    Footnotes,
    accepted_text,
    borrowed_text,
    chance_text,
    code_versions,
    exclusion_text,
    imported_text,
    mixture_texts,
    parameters_text,
    plain,
    tally,
    variants_text,
)
from repro.tables.part import ALL, Part
from repro.tables.structure import (
    AssembledCell,
    AssembledRow,
    AssembledTable,
    Heading,
    Note,
    Sample,
)
from repro.wording import decimals_printed

_PUBLISHED_AS = {"paper": "paper", "released": "released", "variants": "published", "study": "published"}


def assemble(
    table: Table,
    found: Iterable[Found],
    *,
    metric: Metric = "last",
    variants: Sequence[Table] = (),
    show_variants: bool | None = None,
    lending: Mapping[str, Sequence[Cell]] | None = None,
    count_imported: bool = False,
    part: Part = ALL,
) -> AssembledTable:
    """What ``table`` says, given every record file of it, of its ``variants`` and of tables that lend it runs.

    ``metric`` is the epoch reported: ``last``, or ``best``, which is selected on the test set. A variant's row stands
    under the row that it is beside: if it has any record (None), always (True) or never (False). ``lending``
    and ``count_imported`` as for ``count_runs``. ``part`` are the rows and columns that are shown.
    """
    variants = variants if show_variants is not False else ()
    counted, unplaced = count_runs([table, *variants], found, metric, lending, count_imported=count_imported)
    beside = [_Source(variant, row, counted, variant=True) for variant in variants for row in variant.rows]
    beside = [source for source in beside if show_variants or source.found_any]
    sources = []
    whole, table = table, part.of(table)
    for row in table.rows:
        own_row = _Source(table, row, counted)
        sources += [own_row, *(source.under(table) for source in beside if source.row.beside == row.id)]
    builder = _Builder(table, sources, unplaced, metric)
    rows_built = tuple(builder.row(source) for source in sources)  # before the notes: marks are given on the way
    completed = [record for source in sources for record in source.completed]
    trained = [record for record in completed if record.imported is None]
    planned = range(table.seeds)
    own = [counted[table.id, cell.row.id, cell.column.id] for cell in table.cells]
    return AssembledTable(
        id=table.id,
        reference=table.reference,
        label=table.label,
        title=table.title,
        kind=table.kind,
        source=table.source,
        dataset=table.dataset,
        metric=metric,
        overrides=table.overrides,
        comparable=table.comparable,
        published_as=builder.published_as,
        columns=tuple(Heading(column.id, plain(column.title), column.id == table.baseline) for column in table.columns),
        baseline=next(plain(column.title) for column in whole.columns if column.id == whole.baseline),
        rows=rows_built,
        notes=(*builder.footnotes.notes(), *builder.general_notes(trained), *_compute_notes(sources)),
        left_out=builder.left_out,
        seeds=table.seeds,
        recorded_runs=sum(run.seed in planned for runs in own for run in (*runs.completed, *runs.diverged)),
        planned_runs=len(table.cells) * table.seeds,
        devices=tally(record.provenance.device_name for record in trained),
        code_hashes=code_versions(trained),
        configuration=tuple(configuration_lines(completed or [_Planned.of(cell) for cell in table.cells])),
        whole=len(table.cells) == len(whole.cells),
        decimals=_decimals((*whole.rows, *(source.row for source in beside))),
    )


def _decimals(rows: Iterable[Row]) -> int:
    """The decimals of the most precise accuracy that is published for ``rows``, at least one."""
    return decimals_printed(chain.from_iterable(row.published.top1_percent.values() for row in rows if row.published))


class _Planned(NamedTuple):
    """What a record of a cell would say."""

    row: str
    column: str
    configuration: dict[str, Any]

    @classmethod
    def of(cls, cell: Cell) -> _Planned:
        return cls(cell.row.id, cell.column.id, cell.determinants())


def setting_text(key: str, value: Any) -> str:
    """An override as a person would type it."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


class _Source:
    """A row, the table that defines it, and its runs by column."""

    def __init__(self, table: Table, row: Row, counted: dict[CellKey, CellRuns], *, variant: bool = False) -> None:
        self.table, self.row, self.variant = table, row, variant
        self.runs = {column.id: counted[table.id, row.id, column.id] for column in table.columns}
        self.baseline = counted.get((table.id, row.id, table.baseline), CellRuns())

    def under(self, table: Table) -> _Source:
        """The same row with the columns of ``table`` alone, beside whose row it stands."""
        narrowed = copy(self)
        narrowed.runs = {column.id: self.runs[column.id] for column in table.columns if column.id in self.runs}
        return narrowed

    @property
    def found_any(self) -> bool:
        """Whether it has a record of its own: what it borrows stands elsewhere already."""
        own = any(record.table == self.table.id for record in self.completed)
        return own or any(runs.left_out for runs in self.runs.values())

    @property
    def completed(self) -> list[RunRecord]:
        return [record for cell in self.runs.values() for record in cell.completed]

    @property
    def parameter_counts(self) -> list[int]:
        runs = [run for cell in self.runs.values() for run in (*cell.completed, *cell.diverged)]
        return sorted({run.parameters for run in runs if run.parameters is not None})

    def borrowed(self, column: str) -> dict[str, int]:
        """How many runs of a cell are recorded under each other table."""
        return Counter(record.table for record in self.runs[column].completed if record.table != self.table.id)


class _Builder:
    """Builds rows top to bottom, handing out the marks of their notes on the way."""

    def __init__(self, table: Table, sources: Sequence[_Source], unplaced: tuple[LeftOut, ...], metric: Metric) -> None:
        self.table, self.metric = table, metric
        self.footnotes = Footnotes()
        cells = [cell for source in sources for cell in source.runs.values()]
        self.left_out = (*chain.from_iterable(cell.left_out for cell in cells), *unplaced)
        self.published_as = _published_as(table)
        by_reason: dict[Reason, list[LeftOut]] = defaultdict(list)
        for record in self.left_out:
            by_reason[record.why].append(record)
        self._exclusion_texts = {why: exclusion_text(why, records, table.id) for why, records in by_reason.items()}
        self._borrowed_texts = _borrowed_texts(sources)
        imported = [record for cell in cells for record in cell.completed if record.imported]
        self._imported_text = imported_text(imported, table.id) if imported else ""
        accepted = [record for cell in cells for record in cell.completed if record.provenance.changes_accepted]
        self._accepted_text = accepted_text(accepted, table.id) if accepted else ""
        dead = [record for cell in cells for record in cell.at_chance]
        level = chance_level_percent(table.dataset, dead[0]) if dead else None
        self._chance_text = chance_text(dead, level, table.id) if level is not None else ""
        self._variants_text = variants_text(sorted({source.table.id for source in sources if source.variant}))

    def row(self, source: _Source) -> AssembledRow:
        """One row, with its cells in the order of the main table's columns."""
        row, published = source.row, source.row.published if self.published_as else None
        marks = [self.footnotes.mark_variant(self._variants_text)] if source.variant else []
        marks += [self.footnotes.mark(plain(row.note))] if row.note else []
        counts = source.parameter_counts
        marks += [self.footnotes.mark(parameters_text(counts))] if len(counts) > 1 else []
        return AssembledRow(
            id=row.id,
            table=source.table.id,
            title=plain(row.title),
            model=row.model,
            variant=source.variant,
            published_parameters_millions=published.parameters_millions if published else None,
            counted_parameters=counts[0] if len(counts) == 1 else None,
            cells=tuple(self._cell(source, column) for column in self.table.columns),
            marks=tuple(marks),
        )

    def general_notes(self, trained: Sequence[RunRecord]) -> Iterable[Note]:
        """What is to be said of the whole table, beside its legend."""
        if self.table.overrides and self.table.comparable:
            settings = ", ".join(f"`{setting_text(key, value)}`" for key, value in self.table.overrides)
            yield Note(None, f"Executed with {settings}, which the table itself does not set.")
        if "unknown" in self._exclusion_texts:
            yield Note(None, self._exclusion_texts["unknown"])
        yield from (Note(None, text) for text in mixture_texts(trained))

    def _cell(self, source: _Source, column: Column) -> AssembledCell:
        published = source.row.published.top1_percent if source.row.published and self.published_as else {}
        runs = source.runs.get(column.id, CellRuns())
        against = self.table.baseline
        ours, baseline = _sample(runs), _sample(source.baseline)
        is_baseline = column.id == against
        both_published = column.id in published and against in published and not is_baseline
        return AssembledCell(
            column=column.id,
            published=published.get(column.id),
            published_delta=difference_points(published[column.id], published[against]) if both_published else None,
            ours=ours,
            delta=ours.minus(baseline) if ours and baseline and not is_baseline else None,
            diverged_seeds=tuple(record.seed for record in runs.diverged),
            imported_seeds=tuple(record.seed for record in runs.completed if record.imported),
            marks=self._marks(source, column),
        )

    def _marks(self, source: _Source, column: Column) -> tuple[str, ...]:
        if column.id not in source.runs:
            return ()
        runs = source.runs[column.id]
        reasons = dict.fromkeys(record.why for record in runs.left_out)
        texts = [self._exclusion_texts[why] for why in reasons]
        if runs.at_chance:
            texts.append(self._chance_text)
        if any(record.imported for record in runs.completed):
            texts.append(self._imported_text)
        if any(record.provenance.changes_accepted for record in runs.completed):
            texts.append(self._accepted_text)
        texts += [self._borrowed_texts[lender] for lender in source.borrowed(column.id)]
        return tuple(self.footnotes.mark(text) for text in texts)


def _sample(runs: CellRuns) -> Sample | None:
    return Sample.of(dict(zip(runs.seeds, runs.top1_percent, strict=True)))


def _borrowed_texts(sources: Iterable[_Source]) -> dict[str, str]:
    """By the id of a table that lends runs, the footnote that names the cells that count them."""
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for source in sources:
        for column in source.runs:
            for lender, count in source.borrowed(column).items():
                counts[lender][f"{source.row.id}/{column}"] = count
    return {lender: borrowed_text(lender, list(cells), sum(cells.values())) for lender, cells in counts.items()}


def _compute_notes(sources: Sequence[_Source]) -> Iterable[Note]:
    """What the runs took that this table and its variants recorded, whether they completed or diverged."""
    cells = [cell for source in sources for cell in source.runs.values()]
    spent = [Spent.of(record) for cell in cells for record in (*cell.completed, *cell.diverged)]
    compute = compute_of(filter(None, spent), {source.table.id for source in sources})
    if compute is not None:
        yield Note(None, compute_text(compute))


def _published_as(table: Table) -> str | None:
    """How the line of published figures is called; None if nothing published may stand beside these runs."""
    if not table.comparable or not any(row.published for row in table.rows):
        return None
    return _PUBLISHED_AS.get(table.kind)
