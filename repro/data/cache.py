"""Decoded images in one file: memory-mapped, written atomically, verified to the last byte when it is opened.

First the arrays, each at a multiple of 4,096 bytes; then a manifest in JSON (shapes, class names, pixel sums, SHA-256
of every 16 MiB of arrays); then a trailer with the manifest's length and SHA-256 and the format's name. Checksums cover
every byte. SHA-256 of 1.35 GB takes 0.5 s on two cores with the processor's SHA instructions (BLAKE2b 1.0 s, CRC-32
0.2 s), because hashlib works on large blocks in parallel threads.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from repro.data.decoded import DecodedImages, PixelSums
from repro.errors import DataError
from repro.machine import usable_cores
from repro.results.durable import commit_file
from repro.results.files import NoPlainFile, is_of_this_user_alone, open_plain
from repro.wording import in_utf8

CACHE_FILE = "decoded-v1.bin"
_MAGIC = b"biasrepro-data-1"
_TRAILER = struct.Struct("<Q32s16s")
_ALIGNMENT_BYTES = 4096
_CHUNK_BYTES = 16 << 20
_LARGEST_MANIFEST_BYTES = 64 << 20
_DTYPES = {"train_images": "|u1", "train_labels": "<i8", "test_images": "|u1", "test_labels": "<i8"}

_Count = Annotated[int, Field(ge=0, lt=1 << 63)]
_ThreeCounts = tuple[_Count, _Count, _Count]


class DamagedCache(DataError):
    """A cache file whose bytes are not those that were written."""


@dataclass(frozen=True)
class CachedImages:
    """An opened and verified cache; its arrays are private (copy-on-write) maps of the file.

    ``source`` says what was decoded; ``fingerprint`` is the SHA-256 of the manifest, and so of all content.
    ``content`` is that of the pixels and labels in their order alone.
    """

    images: DecodedImages
    pixel_sums: PixelSums
    source: str
    fingerprint: str
    content: str


class _Array(BaseModel):
    """Where an array lies in the file."""

    model_config = ConfigDict(strict=True)

    offset: Annotated[int, Field(ge=0, multiple_of=_ALIGNMENT_BYTES)]
    shape: tuple[_Count, ...]


class _Written(BaseModel):
    """The manifest as it is written: whoever made the file, its parts fit each other and the file."""

    model_config = ConfigDict(strict=True)

    source: str
    classes: list[str]
    pixels: list[_Count]
    pixel_sums: list[_ThreeCounts]
    pixel_square_sums: list[_ThreeCounts]
    arrays: dict[str, _Array]
    chunk_sha256: list[str]
    data_bytes: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _fits(self) -> _Written:
        per_class = (self.pixels, self.pixel_sums, self.pixel_square_sums)
        if any(len(values) != len(self.classes) for values in per_class):
            raise ValueError("not a sum for each class")
        if len(self.chunk_sha256) != -(-self.data_bytes // _CHUNK_BYTES):
            raise ValueError("not a checksum for each part")
        if self.arrays.keys() != _DTYPES.keys():
            raise ValueError("other arrays")
        ends = [array.offset + _bytes_of(name, array.shape) for name, array in self.arrays.items()]
        if max(ends) > self.data_bytes:
            raise ValueError("an array outside the file")
        return self


@dataclass(frozen=True)
class Manifest:
    """What a cache says of its content; verified by its own checksum, the arrays are not."""

    source: str
    classes: tuple[str, ...]
    pixel_sums: PixelSums
    arrays: dict[str, dict[str, Any]]
    chunk_sha256: list[str]
    data_bytes: int
    fingerprint: str

    @property
    def content(self) -> str:
        """SHA-256 (hex) that identifies the pixels and labels in their order, whatever they were decoded from."""
        return hashlib.sha256(json.dumps([self.arrays, self.chunk_sha256], sort_keys=True).encode()).hexdigest()


def write_cache(path: Path, dataset: str, images: DecodedImages, source: str) -> None:
    """Writes a temporary file beside ``path``, then renames it. Raises OSError if it cannot be written."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x+b") as file:
            arrays = _write_arrays(file, images)
            data_bytes = file.tell()
            file.flush()
            pixel_sums = PixelSums.of(images.train_images, images.train_labels, len(images.classes))
            manifest = json.dumps(
                {
                    "dataset": dataset,
                    "source": in_utf8(source),
                    "classes": list(map(in_utf8, images.classes)),
                    "pixels": pixel_sums.pixels.tolist(),
                    "pixel_sums": pixel_sums.sums.tolist(),
                    "pixel_square_sums": pixel_sums.square_sums.tolist(),
                    "arrays": arrays,
                    "chunk_sha256": _chunk_sha256(np.memmap(file, mode="r")),
                    "data_bytes": data_bytes,
                }
            ).encode()
            file.write(manifest)
            file.write(_TRAILER.pack(len(manifest), hashlib.sha256(manifest).digest(), _MAGIC))
        commit_file(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_arrays(file: BinaryIO, images: DecodedImages) -> dict[str, dict[str, Any]]:
    """Writes each array at an aligned offset; returns their offsets (in bytes) and shapes."""
    arrays: dict[str, dict[str, Any]] = {}
    for name, dtype in _DTYPES.items():
        array = np.ascontiguousarray(getattr(images, name), dtype=dtype)
        arrays[name] = {"offset": file.tell(), "shape": array.shape}
        file.write(array.data.cast("B"))
        file.write(bytes(-file.tell() % _ALIGNMENT_BYTES))
    return arrays


def read_manifest(path: Path) -> Manifest:
    """Reads a cache's manifest but not its arrays. Raises DamagedCache, and OSError, such as FileNotFoundError."""
    with _opened(path) as file:
        return _read_manifest(file, path)


def _opened(path: Path) -> BinaryIO:
    try:
        return os.fdopen(open_plain(path), "rb")
    except (NoPlainFile, IsADirectoryError) as error:
        raise _damaged(path, str(error.strerror)) from error


def _read_manifest(file: BinaryIO, path: Path) -> Manifest:
    size = file.seek(0, os.SEEK_END)
    if size < _TRAILER.size:
        raise _damaged(path, "it is cut short")
    file.seek(size - _TRAILER.size)
    length, sha256, magic = _TRAILER.unpack(file.read(_TRAILER.size))
    data_bytes = size - _TRAILER.size - length
    if magic != _MAGIC or data_bytes < 0 or length > _LARGEST_MANIFEST_BYTES:
        raise _damaged(path, "its last bytes are not the end of a cache file")
    file.seek(data_bytes)
    content = file.read(length)
    if hashlib.sha256(content).digest() != sha256:
        raise _damaged(path, "its manifest does not match its checksum")
    try:
        manifest = _Written.model_validate_json(content)
    except ValidationError as error:
        raise _damaged(path, "its manifest is not one that biasrepro writes") from error
    if manifest.data_bytes != data_bytes:
        raise _damaged(path, f"{data_bytes} bytes where {manifest.data_bytes} were written")
    sums = (manifest.pixels, manifest.pixel_sums, manifest.pixel_square_sums)
    return Manifest(
        source=manifest.source,
        classes=tuple(manifest.classes),
        pixel_sums=PixelSums(*(np.array(values, np.int64) for values in sums)),
        arrays={name: array.model_dump() for name, array in manifest.arrays.items()},
        chunk_sha256=manifest.chunk_sha256,
        data_bytes=data_bytes,
        fingerprint=hashlib.sha256(content).hexdigest(),
    )


def open_cache(path: Path, *, of_this_user: bool = False) -> CachedImages:
    """Maps a cache and verifies all of it; what is verified is what is mapped, whatever happens to the file's name.

    ``of_this_user`` refuses a file that somebody else could still write to. Raises as ``read_manifest``.
    """
    with _opened(path) as file:
        if of_this_user and not is_of_this_user_alone(os.fstat(file.fileno())):
            raise _damaged(path, "another user may write to it")
        manifest = _read_manifest(file, path)
        # Copy-on-write: torch wants writable memory, and nothing may be written to the file.
        mapped: npt.NDArray[np.uint8] = np.memmap(file, mode="c", shape=(manifest.data_bytes,))
    for i, sha256 in enumerate(_chunk_sha256(mapped)):
        if sha256 != manifest.chunk_sha256[i]:
            first, last = i * _CHUNK_BYTES, min((i + 1) * _CHUNK_BYTES, manifest.data_bytes)
            raise _damaged(path, f"bytes {first} to {last - 1} do not match their checksum")
    views = {}
    for name, array in manifest.arrays.items():
        end = array["offset"] + _bytes_of(name, array["shape"])
        views[name] = mapped[array["offset"] : end].view(_DTYPES[name]).reshape(array["shape"])
    images = DecodedImages(**views, classes=manifest.classes)
    sums, source = manifest.pixel_sums, manifest.source
    return CachedImages(images, sums, source, manifest.fingerprint, manifest.content)


def _bytes_of(name: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * np.dtype(_DTYPES[name]).itemsize


def _chunk_sha256(content: npt.NDArray[np.uint8]) -> list[str]:
    """SHA-256 of each 16 MiB in hexadecimal, in one thread per core."""

    def sha256(start: int) -> str:
        return hashlib.sha256(content[start : start + _CHUNK_BYTES].data).hexdigest()

    with ThreadPoolExecutor(min(16, usable_cores())) as threads:
        return list(threads.map(sha256, range(0, len(content), _CHUNK_BYTES)))


def _damaged(path: Path, reason: str) -> DamagedCache:
    return DamagedCache(f"the decoded images are damaged: {reason}", where=str(path))
