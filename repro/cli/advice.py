"""What a results folder is for, by what is in it: the advice of commands follows what somebody meant to train."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.references import command_line
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Table


def is_finished_part(done: Mapping[str, Collection[int]]) -> bool:
    """Whether a part of a table was trained, and finished; ``done`` has the runs of each cell of a row, by row.

    Some rows were never begun, and every cell of the others has as many runs.
    """
    begun = [set(counts) for counts in done.values() if any(counts)]
    return 0 < len(begun) < len(done) and all(counts == begun[0] and len(counts) == 1 for counts in begun)


def next_analysis(table: Table, results: Path) -> str | None:
    """The command that goes on with a preregistered table; None without a preregistration and after its last analysis.

    A plain sweep would train decided cells, and leave out the seeds that the next analysis waits for.
    """
    from repro.analysis.sample_size import next_runs
    from repro.cli.sweep.until_decided import assess_table
    from repro.results.store import is_preregistered

    if not is_preregistered(results, table.id):
        return None
    try:
        runs = next_runs(table, assess_table(table, results))
    except UserError:  # the command says what is wrong
        runs = None
    return None if runs == () else command_line("sweep", table.reference, "--until-decided", results=results)
