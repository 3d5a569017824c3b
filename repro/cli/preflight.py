"""Before runs start: their results can be written and will fit, or there is one message instead of one a run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.sweep.selection import Plan


def require_writable(results: Path) -> None:
    """Raise UserError where nothing can be written to the results: once and now, not once a run."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        hint = "Mend its permissions or free some disk, or give another --results folder."
        raise UserError(f"nothing can be written here: {error.strerror}", where=str(results), hint=hint) from error


def require_space(results: Path, plan: Plan, at_once: int) -> None:
    """Raise UserError where the records and checkpoints of the runs to train do not fit on the disk of the results."""
    from repro.cli.console import counted, size
    from repro.results.space import free_bytes
    from repro.sweep.cost.estimate import estimate

    needed, free = estimate(plan.todo, {}, at_once).disk_bytes, free_bytes(results)
    if free < needed:
        raise UserError(
            f"the disk is too full: {counted(len(plan.todo), 'run')} may need {size(needed)}, {size(free)} are free",
            where=str(results),
            hint="Make room, or give a --results folder on another disk. `biasrepro verify` lists what may go.",
        )
