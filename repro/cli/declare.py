"""``biasrepro plan --declare``: interim analyses preregistered before there are results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.preflight import say_warnings
from repro.cli.references import command_line
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.analysis.stats.alpha_spending import Looks


def declare_looks(names: Sequence[str], looks: Looks | None, *, unseen: bool, results: Path) -> None:
    """Preregister ``looks`` for each table named, and print the preregistration. Raises UserError."""
    from repro.analysis.preregistration import declare
    from repro.analysis.stats.alpha_spending import look_levels
    from repro.cli.console import say
    from repro.experiment.config import find_table
    from repro.results.store import PREREGISTRATION
    from repro.wording import counted

    if looks is None or not names:
        such = command_line("plan", *(names or ["table2"]), "--looks", "5,10,20", "--declare", results=results)
        raise UserError("--declare takes a table and the seeds of its interim analyses", hint=f"Such as: {such}")
    tables = [find_table(name) for name in names]
    say_warnings(tables)
    for table in tables:
        declaration, is_new = declare(results, table, looks, unseen=unseen)
        spent = ", ".join(f"{level:.2g}" for level in look_levels(looks, declaration.alpha).cumsum())
        state = "preregistered" if is_new else "already preregistered"
        say(f"{state}: {table.id}, {declaration.words}; {counted(len(declaration.cells), 'cell')}")
        say(f"spent   {spent} of alpha up to each analysis; Holm's adjustment over the family at every analysis")
        if before := declaration.recorded_before:
            said = ", stated to be unseen" if declaration.unseen else ", too few for any difference"
            say(f"before  {counted(len(before), 'run')} had a record{said}: the report says so")
        path = results / table.id / PREREGISTRATION
        say(f"file    {path}: never replaced; commit it to version control before any run")
        say(f"next    {command_line('sweep', table.reference, '--until-decided', results=results)}")
