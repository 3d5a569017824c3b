"""Read members of archives that nobody vouches for, without writing anything to disk.

Only the members asked for are read, into memory, only regular files, and only up to a size limit. An archive with a
name that leads out of its folder, a link or a device is refused as a whole.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from repro.errors import DataError
from repro.wording import readable_size

# What the standard library raises on damaged archives. OSError: a seek to a damaged, negative offset. RuntimeError: a
# damaged encryption flag, and (as RecursionError) chains of GNU long-name headers.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_HEADER_ALLOWANCE_BYTES = 1 << 20
_FETCH_AGAIN = "Delete it and fetch it again."


@dataclass(frozen=True)
class ReadLimits:
    """Limits on one member's bytes, on all bytes together (both decompressed), and on the number of members."""

    member_bytes: int
    total_bytes: int
    members: int


def file_md5(path: Path) -> str:
    """The MD5 of a file in hexadecimal: the checksum that the data sets' publishers give, not for security."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def read_members(path: Path, wanted: Callable[[str], bool], limits: ReadLimits) -> Iterator[tuple[str, bytes]]:
    """Yields name and content of each wanted member of a .zip, .tar.gz or .tar.xz, in the archive's order.

    The file's first bytes tell its format. Names are relative, without a leading ``./``. Raises DataError for a
    damaged, truncated, oversized or unsafe archive, and for a member that occurs twice.
    """
    with path.open("rb") as file:
        start = file.read(6)
    seen: set[str] = set()
    try:
        for name, content in _members_by_format(path, start, wanted, limits):
            if name in seen:
                raise _refused(path, f"member {name!r} occurs twice")
            seen.add(name)
            yield name, content
    except _DAMAGE as error:
        raise DataError(
            f"the archive is damaged or incomplete ({error or type(error).__name__})",
            where=str(path),
            hint=_FETCH_AGAIN,
        ) from error


def _members_by_format(
    path: Path, start: bytes, wanted: Callable[[str], bool], limits: ReadLimits
) -> Iterator[tuple[str, bytes]]:
    if start.startswith(b"PK\x03\x04"):
        yield from _zip_members(path, wanted, limits)
    elif start.startswith(b"\x1f\x8b"):
        with gzip.open(path) as gzip_stream:
            yield from _tar_members(path, gzip_stream, wanted, limits)
    elif start == b"\xfd7zXZ\x00":
        with lzma.open(path) as xz_stream:
            yield from _tar_members(path, xz_stream, wanted, limits)
    else:
        raise DataError("not a .zip, .tar.gz or .tar.xz archive", where=str(path), hint=_FETCH_AGAIN)


class _BoundedStream:
    """The decompressed bytes of a tar archive; raises DataError once a limit is passed."""

    def __init__(self, stream: io.BufferedIOBase, path: Path, limits: ReadLimits) -> None:
        self._stream = stream
        self._path = path
        self._limits = limits
        self._total = 0
        self.since_member = 0

    def read(self, size: int) -> bytes:
        content = self._stream.read(size)
        self._total += len(content)
        self.since_member += len(content)
        if self._total > self._limits.total_bytes:
            raise _refused(self._path, f"it unpacks to more than {readable_size(self._limits.total_bytes)}")
        if self.since_member > self._limits.member_bytes + _HEADER_ALLOWANCE_BYTES:
            raise _refused(self._path, f"a header is larger than {readable_size(self._limits.member_bytes)}")
        return content


def _tar_members(
    path: Path, stream: io.BufferedIOBase, wanted: Callable[[str], bool], limits: ReadLimits
) -> Iterator[tuple[str, bytes]]:
    bounded = _BoundedStream(stream, path, limits)
    with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r|") as tar:
        for count, member in enumerate(tar, start=1):
            bounded.since_member = 0
            _check_count(path, count, limits)
            name = _safe_name(path, member.name)
            if not (member.isreg() or member.isdir()):
                raise _refused(path, f"member {name!r} is a link or a device")
            _check_size(path, name, member.size, limits)
            if member.isreg() and wanted(name):
                content = tar.extractfile(member)
                assert content is not None  # it is a regular file
                yield name, content.read()
    while bounded.read(1 << 16):  # to the end of the stream, where its own checksum is
        bounded.since_member = 0


def _zip_members(path: Path, wanted: Callable[[str], bool], limits: ReadLimits) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_count(path, len(members), limits)
        if sum(member.file_size for member in members) > limits.total_bytes:
            raise _refused(path, f"it unpacks to more than {readable_size(limits.total_bytes)}")
        for member in members:
            name = _safe_name(path, member.filename)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _refused(path, f"member {name!r} is a link or a device")
            if member.flag_bits & 1:
                raise _refused(path, f"member {name!r} is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _refused(path, f"member {name!r} is compressed in an unexpected way")
            _check_size(path, name, member.file_size, limits)
        for member in members:
            name = _safe_name(path, member.filename)
            if not member.is_dir() and wanted(name):
                yield name, archive.read(member)


def _safe_name(path: Path, name: str) -> str:
    """The member's name with slashes and without a leading ``./``.

    Raises DataError for an absolute path or one with ``..``.
    """
    name = name.replace("\\", "/")  # some archivers of Windows write them so
    if name.startswith("/") or "\x00" in name or ".." in PurePosixPath(name).parts:
        raise _refused(path, f"member {name!r} leads out of the archive's folder")
    return name.removeprefix("./")


def _check_count(path: Path, count: int, limits: ReadLimits) -> None:
    if count > limits.members:
        raise _refused(path, f"it has more than {limits.members} members")


def _check_size(path: Path, name: str, size_bytes: int, limits: ReadLimits) -> None:
    if size_bytes > limits.member_bytes:
        raise _refused(path, f"member {name!r} is larger than {readable_size(limits.member_bytes)}")


def _refused(path: Path, reason: str) -> DataError:
    return DataError(f"the archive is refused: {reason}", where=str(path), hint=_FETCH_AGAIN)
