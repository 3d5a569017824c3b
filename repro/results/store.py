"""The results folder: where a run's files are; its record and its failure, written and read.

``<results>/<table>/<row>/<column>/seed-<n>/`` holds ``run.json`` (the record, once the run has ended); in training
``checkpoint.pt``, ``checkpoint.previous.pt``, ``owner-<n>.json`` (who trains it) and ``progress.json``;
``failure.json`` (why the last attempt failed, until one succeeds) and ``run.log`` (what the worker printed);
``weights.safetensors`` (the final weights, if the run keeps them).
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path

from repro.errors import DataError, UserError
from repro.experiment.schema import Run
from repro.results.durable import Writer, make_folder, write_durably
from repro.results.files import read_each, read_file, reading_failed
from repro.results.record import RunRecord, from_bytes, to_bytes
from repro.results.weights_file import KeptWeights

TO_KEEP_WEIGHTS = (
    "To get them, move run.json away and train the run again with --keep-weights. On the same machine and code, an "
    "equal state_hash in both records shows that they are the same weights."
)
PREREGISTRATION = "looks.json"  # in the results folder of a table that has one


@dataclass(frozen=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @classmethod
    def of(cls, results: Path, run: Run) -> RunFolder:
        """The folder of ``run`` under ``results``, which need not exist."""
        return cls(results / run.id)

    @property
    def results(self) -> Path:
        """The results folder, four levels up."""
        return self.path.parents[3]

    @property
    def record(self) -> Path:
        """The sealed record, once the run has ended."""
        return self.path / "run.json"

    @property
    def weights(self) -> Path:
        """The final weights, if the run keeps them."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """The state to resume from."""
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The one before, in case the newest is damaged."""
        return self.path / "checkpoint.previous.pt"

    @property
    def failure(self) -> Path:
        """Why the last attempt failed, until one succeeds."""
        return self.path / "failure.json"

    @property
    def progress(self) -> Path:
        """The latest progress, while the run is in training."""
        return self.path / "progress.json"

    @property
    def log(self) -> Path:
        """The worker's standard output and error."""
        return self.path / "run.log"


@dataclass(frozen=True)
class Failure:
    """Why an attempt at a run failed."""

    cause: str
    attempts: int
    at: str


@dataclass(frozen=True)
class Found:
    """A record file: its record, or the problem that keeps it out of every mean, of a ``kind`` as in ``DataError``."""

    path: Path
    record: RunRecord | None
    problem: str | None
    kind: str = "damaged"


def write_record(folder: RunFolder, record: RunRecord, write: Writer = write_durably) -> None:
    """Commit a run's record, then remove its checkpoints and failure, and weights that it does not name.

    Raises FileExistsError, with nothing changed, if there is a record already: none is ever replaced.
    """
    make_folder(folder.path, below=folder.results)
    write(folder.record, to_bytes(record), only_new=True)
    unneeded = [folder.checkpoint, folder.previous_checkpoint, folder.failure, folder.progress]
    if record.weights is None:  # of an attempt that was to keep them, and was killed
        unneeded.append(folder.weights)
    for path in (*unneeded, *folder.path.glob(".*.part")):  # killed writers leave .part files
        path.unlink(missing_ok=True)


def write_weights(folder: RunFolder, raw: bytes, write: Writer = write_durably) -> KeptWeights:
    """Commit the file of a run's final weights, for the record that is written next; replaces an earlier attempt's."""
    make_folder(folder.path, below=folder.results)
    write(folder.weights, raw)
    return KeptWeights.of(raw)


def require_weights(folder: RunFolder, record: RunRecord) -> KeptWeights:
    """What the record in ``folder`` says of its weights file. Raises UserError if there is none, or no such file."""
    if record.status == "diverged":
        raise UserError("this run diverged, and keeps no weights", where=str(folder.record))
    if record.weights is None:
        raise UserError("this run was recorded without its weights", where=str(folder.record), hint=TO_KEEP_WEIGHTS)
    if not folder.weights.exists():
        hint = f"Copy it back if there is a copy. {TO_KEEP_WEIGHTS}"
        raise UserError("the weights file that the record names is missing", where=str(folder.weights), hint=hint)
    return record.weights


