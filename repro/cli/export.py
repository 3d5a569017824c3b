"""``biasrepro export``: the records as one tidy table for other tools, and their JSON Schema."""

from __future__ import annotations

from typing import Annotated

import typer

from repro.cli.options import RESULTS_DEFAULT, Output, Overwrite, Results, refuse_unused
from repro.cli.references import tables_argument
from repro.errors import UserError

_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".json": "schema"}


def export(
    context: typer.Context,
    tables: Annotated[list[str] | None, tables_argument("every table with records")] = None,
    output: Output = None,
    format_name: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="csv|parquet|schema",
            help="By default what the output's name ends in, else csv. schema: the JSON Schema of the records.",
            show_default=False,
        ),
    ] = None,
    level: Annotated[
        str, typer.Option(metavar="epochs|runs", help="A row for every epoch, or for every run.")
    ] = "epochs",
    overwrite: Overwrite = False,
    results: Results = RESULTS_DEFAULT,
) -> None:
    """Export every epoch of every run as CSV or Parquet, one row each, for other tools."""
    from repro.analysis.evidence import recorded_of
    from repro.cli.console import say
    from repro.cli.output import deliver, fail_if_unread, format_of, refuse_unknown, refuse_unwritable
    from repro.experiment.config import find_table
    from repro.results import load_records
    from repro.results.rows import COLUMNS, schema_to_bytes, to_csv, to_parquet
    from repro.wording import counted

    format_name = format_of(output, format_name, _SUFFIXES, default="csv")
    refuse_unknown("format", format_name, _SUFFIXES.values())
    refuse_unknown("level", level, COLUMNS)
    if output:
        refuse_unwritable(output, format_name, overwrite=overwrite)
    if format_name == "schema":
        refuse_unused(context, "tables", "level", because="has no effect on the schema")
        deliver(schema_to_bytes(), output)
        say("This is the JSON Schema of the records; a name in .csv or .parquet gets the records.", stderr=True)
        return None
    if format_name == "parquet" and output is None:
        raise UserError("Parquet cannot be shown in a terminal", hint="Name a file: biasrepro export -o runs.parquet")
    found = recorded_of(results, [find_table(name) for name in tables]) if tables else load_records(results)
    records = [entry.record for entry in found if entry.record]
    deliver((to_parquet if format_name == "parquet" else to_csv)(records, level), output)
    say(f"{counted(len(records), 'run')} exported.", stderr=True)
    for entry in found:
        if entry.problem:
            say(f"  left out: {entry.path}: {entry.problem}", stderr=True)
    fail_if_unread({str(entry.path): entry.problem for entry in found if entry.problem and entry.kind != "damaged"})
    return None
