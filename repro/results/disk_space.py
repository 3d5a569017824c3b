"""Disk space: checked before a run starts, and explained when it runs out later."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repro.errors import RunFailure, UserError
from repro.results.store import RunFolder
from repro.wording import readable_size

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.EFBIG: "the file is larger than the limit on file sizes (`ulimit -f`)",
}
_COPIES = 3  # the newest checkpoint, the previous one, and the one being written


def require_space(folder: RunFolder, checkpoint_bytes: int) -> None:
    """Raise UserError if a run with checkpoints of this size does not fit on its disk."""
    existing = sum(path.stat().st_size for path in (folder.checkpoint, folder.previous_checkpoint) if path.exists())
    needed = _COPIES * checkpoint_bytes - existing
    if (free := free_bytes(folder.path)) < needed:
        raise UserError(
            f"not enough disk space for this run: its checkpoints need {readable_size(needed)}, "
            f"{readable_size(free)} free",
            where=str(folder.path),
            hint=_FREE_SPACE,
        )


@contextmanager
def failed_writes_explained(folder: RunFolder, what: str, size_bytes: int | None = None) -> Iterator[None]:
    """Turn an OSError while ``what``, of ``size_bytes`` if known, is written into a RunFailure with a hint."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            needed = "" if size_bytes is None else f"it needs about {readable_size(size_bytes)}, "
            free = readable_size(free_bytes(folder.path))  # on the disk: a quota may leave less
            message = f"{_FULL[error.errno]}: {what} could not be written; {needed}{free} free on the disk"
            hint = _FREE_SPACE
        else:
            message = f"{what} could not be written: {error.strerror or error}"
            hint = "Check the disk and the connection to it."
        has_checkpoint = folder.checkpoint.exists() or folder.previous_checkpoint.exists()
        kept = "The previous checkpoint is whole: the same command resumes from it."
        hint = f"{kept if has_checkpoint else 'No checkpoint was saved yet: the same command starts over.'} {hint}"
        raise RunFailure(message, where=str(folder.path), hint=hint) from error


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the disk where ``folder`` is or will be."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


_FREE_SPACE = (
    "Free disk space, or choose another --results folder; `biasrepro verify` lists the checkpoints of unfinished runs "
    "and the files that may be deleted."
)
