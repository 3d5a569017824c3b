"""The results folder: where a run's files are, and what is in it.

``<results>/<table>/<row>/<column>/seed-<n>/`` holds ``run.json`` (the record, once the run has ended),
``checkpoint.pt`` and ``checkpoint.previous.pt`` (while it runs), ``owner-<n>.json`` (who trains it),
``progress.json`` (where it stands, meanwhile),
``failure.json`` (the last attempt's cause, until one succeeds) and ``run.log`` (what the worker printed).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from repro.errors import DataError
from repro.experiment.schema import Run
from repro.results.durable import Writer, make_folder, write_durably
from repro.results.files import read_each, read_file
from repro.results.record import RunRecord, from_bytes, to_bytes


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @classmethod
    def of(cls, results: Path, run: Run) -> RunFolder:
        """The folder of ``run`` under ``results``; nothing is made on disk."""
        return cls(results / run.id)

    @property
    def results(self) -> Path:
        """The results folder that this run's lies in, four levels up."""
        return self.path.parents[min(4, len(self.path.parents)) - 1] if self.path.parents else self.path

    @property
    def record(self) -> Path:
        """The sealed record of a run that ended."""
        return self.path / "run.json"

    @property
    def checkpoint(self) -> Path:
        """The state to resume from."""
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The state before that, should the newest be damaged."""
        return self.path / "checkpoint.previous.pt"

    @property
    def failure(self) -> Path:
        """Why the last attempt failed; gone once one succeeds."""
        return self.path / "failure.json"

    @property
    def progress(self) -> Path:
        """The run's latest progress, while it is in training."""
        return self.path / "progress.json"

    @property
    def log(self) -> Path:
        """What the worker wrote to its standard output and error."""
        return self.path / "run.log"


@dataclass(frozen=True)
class Failure:
    """Why an attempt at a run failed."""

    cause: str
    attempts: int
    at: str


@dataclass(frozen=True)
class Found:
    """A record file: its record, or the problem that keeps it out of every average."""

    path: Path
    record: RunRecord | None
    problem: str | None


def write_record(folder: RunFolder, record: RunRecord, write: Writer = write_durably) -> None:
    """Commit a run's record; its checkpoints and failure, no longer needed, go.

    Raises FileExistsError, with nothing changed, where there is a record already: none is ever replaced.
    """
    make_folder(folder.path, below=folder.results)
    write(folder.record, to_bytes(record), only_new=True)
    no_longer_needed = [folder.checkpoint, folder.previous_checkpoint, folder.failure, folder.progress]
    no_longer_needed += folder.path.glob(".*.part")  # left by killed writers
    for path in no_longer_needed:
        path.unlink(missing_ok=True)


def read_record(path: Path, *, epochs: bool = True) -> RunRecord:
    """Read and check the record at ``path``; its epochs are left empty where they are not wanted.

    Raises DataError where it is damaged, edited or none of ours, and where it belongs to another run than its folder
    says: a record copied from one seed to another would count twice.
    """
    try:
        record = from_bytes(read_file(path), where=str(path), epochs=epochs)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if path.absolute().parts[-5:-1] != tuple(record.id.split("/")):
        raise DataError(f"the record of another run, {record.id}, lies here", where=str(path))
    return record


def find_record(folder: RunFolder, *, epochs: bool = True) -> RunRecord | None:
    """The record of a run that ended, None where it has not. Raises DataError where the record is damaged."""
    try:
        return read_record(folder.record, epochs=epochs)
    except DataError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return None
        raise


def write_failure(folder: RunFolder, cause: str) -> Failure:
    """Note why an attempt failed, counting the attempts."""
    before = read_failure(folder)
    failure = Failure(cause, (before.attempts if before else 0) + 1, datetime.now(UTC).isoformat(timespec="seconds"))
    make_folder(folder.path, below=folder.results)
    write_durably(folder.failure, json.dumps(asdict(failure), indent=2).encode() + b"\n")
    return failure


def read_failure(folder: RunFolder) -> Failure | None:
    """Why the last attempt failed, None where none did (or where the note cannot be read: it only informs)."""
    try:
        data = json.loads(read_file(folder.failure))
        return Failure(str(data["cause"]), int(data["attempts"]), str(data["at"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def load_records(results: Path, tables: Iterable[str] | None = None, *, epochs: bool = True) -> list[Found]:
    """Every record under ``results`` (of the named tables, where given), ordered by path; damaged ones with why.

    Without their ``epochs``, thousands are read in an eighth of the time.
    """
    if tables is None:
        paths = list(_record_paths(results, 4))
    else:
        paths = [path for table in tables for path in _record_paths(results / table, 3)]
    return list(read_each(partial(_found, epochs=epochs), paths))


def records_without_epochs(results: Path) -> Iterator[RunRecord]:
    """Every whole record under ``results`` without its epochs, one after another: thousands need little memory."""
    found = read_each(partial(_found, epochs=False), _record_paths(results, 4))
    return (entry.record for entry in found if entry.record is not None)


def _record_paths(folder: Path, depth: int) -> Iterator[Path]:
    """The records so many folders below ``folder``, ordered by path.

    A folder that may not be read stands for a record that cannot be read either: it is not silently passed over.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except PermissionError:
        yield folder / "run.json"
        return
    except OSError:  # a file, a link to nowhere
        return
    if depth == 0:
        yield from [folder / "run.json"] if "run.json" in names else []
        return
    for name in names:
        if depth > 1 or name.startswith("seed-"):
            yield from _record_paths(folder / name, depth - 1)


def _found(path: Path, *, epochs: bool) -> Found:
    try:
        return Found(path, read_record(path, epochs=epochs), None)
    except DataError as error:
        return Found(path, None, error.what)
