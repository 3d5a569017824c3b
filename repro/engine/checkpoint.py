"""A run's state on disk: checked when read, committed whole, the previous one kept."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repro.errors import DataError
from repro.results.checkpoint_file import Header, seal, unseal
from repro.results.durable import Writer, write_durably
from repro.results.files import LARGEST_CHECKPOINT_BYTES, read_file
from repro.results.store import RunFolder


@dataclass(frozen=True)
class Loaded:
    """The newest good state (None where there is none), the number of its commit, and what was wrong on the way."""

    state: dict[str, Any] | None
    commit: int
    problems: tuple[str, ...]


def save(folder: RunFolder, header: Header, state: dict[str, Any], write: Writer = write_durably) -> None:
    """Commit ``state``; the checkpoint before it stays as the previous one. Raises OSError with both untouched."""
    buffer = io.BytesIO()
    torch.save(state, buffer)  # noqa: TID251
    write(folder.checkpoint, seal(header, buffer.getvalue()), keep_previous_as=folder.previous_checkpoint)


def load(folder: RunFolder, run_id: str) -> Loaded:
    """The newest good checkpoint of the run.

    A damaged one, or one of another run, is renamed ``*.damaged`` and the previous one taken. Raises DataError where a
    checkpoint cannot be read at all: it may be whole.
    """
    problems: list[str] = []
    found: list[tuple[Header, dict[str, Any]]] = []
    for path in (folder.checkpoint, folder.previous_checkpoint):
        try:
            found.append(_read(path, run_id))
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise DataError("the checkpoint cannot be read: permission denied", where=str(path)) from error
        except (DataError, OSError) as error:  # OSError: the disk itself does not give it back
            aside = _free_name(path.with_name(f"{path.name}.damaged"))
            path.replace(aside)
            reason = error.what if isinstance(error, DataError) else f"it cannot be read ({error.strerror})"
            problems.append(f"{reason}; put aside as {aside}")
    if not found:
        return Loaded(None, 0, tuple(problems))
    # The newest is the first, unless somebody moved files about.
    header, state = max(found, key=lambda one: one[0].commit)
    return Loaded(state, header.commit, tuple(problems))


def _read(path: Path, run_id: str) -> tuple[Header, dict[str, Any]]:
    header, payload = unseal(read_file(path, LARGEST_CHECKPOINT_BYTES), where=str(path))
    if header.run_id != run_id:
        raise DataError(f"this is the checkpoint of another run, {header.run_id}", where=str(path))
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)  # noqa: TID251
    except Exception as error:  # sealed, but by something that is none of ours: torch's reader raises what it likes
        raise DataError(f"the checkpoint holds no state ({type(error).__name__})", where=str(path)) from error
    if not isinstance(state, dict):
        raise DataError("the checkpoint holds no state", where=str(path))
    return header, state


def _free_name(path: Path) -> Path:
    """``path``, or the first of ``path-2``, ``path-3``, … that is not there: nothing put aside is overwritten."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
