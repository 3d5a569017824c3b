"""Bytes to disk so that a crash, a kill or a power cut leaves either the old file or the new one, whole.

Write a temporary file in the same folder, fsync it, rename it over the target, fsync the folder: the rename is the
commit, and it lasts once the folder is on disk.
"""

from __future__ import annotations

import os
from pathlib import Path


def write_durably(path: Path, data: bytes, *, keep_previous_as: Path | None = None) -> None:
    """Replace the file at ``path`` by ``data``; the file it replaces stays as ``keep_previous_as`` where that is given.

    Raises OSError (a full disk, a read-only folder) with the old file untouched and no temporary file left; where only
    the last step failed, the folder's own fsync, the new file is there already.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        _write_and_sync(temporary, data)
        if keep_previous_as is not None and path.exists():
            _keep(path, keep_previous_as)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries (renames, new files) on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep(path: Path, previous: Path) -> None:
    """Give the file at ``path`` a second name, so that at no moment ``path`` itself is missing."""
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # a file system without hard links; readers then find the file under its second name
        os.replace(path, previous)


def _write_and_sync(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
