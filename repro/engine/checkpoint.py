"""Checkpoints of a run: written whole, verified when read; the previous one is kept."""

from __future__ import annotations

import io
import pickletools
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repro.errors import DataError
from repro.results.checkpoint_file import Header, read_checkpoint, seal
from repro.results.durable import Writer, write_durably
from repro.results.files import reading_failed
from repro.results.store import RunFolder

# All that the pickle of a state names. torch's reader also calls others, such as bytearray with any size.
_NAMED_BY_A_STATE = re.compile(
    r"collections OrderedDict|torch\._utils _rebuild_tensor_v[23]"
    r"|torch \w+Storage|torch\.storage UntypedStorage|torch (u?int|b?float|complex)\d\w*"
)


@dataclass(frozen=True)
class Loaded:
    """The newest good state (None without one), its commit number, and the problems found while reading."""

    state: dict[str, Any] | None
    commit: int
    problems: tuple[str, ...]


def save(folder: RunFolder, header: Header, state: dict[str, Any], write: Writer = write_durably) -> None:
    """Write ``state`` and keep the checkpoint before it as the previous one. An OSError leaves both untouched."""
    buffer = io.BytesIO()
    torch.save(state, buffer)  # noqa: TID251
    write(folder.checkpoint, seal(header, buffer.getvalue()), keep_previous_as=folder.previous_checkpoint)


def load(folder: RunFolder, run_id: str) -> Loaded:
    """Read the newest good checkpoint of the run.

    One with a wrong checksum, or of another run, is renamed ``*.damaged``, and the previous one is used. Raises
    Unreadable, with nothing renamed, where a read failed, and for a link to nowhere: that checkpoint may be whole.
    """
    damaged: dict[Path, str] = {}
    found: list[tuple[Header, dict[str, Any]]] = []
    for path in (folder.checkpoint, folder.previous_checkpoint):
        try:
            found.append(_read(path, run_id))
        except (DataError, OSError, MemoryError) as error:
            if isinstance(error, FileNotFoundError) and not path.is_symlink():
                continue
            problem = error if isinstance(error, DataError) else reading_failed(error, path)
            if problem.kind != "damaged":
                raise problem from error
            damaged[path] = problem.what
    problems = []
    for path, reason in damaged.items():
        aside = _free_name(path.with_name(f"{path.name}.damaged"))
        path.replace(aside)
        problems.append(f"{reason}; quarantined as {aside}")
    if not found:
        return Loaded(None, 0, tuple(problems))
    # The first is the newest, unless somebody moved files.
    header, state = max(found, key=lambda checkpoint: checkpoint[0].commit)
    return Loaded(state, header.commit, tuple(problems))


def _read(path: Path, run_id: str) -> tuple[Header, dict[str, Any]]:
    header, payload = read_checkpoint(path)
    if header.run_id != run_id:
        raise DataError(f"this is the checkpoint of another run, {header.run_id}", where=str(path))
    stream = io.BytesIO(payload)
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
        if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > len(payload):
            raise DataError("the checkpoint holds more than its size: biasrepro did not write it", where=str(path))
        for name in _named_by(zipfile.ZipFile(stream)):
            if not _NAMED_BY_A_STATE.fullmatch(name):
                raise DataError(f"the checkpoint names {name}: biasrepro did not write it", where=str(path))
        stream.seek(0)
        state = torch.load(stream, map_location="cpu", weights_only=True)  # noqa: TID251
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:  # whole, but not written by biasrepro: torch may raise anything
        if "allocate memory" in str(error):  # torch's MemoryError
            raise MemoryError from error
        raise DataError(f"the checkpoint holds no state ({type(error).__name__})", where=str(path)) from error
    if not isinstance(state, dict):
        raise DataError("the checkpoint holds no state", where=str(path))
    return header, state


def _named_by(archive: zipfile.ZipFile) -> Iterator[str]:
    """What the pickles in an archive name, as ``module name``. Raises ValueError for one that is none."""
    pickles = (entry for entry in archive.infolist() if entry.filename.lower().endswith(".pkl"))
    for entry in pickles:
        for code, argument, _ in pickletools.genops(archive.read(entry)):
            if code.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
                yield str(argument)  # None for a name that is on the stack: torch writes none


def _free_name(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, … that does not exist."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
