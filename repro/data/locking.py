"""One process at a time prepares a data folder; the lock goes with the process that holds it, however it ends."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from repro.errors import DataError

_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Makes ``folder`` and holds its lock; waits while another process holds it.

    Raises DataError where the folder cannot be written. On a file system without locks, nothing is held: what
    is written under the lock is written atomically, so two writers then only do the same work twice.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise DataError(
            f"this folder cannot be written ({error.strerror})",
            where=str(folder),
            hint="name another folder with --root or BIASREPRO_DATA, or fetch the data as a user who may write here",
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
        yield
    finally:
        os.close(descriptor)


def fsync_folder(folder: Path) -> None:
    """Makes a rename inside ``folder`` last through a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
