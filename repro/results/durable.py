"""Bytes to disk so that a crash, a kill or a power cut leaves either the old file or the new one, whole.

Write a temporary file in the same folder, fsync it, rename it over the target, fsync the folder: the rename is the
commit, and it lasts once the folder is on disk. A failed fsync is never tried again on the same file (the kernel may
have dropped what it could not write, and would then report success): the temporary file goes, the error is raised.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

# What file systems answer that cannot sync a folder at all (some FUSE and SMB mounts): nothing is to be had there.
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# What file systems answer that have no hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL)


class Writer(Protocol):
    """Commits a file: ``write_durably``, or the same as a run's owner only."""

    def __call__(
        self, path: Path, data: bytes, /, *, keep_previous_as: Path | None = None, only_new: bool = False
    ) -> None:
        """Replace the file at ``path`` by ``data``, or make it."""


def write_durably(
    path: Path,
    data: bytes,
    *,
    keep_previous_as: Path | None = None,
    only_new: bool = False,
    before_commit: Callable[[], None] | None = None,
) -> None:
    """Replace the file at ``path`` by ``data``; the file it replaces stays as ``keep_previous_as`` where that is given.

    With ``only_new`` nothing is ever replaced: FileExistsError where there is a file already. ``before_commit`` is
    called once the data are on disk under a temporary name: an exception that it raises calls the commit off, and
    whoever removes the temporary file after it was called makes the commit fail.

    Raises OSError (a full disk, a read-only folder) with the old file untouched and no temporary file left; where only
    the last step failed, the folder's own fsync, the new file is there already.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        _write_and_sync(temporary, data)
        if before_commit is not None:
            before_commit()
        if only_new:
            _commit_new(temporary, path)
        else:
            if keep_previous_as is not None and path.exists():
                _keep(path, keep_previous_as)
            os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error says what happened
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def commit_file(temporary: Path, path: Path) -> None:
    """Give a large file that is already written under a ``temporary`` name its own, as durably as ``write_durably``.

    Raises OSError with the file at ``path`` untouched.
    """
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_folder(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a small file that may be lost in a power cut: readers see the old or the new one, nothing is synced."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_bytes(data)
    temporary.replace(path)


def make_folder(folder: Path, *, below: Path) -> None:
    """Make ``folder`` and the folders on the way to it, and enter on disk each that is new or ``below`` or inside that.

    Those that are there already are synced too: whoever made them may have died before doing so. Raises OSError, which
    is NotADirectoryError where something else has the place of one of them.
    """
    way = [folder, *folder.parents]
    missing = [place for place in way if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
    top = max(way.index(below), len(missing) - 1)
    for place in way[: top + 1]:
        with contextlib.suppress(PermissionError):  # a parent that may be entered and not be read
            sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Put a folder's entries (renames, new files) on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def link_new(source: Path, target: Path) -> bool:
    """Give the file at ``source`` the name ``target`` besides; False on a file system without hard links.

    Raises FileExistsError where the name is taken: of several at a time, one wins.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # Over NFS an answer may be lost and the request repeated: the second then finds what the first made.
        if not _is_one_file(source, target):
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return False
    return True


def _commit_new(temporary: Path, path: Path) -> None:
    if link_new(temporary, path):
        temporary.unlink(missing_ok=True)
    elif path.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    else:
        os.replace(temporary, path)


def _keep(path: Path, previous: Path) -> None:
    """Give the file at ``path`` a second name, so that at no moment ``path`` itself is missing."""
    previous.unlink(missing_ok=True)
    if not link_new(path, previous):
        os.replace(path, previous)  # readers then find the file under its second name


def _write_and_sync(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_one_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
