"""Room on the disk: asked for before a run begins, and spoken of plainly when it runs out all the same."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repro.errors import RunFailure, UserError
from repro.results.store import RunFolder

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file may not be so large here (`ulimit -f`)",
}
_COPIES = 3  # the newest checkpoint, the one before, and the one being written


def require_space(folder: RunFolder, checkpoint_bytes: int) -> None:
    """Raise UserError where a run with checkpoints of this size does not fit on the disk of its folder."""
    there = sum(path.stat().st_size for path in (folder.checkpoint, folder.previous_checkpoint) if path.exists())
    needed = _COPIES * checkpoint_bytes - there
    if (free := free_bytes(folder.path)) < needed:
        raise UserError(
            f"the disk is too full for this run: its checkpoints need {_megabytes(needed)}, "
            f"{_megabytes(free)} are free",
            where=str(folder.path),
            hint=_WHAT_MAY_GO,
        )


@contextmanager
def failed_writes_explained(folder: RunFolder, what: str, size_bytes: int | None = None) -> Iterator[None]:
    """Turn an OSError while ``what`` is written into a RunFailure that says what a person should do.

    ``size_bytes`` is what it takes on the disk, None where that is not known.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            needed = "" if size_bytes is None else f"it needs about {_megabytes(size_bytes)}, and "
            free = _megabytes(free_bytes(folder.path))  # of the disk, whatever a quota leaves
            said = f"{_FULL[error.errno]}: {what} could not be written; {needed}{free} are free on the disk"
        else:
            said = f"{what} could not be written: {error.strerror or error}"
        way_out = _WHAT_MAY_GO if error.errno in _FULL else "Look at the disk, or at the connection to it."
        raise RunFailure(
            said,
            where=str(folder.path),
            hint=f"The state committed before is whole, and the same command goes on from it. {way_out}",
        ) from error


def free_bytes(folder: Path) -> int:
    """What this user may still write where ``folder`` is, or will be made, in bytes."""
    folder = folder.absolute()
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


_WHAT_MAY_GO = (
    "Make room on it, or give a --results folder elsewhere; `biasrepro verify` lists what the results folder keeps "
    "of unfinished runs and of damaged files."
)


def _megabytes(count: int) -> str:
    return f"{max(0, count) / 1e6:,.1f} MB"
