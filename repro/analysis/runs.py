"""Which runs count: decided here, for tables, figures, report, status, plan, export and sweep.

A run counts if the record at its own place (``table/row/column/seed-n``) is whole, of the present configuration, and
has an accuracy. Any other record there is left out, with the reason. Nothing is imputed.

A table that has no record of a run counts one of the same configuration and seed that another table recorded: the
product's cross-entropy column is Table 2's, trained once. Such a record is read where it is, never copied. A paper's
table borrows nothing, since its numbers are to be reproduced by runs of its own. Neither does a table with a
preregistration, whose sample sizes were declared for its own runs.

A run that was trained elsewhere and imported has a claimed configuration. A study or a demo counts it, marked wherever
it is shown. Every other table, whose answers are on published numbers, leaves it out unless asked; none lends it.

A completed run counts even at chance level (``chance.py``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Literal, get_args

from repro.analysis.chance import is_at_chance
from repro.analysis.sources import assumed_sources, unlike_assumed
from repro.experiment.schema import NOTHING, Cell, Run, Table
from repro.results import Found, RunRecord

Metric = Literal["last", "best"]
METRICS: tuple[Metric, ...] = get_args(Metric)
CellKey = tuple[str, str, str]  # the ids of a table, a row and a column
# "unreadable" are records that may be whole: a read failed, or a newer version wrote them.
Reason = Literal["diverged", "configuration", "imported", "unusable", "unreadable", "unknown"]


@dataclass(frozen=True)
class LeftOut:
    """A record that is in no mean, and why; ``run`` is the run whose place it is at."""

    run: str
    path: str
    why: Reason
    detail: str

    @property
    def reason(self) -> str:
        """The reason in words."""
        words = {"diverged": "diverged: ", "configuration": "recorded under another configuration: "}
        return f"{words.get(self.why, '')}{self.detail}"

    @property
    def seed(self) -> int | None:
        """The seed of its place, None if that names none."""
        return seed_of(self.run.rpartition("/")[2])


@dataclass(frozen=True)
class CellRuns:
    """The runs of one cell, by seed: those that count, those that diverged, and every record that is left out.

    ``at_chance`` are those of ``completed`` that ended at chance level.
    ``missing`` are the planned seeds without a record. ``lost`` are seeds that ran and have no accuracy: trained again,
    they would end the same.
    """

    completed: tuple[RunRecord, ...] = ()
    top1_percent: tuple[float, ...] = ()
    diverged: tuple[RunRecord, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[int, ...] = ()
    lost: tuple[int, ...] = ()
    at_chance: tuple[RunRecord, ...] = ()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that count."""
        return tuple(record.seed for record in self.completed)

    @property
    def n(self) -> int:
        """How many runs count."""
        return len(self.completed)

    @property
    def mean(self) -> float | None:
        """The arithmetic mean, None without runs."""
        return fmean(self.top1_percent) if self.completed else None


def difference_points(ours: float, baseline: float) -> float:
    """One accuracy minus another, wherever two are compared: accuracies count images, beyond nine decimals is binary.

    So the difference of two printed or recorded accuracies is one number, and rounds to one number.
    """
    return round(ours - baseline, 9)


def borrows(table: Table, declared: Collection[str]) -> bool:
    """Whether ``table`` counts runs of other tables; ``declared`` are the ids of tables with a preregistration."""
    return table.kind != "paper" and table.id not in declared


def equal_cells(table: Table, others: Iterable[Table]) -> dict[str, list[Cell]]:
    """For the id of each cell of ``table``, the cells of ``others`` with the very same configuration, by id.

    A cell of which something is not known on this machine has none.
    """
    by_hash = defaultdict(list)
    for cell in chain.from_iterable(other.cells for other in others if other.id != table.id):
        by_hash[cell.hash].append(cell)
    equal = {cell.id: by_hash.get(cell.hash, []) for cell in table.cells if None not in cell.sources.values()}
    return {cell: sorted(found, key=lambda lender: lender.id) for cell, found in equal.items() if found}


