"""``biasrepro compare``: two results folders, run by run and cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from repro.cli.folders import recorded_argument
from repro.cli.options import Output, Overwrite, format_option
from repro.cli.references import tables_argument
from repro.errors import UserError
from repro.wording import shell_line


def _folder(name: str) -> Any:
    return typer.Argument(
        metavar=name,
        help="A results folder.",
        readable=False,
        callback=recorded_argument,
        show_default=False,
    )


def compare_folders(
    first: Annotated[Path, _folder("A")],
    second: Annotated[Path, _folder("B")],
    tables: Annotated[list[str] | None, tables_argument("every table with records")] = None,
    output: Output = None,
    format_name: Annotated[str | None, format_option("text", "markdown", "json", default="text")] = None,
    overwrite: Overwrite = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Name every run, not the first ten.")] = False,
) -> None:
    """Compare two results folders: the runs that both have, the means of their cells, and what only one has.

    Exit code 0 if there are runs in both, all are bit-identical and every record can be read; 1 if not.
    """
    from repro.analysis.comparison import compare
    from repro.cli.output import deliver, format_of, refuse_unknown, refuse_unwritable
    from repro.results import load_records
    from repro.tables.comparison_formats import FORMATS, SUFFIXES

    format_name = format_of(output, format_name, SUFFIXES, default="text")
    refuse_unknown("format", format_name, FORMATS)
    if output:
        refuse_unwritable(output, format_name, overwrite=overwrite)
    folders = [first, second]
    _refuse_folders(folders)
    names = [_table_id(name, folders) for name in tables] if tables else None
    comparison = compare(load_records(first, names), load_records(second, names))
    if names and not any(comparison.records):
        raise UserError(
            f"neither folder has a record of {', '.join(names)}", hint="Leave the tables out to compare all."
        )
    words = ["biasrepro", "compare", *map(str, folders), *(tables or []), "--format", format_name]
    text = FORMATS[format_name](comparison, list(map(str, folders)), shell_line(words), all_names=verbose)
    deliver(text, output)
    if not comparison.all_identical:
        raise typer.Exit(1)


def _refuse_folders(folders: Sequence[Path]) -> None:
    """Raise UserError for a folder without records, and for one that is given twice."""
    from repro.results.store import record_paths

    for folder in folders:
        if next(record_paths(folder), None) is None:
            below = folder / "results"
            has_some = below.is_dir() and next(record_paths(below), None) is not None
            hint = f"Did you mean {below}?" if has_some else "Its files are <table>/<row>/<column>/seed-<n>/run.json."
            raise UserError("there is no record in this folder", where=str(folder), hint=hint)
    if folders[0].resolve() == folders[1].resolve():
        raise UserError("this folder is given twice", where=str(folders[1]))


def _table_id(name: str, folders: Sequence[Path]) -> str:
    """The results folder of a table that is named, or given as a file; a name that one of the folders has will do."""
    from repro.experiment.config import find_table

    if "/" not in name and any((folder / name).is_dir() for folder in folders):
        return name
    return find_table(name).id
