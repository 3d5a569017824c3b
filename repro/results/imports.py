"""Runs that were trained elsewhere: from a CSV file of accuracies to records that say where they come from."""

from __future__ import annotations

import csv
import hashlib
import io
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import repro
from repro.errors import DataError, nearest
from repro.experiment.schema import Cell, Run, Table
from repro.results.files import NoPlainFile, read_file, reading_failed
from repro.results.record import Imported, Provenance, RunRecord
from repro.wording import shell_line

COLUMNS = ("row", "column", "seed", "top1")
EPOCH = "epoch"
_FORM = "One line a run: row,column,seed,top1. With curves, one line an epoch: row,column,seed,epoch,top1."
_WHOLE_NUMBER = re.compile(r"[0-9]{1,10}")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?|\.[0-9]+")
_FOR_UTF8 = "Save it as CSV in UTF-8."


@dataclass
class _Curve:
    """A run as it is read: its cell, the line it begins in, and its top-1 and line by epoch (0 without epochs)."""

    run: Run
    line: int
    top1_percent: dict[int, float] = field(default_factory=dict)
    lines: dict[int, int] = field(default_factory=dict)


def records_of_csv(path: Path, table: Table) -> list[RunRecord]:
    """The runs in the file at ``path`` as records of ``table``, in the order of their cells and seeds.

    The columns are ``row``, ``column``, ``seed`` and ``top1`` in percent; with a column ``epoch``, a line is an epoch,
    and the last one is the run's. Raises DataError, with the line, for whatever is not a run of the table.
    """
    try:
        raw = read_file(path)
    except (OSError, MemoryError) as error:
        if isinstance(error, FileNotFoundError | NoPlainFile | IsADirectoryError):
            raise DataError(f"cannot be read: {error.strerror}", where=str(path), hint="Name a CSV file.") from error
        raise reading_failed(error, path) from error
    curves = _curves(_lines(raw, path), path, table)
    _refuse_unknown_sources((curve.run for curve in curves), path, table)
    digest, now = hashlib.sha256(raw).hexdigest(), datetime.now(UTC).isoformat(timespec="seconds")
    order = {cell.id: index for index, cell in enumerate(table.cells)}
    in_order = sorted(curves, key=lambda curve: (order[curve.run.cell.id], curve.run.seed))
    return [_record(curve, Imported(file=path.name, sha256=digest, line=curve.line, at=now)) for curve in in_order]


def _refuse_unknown_sources(runs: Iterable[Run], path: Path, table: Table) -> None:
    """Raise DataError if a plugin is not loaded, or images are not decoded: a record without their hash is of none."""
    unknown = {name for run in runs for name, known in run.cell.sources.items() if known is None}
    if unknown:
        decode = shell_line(["biasrepro", "data", "fetch", table.reference])
        ways_out = {"images": f"Decode the images first: `{decode}`."}
        hints = [ways_out.get(name, f"Load the plugin: --plugin {name}.py.") for name in sorted(unknown)]
        what = f"not known here, and needed for {table.id}: {', '.join(sorted(unknown))}"
        raise DataError(what, where=str(path), hint=" ".join(hints))


def _lines(raw: bytes, path: Path) -> list[tuple[int, dict[str, str]]]:
    """The lines below the heading, with their numbers in the file and their fields by column."""
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError("this is UTF-16", where=str(path), hint=_FOR_UTF8)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError("this is not UTF-8", where=f"{path}:{line}", hint=_FOR_UTF8) from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines = []
    try:
        for fields in reader:
            if any(value.strip() for value in fields):
                lines.append((reader.line_num, [value.strip() for value in fields]))
    except csv.Error as error:
        raise DataError(f"not CSV: {error}", where=f"{path}:{reader.line_num}", hint=_FORM) from error
    if not lines:
        raise DataError("the file is empty", where=str(path), hint=_FORM)
    (number, heading), *rest = lines
    _check_heading(heading, f"{path}:{number}")
    if not rest:
        raise DataError("there is no run below the heading", where=str(path), hint=_FORM)
    for number, fields in rest:
        if len(fields) != len(heading):
            what = f"{len(fields)} fields, where the heading has {len(heading)}"
            raise DataError(what, where=f"{path}:{number}", hint="A number has a point, not a comma, in it.")
    return [(number, dict(zip(heading, fields, strict=True))) for number, fields in rest]