def counts_imported(table: Table) -> bool:
    """Whether ``table`` counts imported runs without being asked: it gives no answer on published numbers."""
    return table.kind in ("study", "demo")


def why_left_out(run: Run, record: RunRecord, assumed: Mapping[str, str] = NOTHING) -> Reason | None:
    """Why a whole record at the place of ``run`` is left out, None if it counts; ``assumed`` as in ``count_runs``."""
    if not record.is_of(run) or unlike_assumed(record.sources, assumed):
        return "configuration"
    return "diverged" if record.status == "diverged" else None


def count_runs(
    tables: Iterable[Table],
    found: Iterable[Found | RunRecord],
    metric: Metric = "last",
    lending: Mapping[str, Sequence[Cell]] | None = None,
    *,
    count_imported: bool = False,
) -> tuple[dict[CellKey, CellRuns], tuple[LeftOut, ...]]:
    """The runs of every cell of ``tables``, and the records under rows or columns that those tables do not have.

    The order of ``found`` does not matter. A table counts the seeds that it plans and those that it has a record of. A
    run without a record takes that of a cell that is ``lending`` to its cell (``evidence.lending_cells``). Where the
    records of a table disagree on something that is not known here, those that most of them agree on count.
    ``count_imported`` asks for imported runs in every table.
    """
    by_cell: dict[CellKey, dict[str, list[Found]]] = defaultdict(dict)
    for (table_id, row, column, seed_name), entry in sorted(_placed(found), key=lambda placed: placed[0]):
        by_cell[table_id, row, column].setdefault(seed_name, []).append(entry)
    counted: dict[CellKey, CellRuns] = {}
    unplaced: list[LeftOut] = []
    for table in tables:
        own = {key: seeds for key, seeds in by_cell.items() if key[0] == table.id}
        numbers = {seed_of(name) for name in chain.from_iterable(own.values())}
        seeds = sorted({*range(table.seeds), *(number for number in numbers if number is not None)})
        records = [entry.record for of_cell in own.values() for entry in chain.from_iterable(of_cell.values())]
        assumed = assumed_sources(table.cells, [record.sources for record in records if record is not None])
        for cell in table.cells:
            key = (table.id, cell.row.id, cell.column.id)
            lenders = [
                (lender, by_cell.get((lender.table, lender.row.id, lender.column.id), {}))
                for lender in (lending or {}).get(cell.id, ())
            ]
            imported = count_imported or counts_imported(table)
            counted[key] = _count_cell(cell, seeds, own.pop(key, {}), lenders, metric, assumed, count_imported=imported)
        for entry in chain.from_iterable(chain.from_iterable(of_cell.values()) for of_cell in own.values()):
            why: Reason = "unreadable" if _problem_of(entry) == "unreadable" else "unknown"
            unplaced.append(_left_out(entry, why, entry.problem or "the table has no such row or column"))
    return counted, tuple(unplaced)


def top1(record: RunRecord, metric: Metric) -> float | None:
    """Test top-1 in percent: at the last epoch, or at the best one, which is selected on the test set."""
    return record.last_top1_percent if metric == "last" else record.best_top1_percent


