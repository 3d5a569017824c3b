"""``biasrepro export``: the records as one tidy table for other tools, and their JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.folders import RESULTS_DEFAULT, Results, say_if_absent
from repro.cli.options import Output, Overwrite, Plugins, complete, format_option, refuse_unused
from repro.cli.references import tables_argument
from repro.errors import UserError

if TYPE_CHECKING:
    from repro.results import Found, RunRecord

_SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".json": "schema"}


def export(
    context: typer.Context,
    tables: Annotated[list[str] | None, tables_argument("every table with records")] = None,
    output: Output = None,
    format_name: Annotated[
        str | None,
        format_option("csv", "parquet", "schema", default="csv", more=" schema: the JSON Schema of the records."),
    ] = None,
    level: Annotated[
        str,
        typer.Option(
            metavar="epochs|runs",
            help="A row for every epoch, or for every run.",
            autocompletion=complete("epochs", "runs"),
        ),
    ] = "epochs",
    overwrite: Overwrite = False,
    plugin: Plugins = None,
    results: Results = RESULTS_DEFAULT,
) -> None:
    """Export every epoch of every run as CSV or Parquet, one row each, for other tools."""
    from repro.analysis.evidence import paths_of
    from repro.cli.console import say
    from repro.cli.output import deliver, fail_if_unread, format_of, refuse_unknown, refuse_unwritable
    from repro.experiment.config import find_table
    from repro.results.rows import COLUMNS, schema_to_bytes, to_csv, to_parquet
    from repro.results.store import each_record, record_paths
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
    chosen = [find_table(name) for name in tables or ()]
    say_if_absent(results)
    paths = paths_of(results, chosen) if chosen else list(record_paths(results))
    left_out: list[Found] = []
    records = _whole(each_record(paths), left_out)
    deliver((to_parquet if format_name == "parquet" else to_csv)(records, level), output)
    say(f"{counted(len(paths) - len(left_out), 'run')} exported.", stderr=True)
    for entry in left_out:
        say(f"  left out: {entry.path}: {entry.problem}", stderr=True)
    fail_if_unread({str(entry.path): entry.problem or "" for entry in left_out if entry.kind != "damaged"})
    return None


def _whole(found: Iterable[Found], left_out: list[Found]) -> Iterator[RunRecord]:
    """The records that can be used, as they are read; ``left_out`` gets the others."""
    for entry in found:
        if entry.record is None:
            left_out.append(entry)
        else:
            yield entry.record
