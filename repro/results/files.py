"""Shared folders: regular files only, many at a time; folders of one user; locks; the file server's time."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import pwd
import secrets
import stat
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from repro.errors import DataError, Unreadable
from repro.wording import duration, shell_line

LARGEST_NOTE_BYTES = 1 << 26  # a record of 100,000 epochs is smaller
READERS = 8
_NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
_LOCK_TICK_SECONDS = 0.05
ITEMS_AT_ONCE = 32  # per reader: handing over items singly would cost as much as reading them

_WAYS_OUT = {
    errno.EMFILE: "Raise the limit on open files (`ulimit -n`)",
    errno.ENFILE: "This machine has too many open files",
    errno.ENOMEM: "Free memory",
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
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        what = f"cannot be read: it is a link to {path.readlink()}, which is not there"
        return Unreadable(what, where=where, hint="Bring back what it leads to (git-annex, DVC), or remove the link.")
    way_out = _WAYS_OUT.get(error.errno or 0, "Check the disk and the connection to it")
    way_out = permission_hint(path) if isinstance(error, PermissionError) else way_out
    return Unreadable(what, where=where, hint=f"It may be whole, and is left as it is. {way_out}, and try again.")


def permission_hint(path: Path) -> str:
    """What to do where permissions refuse ``path``: without a full stop, so that a sentence can continue it."""
    absolute = path.absolute()
    closed = next(place for place in (absolute, *absolute.parents) if os.path.lexists(place))  # what is below is hidden
    owner = closed.lstat().st_uid
    if owner == os.geteuid():
        return f"Fix its permissions ({shell_line(['chmod', 'u+rwX', str(closed)])})"
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"user {owner}"
    return f"{closed} belongs to {name}: ask them to share it (chmod -R g+rwX, and umask 002 from then on)"


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


def open_plain(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """Open a regular file, without ever waiting; what is written to is not reached through a link. Returns the number.

    Raises OSError: NoPlainFile for a pipe, a device, or a link in the place of a file to be written.
    """
    writes = flags & (os.O_WRONLY | os.O_RDWR)
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_NOFOLLOW if writes else 0), mode)
    except OSError as error:
        if error.errno == errno.ENXIO or (error.errno == errno.ELOOP and path.is_symlink()):
            raise NoPlainFile(errno.EINVAL, "it is a pipe or a symbolic link", str(path)) from error
        raise
    found = os.fstat(descriptor).st_mode
    if stat.S_ISREG(found):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(found):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise NoPlainFile(errno.EINVAL, "it is a pipe or a device", str(path))


def open_log(path: Path) -> io.FileIO:
    """Open the log at ``path`` to add to it. Raises OSError as ``open_plain`` does."""
    return io.FileIO(open_plain(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


def is_of_this_user_alone(found: os.stat_result) -> bool:
    """Whether the file or folder is this user's, and nobody else may write to it."""
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def make_private(folder: Path) -> None:
    """Make a folder for this user alone, in a place where others may write too.

    Raises OSError: PermissionError if what is there is another user's, open to others, or a link.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not (stat.S_ISDIR(found.st_mode) and is_of_this_user_alone(found)):
        raise PermissionError(errno.EPERM, f"{folder} is a link, another user's, or open to others", str(folder))
    if found.st_mode & 0o077:
        folder.chmod(0o700)


def read_each(read: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``read`` of each item, in order, in several threads: latency dominates for thousands of small files.

    Raises what ``read`` raises.
    """
    items = list(items)
    parts = [items[start : start + ITEMS_AT_ONCE] for start in range(0, len(items), ITEMS_AT_ONCE)]
    if len(parts) < 2:
        yield from map(read, items)
        return
    begun: deque[Future[list[Result]]] = deque()
    with ThreadPoolExecutor(READERS, thread_name_prefix="reader") as readers:
        for part in parts:
            begun.append(readers.submit(lambda part: list(map(read, part)), part))
            if len(begun) > READERS:  # no further ahead of a slow reader of the results: they would fill the memory
                yield from begun.popleft().result()
        while begun:
            yield from begun.popleft().result()


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
def file_lock(path: Path, mode: int = 0o666, *, seconds: float = 60.0) -> Iterator[None]:
    """Hold the lock of the file at ``path``, waiting for other processes; it ends with the process that holds it.

    Raises OSError if the file cannot be opened, and TimeoutError if others hold the lock for so many ``seconds``. On a
    file system without locks nothing is held, so what is written under the lock must be written atomically: two writers
    then only do the same work twice.
    """
    descriptor = open_plain(path, os.O_RDWR | os.O_CREAT, mode)
    try:
        _lock(descriptor, path, seconds)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                what = f"another process has held its lock for {duration(seconds)}"
                raise TimeoutError(errno.ETIMEDOUT, what, str(path)) from error
        except OSError as error:
            if error.errno in _NO_LOCKS_HERE:
                return None
            raise
        time.sleep(_LOCK_TICK_SECONDS)