def _count_cell(
    cell: Cell,
    seeds: Sequence[int],
    recorded: Mapping[str, Sequence[Found]],
    lenders: Sequence[tuple[Cell, Mapping[str, Sequence[Found]]]],
    metric: Metric,
    assumed: Mapping[str, str],
    *,
    count_imported: bool,
) -> CellRuns:
    """The runs of ``cell``: its own records by the names of their folders, else the first finished one of a lender."""
    completed, figures, diverged, left_out, missing, lost = [], [], [], [], [], []
    own = dict(recorded)
    for seed in seeds:
        run = Run(cell=cell, seed=seed)
        entries: Sequence[Found] = own.pop(f"seed-{seed}", ())
        if not entries:
            entries = _lent(seed, lenders, metric)
        if not entries:
            missing.append(seed)
            continue
        record = entries[0].record
        reason, detail = _judge(run, entries, metric, assumed)
        if reason is None and record is not None and record.imported and not count_imported:
            reason, detail = "imported", f"imported from {record.imported.file}"
        if reason is not None:
            left_out.append(_left_out(entries[0], reason, detail))
        if record is None or reason == "configuration":
            continue
        figure = top1(record, metric)
        if reason == "diverged":
            diverged.append(record)
        elif reason is None and figure is not None:
            completed.append(record)
            figures.append(figure)
        if reason == "diverged" or figure is None:
            lost.append(seed)
    for entry in chain.from_iterable(own.values()):
        left_out.append(_left_out(entry, _problem_of(entry), entry.problem or "the folder's name is no seed's"))
    at_chance = tuple(record for record in completed if is_at_chance(record, cell))
    return CellRuns(
        tuple(completed), tuple(figures), tuple(diverged), tuple(left_out), tuple(missing), tuple(lost), at_chance
    )


def _lent(seed: int, lenders: Sequence[tuple[Cell, Mapping[str, Sequence[Found]]]], metric: Metric) -> Sequence[Found]:
    """The records of the first lender whose run of ``seed`` completed or diverged; empty if there is none."""
    for lender, recorded in lenders:
        entries = recorded.get(f"seed-{seed}", ())
        trained = all(entry.record is None or entry.record.imported is None for entry in entries)
        if entries and trained and _judge(Run(cell=lender, seed=seed), entries, metric)[0] in (None, "diverged"):
            return entries
    return ()


def _judge(
    run: Run, entries: Sequence[Found], metric: Metric, assumed: Mapping[str, str] = NOTHING
) -> tuple[Reason | None, str]:
    """Why the records found for ``run`` are left out, in a word and in words; None if they count."""
    records = [entry.record for entry in entries if entry.record]
    if bad := next((entry for entry in entries if entry.record is None), None):
        return _problem_of(bad), bad.problem or "cannot be used"
    reasons = {why_left_out(run, record, assumed) for record in records}
    if "configuration" in reasons:
        unlike = next((why for record in records if (why := unlike_assumed(record.sources, assumed))), None)
        others = (record.unlike(run) for record in records if not record.is_of(run))
        return "configuration", unlike or next(others, "")
    if len({(record.status, top1(record, metric)) for record in records}) > 1:
        return "unusable", f"{len(records)} records of this run disagree"
    if "diverged" in reasons:
        return "diverged", records[0].reason or "no reason recorded"
    if records[0].imported and top1(records[0], metric) is None:
        return "imported", f"imported from {records[0].imported.file} without epochs, so without a best one"
    if top1(records[0], metric) is None:
        return "unusable", "completed without an accuracy"
    return None, ""


def _problem_of(entry: Found) -> Reason:
    return "unusable" if entry.record or entry.kind == "damaged" else "unreadable"


def _placed(found: Iterable[Found | RunRecord]) -> Iterator[tuple[tuple[str, str, str, str], Found]]:
    """Each record with its place, in four parts; one that is not from a file is at the place that its id names."""
    for entry in found:
        at = Found(Path(entry.id, "run.json"), entry, None) if isinstance(entry, RunRecord) else entry
        match at.path.parts[-5:-1]:
            case (table, row, column, seed):
                yield (table, row, column, seed), at


def _left_out(entry: Found, why: Reason, detail: str) -> LeftOut:
    return LeftOut("/".join(entry.path.parts[-5:-1]), str(entry.path), why, " ".join(detail.split()))


def unread(left_out: Iterable[LeftOut]) -> dict[str, str]:
    """The paths of the records that could not be read, and why."""
    return {entry.path: entry.detail for entry in left_out if entry.why == "unreadable"}


def seed_of(folder: str) -> int | None:
    """The seed of a run by the name of its folder, None if that names none."""
    number = folder.removeprefix("seed-")
    return int(number) if number.isascii() and number.isdecimal() and int(number) < 2**32 else None
