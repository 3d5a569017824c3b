"""Shared file systems: reading regular files only, many at a time; locks; the file server's time."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from repro.errors import DataError, Unreadable

LARGEST_NOTE_BYTES = 1 << 26  # a record of 100,000 epochs is smaller
LARGEST_CHECKPOINT_BYTES = 1 << 32  # the largest network here needs 0.2 GB
READERS = 8
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
ITEMS_AT_ONCE = 32  # per reader: handing over items singly would cost as much as reading them

_WAYS_OUT = {
    errno.EMFILE: "Raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "This machine has too many open files",
    errno.ENOMEM: "Free memory",
    errno.EACCES: "Fix its permissions (chmod u+rwX)",
    errno.EPERM: "Fix its permissions (chmod u+rwX)",
}

Item = TypeVar("Item")
Result = TypeVar("Result")


class NoPlainFile(OSError):
    """What is there is no file that biasrepro wrote: a pipe, a device, or far too large."""


def reading_failed(error: OSError | MemoryError, path: Path) -> DataError:
    """What a failed read says of the file at ``path``: that it is none of ours, or nothing at all (Unreadable)."""
    if isinstance(error, MemoryError):
        error = OSError(errno.ENOMEM, "not enough memory")
    what, where = f"cannot be read: {error.strerror or error}", str(path)
    if isinstance(error, NoPlainFile | IsADirectoryError):
        return DataError(what, where=where)
    way_out = _WAYS_OUT.get(error.errno or 0, "Check the disk and the connection to it")
    return Unreadable(what, where=where, hint=f"It may be whole, and is left as it is. {way_out}, and try again.")


def read_file(path: Path, largest_bytes: int = LARGEST_NOTE_BYTES) -> bytes:
    """The bytes of the file at ``path``.

    Raises OSError, also for a pipe or a device (reading it might never end) and for a file above the size limit.
    """
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise NoPlainFile(errno.EINVAL, "it is a pipe or a device", str(path))
    if found.st_size > largest_bytes:
        raise NoPlainFile(errno.EINVAL, f"it has {found.st_size:,} bytes; the limit is {largest_bytes:,}", str(path))
    return path.read_bytes()


def read_each(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``read`` of each item, in order, in several threads: latency dominates for thousands of small files.

    Raises what ``read`` raises.
    """
    items = list(items)
    parts = [items[start : start + ITEMS_AT_ONCE] for start in range(0, len(items), ITEMS_AT_ONCE)]
    if len(parts) < 2:
        yield from map(read, items)
        return
    with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as readers:
        for results in readers.map(lambda part: list(map(read, part)), parts):
            yield from results


def file_time(folder: Path) -> float:
    """The file server's current time: the timestamp of a file just written to ``folder``.

    Ages of files are measured by this clock, since those of the machines may differ. Falls back to this machine's
    clock if nothing can be written.
    """
    probe = folder / f".now.{secrets.token_hex(6)}.part"
    try:
        probe.touch()
        try:
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
    except OSError:
        return time.time()


def file_version(path: Path) -> tuple[int, int] | None:
    """Inode and modification time, which change when a file is replaced; None for a missing file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def file_lock(path: Path, mode: int = 0o666) -> Iterator[None]:
    """Hold the lock of the file at ``path``, waiting for other processes; it ends with the process that holds it.

    Raises OSError if the file cannot be opened. On a file system without locks nothing is held, so what is written
    under the lock must be written atomically: two writers then only do the same work twice.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS_HERE:
                raise
        yield
    finally:
        os.close(descriptor)
