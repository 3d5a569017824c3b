"""What is said of a table whose looks were declared: when one looks, what that may cost, and whether it came first."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from repro.analysis.assessment import Assessment
from repro.analysis.preregistration import Declaration
from repro.analysis.stats.alpha_spending import look_levels
from repro.results import RunRecord
from repro.tables.structure import Note


def stopping_notes(assessment: Assessment, table_ids: Iterable[str], records: Iterable[RunRecord]) -> tuple[Note, ...]:
    """A note on each of these tables that has a declaration, of the whole table."""
    records = list(records)
    return tuple(
        Note(None, stopping_text(assessment.looks[name], assessment, records))
        for name in table_ids
        if name in assessment.looks
    )


def stopping_text(declaration: Declaration, assessment: Assessment, records: Iterable[RunRecord]) -> str:
    """``Stopping (`table2`): looks at 5, 10, 20 seeds (Pocock type), alpha spent up to each ..., declared on ...``."""
    spent = ", ".join(f"{level:.2g}" for level in look_levels(declaration.looks, declaration.alpha).cumsum())
    where, _, when = declaration.words.partition(", declared on ")
    return (
        f"Stopping (`{declaration.table}`): {where}, alpha spent up to each {spent}, declared on {when} "
        f"{_before_what(declaration, records)}. {_progress(declaration, assessment)} The intervals are repeated ones, "
        "which hold at all looks together; p is valid at whichever one stops."
    )


def _before_what(declaration: Declaration, records: Iterable[RunRecord]) -> str:
    """Whether it was declared before the first run, as the declaration and the times in the records say."""
    of_table = (record for record in records if f"{record.table}/{record.row}/{record.column}" in _arms(declaration))
    before = {record.id for record in of_table if _ended_before(record, declaration.declared_at)}
    before |= set(declaration.recorded_before)
    if not before:
        return "before the first run had ended"
    count = f"{len(before)} run{'' if len(before) == 1 else 's'}"
    unnamed = sorted(before - set(declaration.recorded_before))
    if unnamed:
        return f"after {count} had ended, {len(unnamed)} of which it does not name (such as `{unnamed[0]}`)"
    said = ", which nobody had looked at, as whoever declared it stated" if declaration.unseen else ""
    return f"after {count} had ended{said}"


def _progress(declaration: Declaration, assessment: Assessment) -> str:
    cells = [one for key, one in assessment.cells.items() if "/".join(key) in declaration.cells]
    latest = max((one.look or 0 for one in cells), default=0)
    if not latest:
        return "No look has come yet."
    waiting = sum(one.next_look is not None for one in cells)
    rest = f"{waiting} of {len(cells)} cells go on to the next" if waiting else "none goes on"
    return f"The latest look was at {latest} seeds; {rest}."


def _arms(declaration: Declaration) -> frozenset[str]:
    return frozenset(declaration.configurations)


def _ended_before(record: RunRecord, declared_at: str) -> bool:
    try:
        return datetime.fromisoformat(record.provenance.finished_at) < datetime.fromisoformat(declared_at)
    except (ValueError, TypeError):  # a record from elsewhere may not say, or not say its zone
        return False
