"""Check every file of a results folder: whole, damaged, unreadable, missing, quarantined, leftover or unrecognised.

Nothing is changed. A file that cannot be read is a finding; the check continues with the rest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from repro.errors import DataError
from repro.results.checkpoint_file import check_checkpoint
from repro.results.files import read_file, reading_failed
from repro.results.ownership import OWNER_FILE, owner_of
from repro.results.record import RunRecord, unsealed
from repro.results.store import PREREGISTRATION, RunFolder, find_record, read_record
from repro.results.weights_file import read_weights

Kind = Literal["damaged", "unreadable", "newer", "missing", "misplaced", "quarantined", "leftover", "unrecognised"]

_SEED = re.compile(r"seed-(0|[1-9][0-9]*)")
_OTHER_RUN_FILES = re.compile(rf"failure\.json|progress\.json|run\.log|{OWNER_FILE.pattern}")
_QUARANTINED = re.compile(r"checkpoint\.(previous\.)?pt\.damaged(-[0-9]+)?")
_TEMPORARY = re.compile(r"\..*\.part")


@dataclass(frozen=True)
class Finding:
    """A file that is not as it should be, or may be deleted."""

    kind: Kind
    path: Path
    why: str
    size_bytes: int = 0
    hint: str | None = None


@dataclass
class Inspection:
    """Counts of whole records (some imported), weights and checkpoints, their size, runs in training, and findings."""

    records: int = 0
    imported: int = 0
    weights: int = 0
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    in_training: int = 0
    findings: list[Finding] = field(default_factory=list)

    def of_kind(self, kind: Kind) -> list[Finding]:
        """The findings of one kind."""
        return [finding for finding in self.findings if finding.kind == kind]


def inspect(results: Path) -> Inspection:
    """Check every folder under ``results``; files beside the tables' folders, such as rendered tables, are ignored."""
    found = Inspection()
    for table in _entries(results, found):
        if table.is_dir() and not table.name.startswith("."):
            for folder in _run_folders(table, depth=3, found=found):
                _inspect_run(folder, found)
    return found


def _run_folders(folder: Path, *, depth: int, found: Inspection) -> Iterator[RunFolder]:
    """The folders of runs ``depth`` levels below ``folder``; everything else there is unrecognised."""
    for path in _entries(folder, found):
        if depth == 3 and path.name == PREREGISTRATION:
            with _problems_noted(path, found):
                unsealed(read_file(path), where=str(path), what="preregistration")
        elif not path.is_dir() or (depth == 1 and not _SEED.fullmatch(path.name)):
            found.findings.append(Finding("unrecognised", path, "not the folder of a run", _size(path)))
        elif depth == 1:
            yield RunFolder(path)
        else:
            yield from _run_folders(path, depth=depth - 1, found=found)


def _inspect_run(folder: RunFolder, found: Inspection) -> None:
    if not (paths := _entries(folder.path, found)):
        return
    owned = owner_of(folder) is not None
    found.in_training += owned
    record = None
    for path in paths:
        if path == folder.record:
            with _problems_noted(path, found):
                record = read_record(path)
                found.imported += record.imported is not None
                found.records += 1
        elif path == folder.weights:
            continue
        elif path in (folder.checkpoint, folder.previous_checkpoint):
            if not owned:  # its owner may be replacing it
                with _problems_noted(path, found):
                    _inspect_checkpoint(path, folder, found)
        elif _QUARANTINED.fullmatch(path.name):
            found.findings.append(_quarantined(path))
        elif _TEMPORARY.fullmatch(path.name):
            if not owned:
                found.findings.append(Finding("leftover", path, "its writer was killed", _size(path)))
        elif not _OTHER_RUN_FILES.fullmatch(path.name):
            found.findings.append(Finding("unrecognised", path, "not a file of a run", _size(path)))
    # Beside a record that is not whole there is nothing to check weights against; an owner may be replacing them.
    if not owned and (record is not None or folder.record not in paths):
        _inspect_weights(folder, record, folder.weights.exists(), found)


def _inspect_weights(folder: RunFolder, record: RunRecord | None, there: bool, found: Inspection) -> None:
    path = folder.weights
    if record is not None and record.weights is not None:
        if not there:
            found.findings.append(Finding("missing", path, "its record names these weights"))
            return
        with _problems_noted(path, found):
            read_weights(path, record.weights)
            found.weights += 1
    elif there:
        why = "its record names no weights" if record else "its run has no record"
        found.findings.append(Finding("leftover", path, why, _size(path)))


def _inspect_checkpoint(path: Path, folder: RunFolder, found: Inspection) -> None:
    header = check_checkpoint(path)
    if header.run_id != "/".join(folder.path.absolute().parts[-4:]):
        raise DataError(f"this is the checkpoint of another run, {header.run_id}")
    if _has_ended(folder):
        found.findings.append(Finding("leftover", path, "its run has finished", _size(path)))
        return
    found.checkpoints += 1
    found.checkpoint_bytes += _size(path)


def _has_ended(folder: RunFolder) -> bool:
    """Whether the run has a record that is whole: else its checkpoint is all that is left of it."""
    try:
        return find_record(folder, epochs=False) is not None
    except DataError:
        return False


def _quarantined(path: Path) -> Finding:
    """What a checkpoint that was put aside is: damaged as it should be, or whole, or not to be read now."""
    try:
        header = check_checkpoint(path)
    except DataError as error:
        if error.kind == "damaged":
            return Finding("quarantined", path, "it is damaged", _size(path))
        return Finding("unreadable", path, error.what, _size(path))
    where = f"{header.run_id}, epoch {header.epoch}"
    return Finding("misplaced", path, f"it was quarantined, but is a whole checkpoint ({where})", _size(path))


@contextmanager
def _problems_noted(path: Path, found: Inspection) -> Iterator[None]:
    """Note why the file at ``path`` cannot be used: it is damaged, or may be whole and could not be read."""
    try:
        yield
    except (DataError, OSError) as error:
        problem = error if isinstance(error, DataError) else reading_failed(error, path)
        found.findings.append(Finding(problem.kind, path, problem.what, _size(path), problem.hint))


def _entries(folder: Path, found: Inspection) -> list[Path]:
    """The entries of ``folder`` by name; none, and a finding, if it cannot be listed or entered."""
    try:
        os.stat(os.path.join(folder, "."))  # noqa: PTH116, PTH118 - pathlib would drop the dot, which tests that the folder may be entered
        return sorted(folder.iterdir())
    except OSError as error:
        found.findings.append(Finding("unreadable", folder, f"cannot be read: {error.strerror}"))
        return []


def _size(path: Path) -> int:
    """The size of a file in bytes; 0 for anything else."""
    return path.lstat().st_size if path.is_file() else 0
