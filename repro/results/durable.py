"""Write files so that a crash, a kill or a power cut leaves either the old file or the new one, whole.

Write a temporary file in the same folder, fsync it, rename it over the target, fsync the folder: the rename is the
commit, and it lasts once the folder is on disk. A failed fsync is never repeated on the same file, since the kernel may
have dropped the data and would then report success: the temporary file is removed and the error raised.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

# Errors of file systems that cannot sync a folder at all (some FUSE and SMB mounts).
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
# Errors of file systems without hard links.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV, errno.EINVAL)


class Writer(Protocol):
    """Commits a file: ``write_durably``, or ``Ownership.write``, which checks first who owns the run."""

    def __call__(
        self, path: Path, data: bytes, /, *, keep_previous_as: Path | None = None, only_new: bool = False
    ) -> None:
        """As ``write_durably``."""


def write_durably(
    path: Path,
    data: bytes | Iterable[bytes],
    *,
    keep_previous_as: Path | None = None,
    only_new: bool = False,
    before_commit: Callable[[], None] | None = None,
) -> None:
    """Write ``data`` to the file at ``path``; a file that it replaces is kept as ``keep_previous_as``, if given.

    ``data`` may be parts that are made while they are written. With ``only_new`` nothing is replaced: FileExistsError
    if there is a file. ``before_commit`` is called once the data are on disk under a temporary name: the commit is
    abandoned if it raises, and fails if the temporary file is removed after it.

    Raises OSError (a full disk, a read-only folder) with the old file untouched and no temporary file left; if only
    the last step failed, the folder's fsync, the new file is there already.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        create_file(temporary, data, sync=True)
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


def create_file(path: Path, data: bytes | Iterable[bytes], *, sync: bool = False) -> None:
    """Write a file that does not exist yet, with an fsync if ``sync``. Raises FileExistsError if it does."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in [data] if isinstance(data, bytes) else data:
            view = memoryview(part)
            while view:
                view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_file(temporary: Path, path: Path) -> None:
    """Rename a large file, written under a ``temporary`` name, to ``path``, as durably as ``write_durably``.

    Raises OSError with the file at ``path`` untouched.
    """
    descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    sync_folder(path.parent)


def replace_file(path: Path, data: bytes) -> None:
    """Replace a small file without fsync: readers see the old or the new one, a power cut may lose it."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        create_file(new, data)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def make_folder(folder: Path, *, below: Path) -> None:
    """Make ``folder`` and its missing parents; sync the entries of these and of all from ``below`` downwards.

    Existing ones are synced too: the process that made them may have died before it did. Raises OSError, which is
    NotADirectoryError if one of the paths is not a folder.
    """
    path_upwards = [folder, *folder.parents]
    missing = [place for place in path_upwards if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from error
    top = max(path_upwards.index(below), len(missing) - 1)
    for place in path_upwards[: top + 1]:
        with contextlib.suppress(PermissionError):  # a parent with permission to enter but not to read
            sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Fsync a folder: its new and renamed files are then on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def link_new(source: Path, target: Path) -> bool:
    """Hard-link ``source`` as ``target``; False on a file system without hard links.

    Raises FileExistsError if the name is taken: of several processes, one wins.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        # NFS repeats a request whose answer was lost: the second finds the link that the first made.
        with contextlib.suppress(OSError):
            if source.samefile(target):
                return True
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
    """Give the file at ``path`` a second name, so that ``path`` itself is never missing."""
    previous.unlink(missing_ok=True)
    if not link_new(path, previous):
        os.replace(path, previous)  # readers find the file under its second name meanwhile