def _check_heading(heading: Sequence[str], where: str) -> None:
    """Raise DataError unless the columns are those of a file of runs, each once."""
    if len(heading) == 1 and ";" in heading[0]:
        hint = "Save it with commas, and with points in numbers."
        raise DataError("its columns are separated by semicolons", where=where, hint=hint)
    if len(set(heading)) < len(heading):
        raise DataError("a column is there twice", where=where, hint=_FORM)
    if unknown := [name for name in heading if name not in (*COLUMNS, EPOCH)]:
        names = ", ".join(f"'{name[:60]}'" for name in unknown[:5])
        raise DataError(f"unknown columns: {names}", where=where, hint=_FORM)
    if missing := [name for name in COLUMNS if name not in heading]:
        raise DataError(f"missing columns: {', '.join(missing)}", where=where, hint=_FORM)


def _curves(lines: Sequence[tuple[int, dict[str, str]]], path: Path, table: Table) -> list[_Curve]:
    """The runs that the lines are of. Raises DataError for a line that is not of the table, or is there twice."""
    cells = {(cell.row.id, cell.column.id): cell for cell in table.cells}
    curves: dict[str, _Curve] = {}
    for number, fields in lines:
        where = f"{path}:{number}"
        run = Run(cell=_cell(fields, cells, table, where), seed=_whole(fields["seed"], "seed", where, 0, 2**32 - 1))
        epoch = 0
        if EPOCH in fields:
            epoch = _whole(fields[EPOCH], EPOCH, where, 1, run.cell.recipe.epochs)
        curve = curves.setdefault(run.id, _Curve(run, number))
        if epoch in curve.lines:
            which = f"{run.id}, epoch {epoch}" if epoch else run.id
            raise DataError(f"{which} is there twice: also in line {curve.lines[epoch]}", where=where)
        curve.lines[epoch] = number
        curve.top1_percent[epoch] = _percent(fields["top1"], where)
    for curve in curves.values():
        last, planned = max(curve.lines), curve.run.cell.recipe.epochs
        if last not in (0, planned):
            raise DataError(
                f"the curve of {curve.run.id} ends with epoch {last}; a run of {table.id} has {planned}",
                where=f"{path}:{curve.lines[last]}",
                hint="Import it into a table with its number of epochs: --set recipe.epochs=N, or a YAML of your own.",
            )
    return list(curves.values())


def _cell(fields: dict[str, str], cells: dict[tuple[str, str], Cell], table: Table, where: str) -> Cell:
    for kind, known in (("row", [row.id for row in table.rows]), ("column", [column.id for column in table.columns])):
        if fields[kind] not in known:
            what = f"{table.id} has no {kind} called '{fields[kind][:60]}'"
            raise DataError(what, where=where, hint=nearest(fields[kind], known))
    return cells[fields["row"], fields["column"]]


def _whole(text: str, what: str, where: str, least: int, most: int) -> int:
    if _WHOLE_NUMBER.fullmatch(text) and least <= int(text) <= most:
        return int(text)
    hint = "Epochs count from 1: add 1 to each, if yours count from 0." if what == EPOCH and text == "0" else None
    raise DataError(f"{what} '{text[:60]}' is not a whole number from {least} to {most:,}", where=where, hint=hint)


def _percent(text: str, where: str) -> float:
    if _NUMBER.fullmatch(text) and float(text) <= 100:
        return float(text)
    raise DataError(f"top1 '{text[:60]}' is not a number from 0 to 100", where=where, hint="It is in percent: 43.2")


def _record(curve: _Curve, imported: Imported) -> RunRecord:
    run, by_epoch = curve.run, dict(sorted(curve.top1_percent.items()))
    last = by_epoch[max(by_epoch)]
    epochs = tuple(by_epoch) if 0 not in by_epoch else ()
    top1 = tuple(by_epoch.values()) if epochs else ()
    best = max(top1, default=None)
    return RunRecord(
        id=run.id,
        table=run.cell.table,
        row=run.cell.row.id,
        column=run.cell.column.id,
        seed=run.seed,
        status="completed",
        configuration=run.configuration(),
        configuration_hash=run.hash,
        parameters=None,
        last_top1_percent=last,
        best_top1_percent=best,
        best_epoch=None if best is None else epochs[top1.index(best)],
        state_hash=None,
        execution_in_force={},
        provenance=_provenance(imported.at),
        imported=imported.model_copy(update={"epochs": epochs, "top1_percent": top1}),
        epochs=(),
    )


def _provenance(at: str) -> Provenance:
    """What is known of how an imported run was made: that it was imported, when, and by which version."""
    return Provenance(
        biasrepro=repro.__version__,
        git_commit=None,
        git_dirty=None,
        code_hash="",
        python=platform.python_version(),
        packages={},
        platform="",
        host="",
        device="",
        device_name="imported",
        driver=None,
        threads=0,
        command="",
        started_at=at,
        finished_at=at,
        duration_seconds=0.0,
        images_per_second=0.0,
    )
