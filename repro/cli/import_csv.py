"""``biasrepro import``: accuracies of runs that were trained elsewhere, as records that say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.folders import RESULTS_DEFAULT, ResultsToWrite
from repro.cli.options import Plugins, Settings
from repro.cli.references import command_line, complete_table, with_settings
from repro.errors import UserError
from repro.wording import counted, shell_line

if TYPE_CHECKING:
    from repro.experiment.schema import Table
    from repro.results import RunFolder, RunRecord

_MOST_SHOWN = 10


def import_csv(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="A CSV file: row,column,seed,top1, a line a run, with top1 in percent; or with a column epoch, a line "
            "an epoch.",
            show_default=False,
        ),
    ],
    table_name: Annotated[
        str,
        typer.Option(
            "--table",
            metavar="TABLE",
            help="The table whose configuration these runs have: built in, or a YAML file of your own.",
            autocompletion=complete_table,
            show_default=False,
        ),
    ],
    plugin: Plugins = None,
    settings: Settings = None,
    results: ResultsToWrite = RESULTS_DEFAULT,
) -> None:
    """Import accuracies of runs that were trained elsewhere; they are marked as imported wherever they are shown.

    All runs of the file or none. Tables of the paper leave them out, unless --count-imported asks for them.
    """
    from repro.cli.console import say
    from repro.experiment.config import find_table
    from repro.results import RunFolder
    from repro.results.imports import records_of_csv

    table = find_table(with_settings(table_name, settings or []))
    _refuse_preregistered(table, results)
    records = records_of_csv(file, table)
    folders = [RunFolder(results / record.id) for record in records]
    there = _already_imported(records, folders, table)
    new = [(folder, record) for folder, record in zip(folders, records, strict=True) if folder not in there]
    _write([folder for folder, _ in new], [record for _, record in new])
    say(f"{counted(len(new), 'run')} imported into {results / table.id}{_and_before(len(there))}", "bold green")
    say("That they have the configuration of this table is claimed by the file, not verified.")
    if max(record.last_top1_percent or 0 for record in records) <= 1:
        warning = "every top-1 is at most 1, and they are read as percent: 0.43 is 0.43 %, not 43 %"
        say(f"warning: {warning}. If they are fractions, undo this and import percentages.", "yellow", stderr=True)
    for line in _next_steps(table, records[0], results):
        say(line)


def _refuse_preregistered(table: Table, results: Path) -> None:
    from repro.results.store import PREREGISTRATION, is_preregistered

    if is_preregistered(results, table.id):
        raise UserError(
            f"{table.id} is preregistered: what was known before cannot be added to it",
            where=str(results / table.id / PREREGISTRATION),
            hint="Give another --results folder.",
        )


def _already_imported(records: Sequence[RunRecord], folders: Sequence[RunFolder], table: Table) -> set[RunFolder]:
    """The folders that have a record of this very import. Raises UserError if a place is taken by anything else."""
    from repro.experiment.schema import Run
    from repro.sweep.survey import Stage, state_of

    cells = {(cell.row.id, cell.column.id): cell for cell in table.cells}
    there, taken = set(), []
    for record, folder in zip(records, folders, strict=True):
        assert record.imported is not None
        state = state_of(folder, Run(cell=cells[record.row, record.column], seed=record.seed))
        same_file = state.record and state.record.imported and state.record.imported.sha256 == record.imported.sha256
        if same_file and state.stage is Stage.IMPORTED:
            there.add(folder)
        elif state.stage is not Stage.MISSING:
            detail = f" ({state.detail})" if state.detail else ""
            taken.append(f"{record.id} (line {record.imported.line}): {state.stage.value}{detail}")
    if taken:
        rest = [f"… and {len(taken) - _MOST_SHOWN} more"] if len(taken) > _MOST_SHOWN else []
        raise UserError(
            "\n".join([f"{counted(len(taken), 'run is', 'runs are')} here already:", *taken[:_MOST_SHOWN], *rest]),
            hint="Nothing was imported. Give another --results folder, or leave these runs out of the file.",
        )
    return there


def _write(folders: Sequence[RunFolder], records: Sequence[RunRecord]) -> None:
    """Write all records; if one cannot be written, take back those that were."""
    from repro.results import write_record

    written: list[RunFolder] = []
    try:
        for folder, record in zip(folders, records, strict=True):
            write_record(folder, record)
            written.append(folder)
    except BaseException:
        for folder in written:
            folder.record.unlink(missing_ok=True)
        raise


def _and_before(count: int) -> str:
    return f"; {count} of this file were there already" if count else ""


def _next_steps(table: Table, record: RunRecord, results: Path) -> list[str]:
    """How to see the runs, and how to undo the import."""
    from repro.analysis.runs import counts_imported

    assert record.imported is not None
    asked = [] if counts_imported(table) else ["--count-imported"]
    of_this_file = shell_line(
        ["grep", "-rl", "--null", "--include=run.json", record.imported.sha256, str(results / table.id)]
    )
    return [
        f"show    {command_line('table', table.reference, *asked, results=results)}",
        f"undo    {of_this_file} | xargs -0 rm --",
    ]
