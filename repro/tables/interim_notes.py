"""Notes on preregistered interim analyses: when they are, their alpha, and whether the preregistration came first."""

from __future__ import annotations

from datetime import datetime

from repro.analysis.assessment import Assessment
from repro.analysis.preregistration import Declaration, looks_text
from repro.analysis.stats.alpha_spending import look_levels
from repro.results import RunRecord
from repro.tables.structure import Note
from repro.wording import counted


def stopping_notes(assessment: Assessment, table_id: str) -> tuple[Note, ...]:
    """A note on the whole table, if it has a preregistration."""
    declaration = assessment.looks.get(table_id)
    return (Note(None, stopping_text(declaration, assessment)),) if declaration else ()


def stopping_text(declaration: Declaration, assessment: Assessment) -> str:
    """``Stopping rule of `table2`: interim analyses at 5, 10, 20 seeds (Pocock spending), cumulative alpha ...``."""
    spent = ", ".join(f"{level:.2g}" for level in look_levels(declaration.looks, declaration.alpha).cumsum())
    return (
        f"Stopping rule of `{declaration.table}`: {looks_text(declaration.looks)}, cumulative alpha {spent}, "
        f"preregistered on {declaration.declared_on} {_before_what(declaration, assessment)}. "
        f"{_progress(declaration, assessment)} A difference with a verdict is that of its latest analysis. "
        f"The confidence intervals hold at all analyses together, and the "
        f"p-values are valid whenever a cell stops.{_rule(declaration)}"
    )


def _rule(declaration: Declaration) -> str:
    """What is to be said of an older rule than the one that judges the other cells."""
    if declaration.rule != "half_delta":
        return ""
    return (
        " It keeps the rule of its time: two-sided tests of each cell alone; reproduced is at least half of the "
        "paper's difference, not reproduced an interval that excludes half of it."
    )


def _before_what(declaration: Declaration, assessment: Assessment) -> str:
    """Whether it came before the first run, from the preregistration and the times in the records."""
    before = set(declaration.recorded_before)
    for key, cell in assessment.cells.items():
        if "/".join(key) in declaration.configurations:
            runs = (*cell.runs.completed, *cell.runs.diverged)
            before |= {record.id for record in runs if _ended_before(record, declaration.declared_at)}
    if not before:
        return "before the first run had ended"
    count = counted(len(before), "run")
    unnamed = sorted(before - set(declaration.recorded_before))
    if unnamed:
        return f"after {count} had ended, {len(unnamed)} of which it does not list (such as `{unnamed[0]}`)"
    said = "; its author stated that nobody had seen them" if declaration.unseen else ""
    return f"after {count} had ended{said}"


def _progress(declaration: Declaration, assessment: Assessment) -> str:
    cells = [cell for key, cell in assessment.cells.items() if "/".join(key) in declaration.cells]
    latest = max((cell.look or 0 for cell in cells), default=0)
    if not latest:
        return "No interim analysis has been done yet."
    waiting = sum(cell.next_look is not None for cell in cells)
    rest = f"{waiting} of {len(cells)} cells continue to the next" if waiting else "no cell continues"
    return f"The latest was at {latest} seeds; {rest}."


def _ended_before(record: RunRecord, declared_at: str) -> bool:
    try:
        return datetime.fromisoformat(record.provenance.finished_at) < datetime.fromisoformat(declared_at)
    except (ValueError, TypeError):  # another tool's record may lack the time or its zone
        return False