def is_preregistered(results: Path, table_id: str) -> bool:
    """Whether there is a preregistration of this table, or a link to one: it counts even where it cannot be read.

    Raises OSError where that cannot be told.
    """
    try:
        (results / table_id / PREREGISTRATION).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_record(path: Path, *, epochs: bool = True) -> RunRecord:
    """Read and check the record at ``path``, without its epochs unless ``epochs``.

    Raises DataError if it is damaged or edited, and if it is in the folder of another run: a record copied from one
    seed to another would count twice. Raises Unreadable where it could not be read.
    """
    try:
        record = from_bytes(read_file(path), where=str(path), epochs=epochs)
    except (OSError, MemoryError) as error:
        raise reading_failed(error, path) from error
    if path.absolute().parts[-5:-1] != tuple(record.id.split("/")):
        raise DataError(f"this is the record of another run, {record.id}", where=str(path))
    return record


def find_record(folder: RunFolder, *, epochs: bool = True) -> RunRecord | None:
    """The record of a run that ended, None if it has not.

    Raises DataError if the record is damaged or cannot be read, also for a link whose target is not there: the record
    may be elsewhere, and none could be written in its place.
    """
    try:
        return read_record(folder.record, epochs=epochs)
    except DataError as error:
        absent = isinstance(error.__cause__, FileNotFoundError | NotADirectoryError)
        if absent and not folder.record.is_symlink():
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
    """Why the last attempt failed; None if none did, or if the file cannot be read: it only informs."""
    try:
        data = json.loads(read_file(folder.failure))
        return Failure(str(data["cause"]), int(data["attempts"]), str(data["at"]))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def load_records(results: Path, tables: Iterable[str] | None = None, *, epochs: bool = True) -> list[Found]:
    """Every record under ``results``, or those of the named tables, ordered by path; damaged ones with their problem.

    Without ``epochs``, thousands need little memory.
    """
    if tables is None:
        paths = record_paths(results)
    else:
        paths = chain.from_iterable(_record_paths(results / table, 3) for table in tables)
    return list(read_each(partial(_found, epochs=epochs), paths))


def record_paths(results: Path) -> Iterator[Path]:
    """Every record file under ``results``, by table, row, column and seed."""
    return _record_paths(results, 4)


def each_record(paths: Iterable[Path]) -> Iterator[Found]:
    """The records in these files with their epochs, one after another: thousands need little memory."""
    return read_each(partial(_found, epochs=True), paths)


def records_without_epochs(results: Path, read: Sequence[Found] = ()) -> Iterator[RunRecord]:
    """Every whole record under ``results`` without its epochs, one after another: thousands need little memory.

    Those that were ``read`` already are not read again.
    """
    known = {entry.path for entry in read}
    others = (path for path in record_paths(results) if path not in known)
    found = chain(read, read_each(partial(_found, epochs=False), others))
    return (entry.record for entry in found if entry.record is not None)


def _record_paths(folder: Path, depth: int) -> Iterator[Path]:
    """The records ``depth`` folders below ``folder``, ordered by path, and their last folder by seed.

    A folder without read permission gives a record that cannot be read either, so that it is not silently left out.
    Raises Unreadable where listing a folder failed otherwise.
    """
    try:
        names = sorted((path.name for path in folder.iterdir()), key=lambda name: (depth == 1 and len(name), name))
    except PermissionError:
        yield folder / "run.json"
        return
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # a file, a link to nowhere
            raise reading_failed(error, folder) from error
        return
    if depth == 0 and "run.json" in names:
        yield folder / "run.json"
    elif depth > 0:
        for name in names:
            if depth > 1 or name.startswith("seed-"):
                yield from _record_paths(folder / name, depth - 1)


def _found(path: Path, *, epochs: bool) -> Found:
    try:
        return Found(path, read_record(path, epochs=epochs), None)
    except DataError as error:
        return Found(path, None, error.what, error.kind)
