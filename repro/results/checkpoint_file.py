"""The checkpoint file: a header (which run, how far) and the state, under a checksum over every byte.

A magic line, the SHA-256 of all that follows, the lengths of the two parts, the header (JSON), the state (as
``torch.save`` wrote it). ``torch.load`` alone does not detect most damage. Nothing here needs torch, so that ``verify``
can check thousands of checkpoints.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from repro.errors import DataError
from repro.results.files import open_plain, read_file, reading_failed

MAGIC = b"biasrepro checkpoint 2\n"
_LENGTHS = struct.Struct(">IQ")
_START = len(MAGIC) + 32 + _LENGTHS.size


@dataclass(frozen=True)
class Header:
    """The run whose state it is; ``step`` of ``epoch`` is the next to train; ``commit`` counts its checkpoints."""

    run_id: str
    commit: int
    epoch: int
    step: int


def seal(header: Header, state: bytes) -> bytes:
    """The bytes of a checkpoint file."""
    head = json.dumps(asdict(header)).encode()
    rest = _LENGTHS.pack(len(head), len(state)) + head + state
    return MAGIC + hashlib.sha256(rest).digest() + rest


def unseal(raw: bytes, *, where: str) -> tuple[Header, memoryview]:
    """Header and state, every byte checked. Raises DataError."""
    view = memoryview(raw)
    if not raw.startswith(MAGIC):
        raise DataError("not a checkpoint of this version of biasrepro", where=where)
    if len(raw) < _START:
        raise DataError("the checkpoint is cut short", where=where)
    if hashlib.sha256(view[len(MAGIC) + 32 :]).digest() != raw[len(MAGIC) : len(MAGIC) + 32]:
        raise DataError("the checkpoint does not match its checksum: it is cut short or damaged", where=where)
    head_length, state_length = _LENGTHS.unpack(view[_START - _LENGTHS.size : _START])
    if _START + head_length + state_length != len(raw):
        raise DataError("the lengths of the checkpoint's parts do not add up to its size", where=where)
    try:
        header = Header(**json.loads(raw[_START : _START + head_length]))
        types = [type(value) for value in (header.run_id, header.commit, header.epoch, header.step)]
        if types != [str, int, int, int]:
            raise TypeError("of the wrong types")
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"the checkpoint's header cannot be read ({error})", where=where) from error
    return header, view[_START + head_length :]


def read_checkpoint(path: Path) -> tuple[Header, memoryview]:
    """Header and state of the checkpoint at ``path``, every byte checked.

    A file is read only if it is as long as its head says; a checkpoint has no limit but the memory. Raises DataError,
    and OSError or MemoryError for a failed read.
    """
    descriptor = open_plain(path)
    try:
        raw, size = os.read(descriptor, _START), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
    if len(raw) == _START and size == _START + sum(_LENGTHS.unpack_from(raw, _START - _LENGTHS.size)):
        raw = read_file(path, sys.maxsize)
    return unseal(raw, where=str(path))  # the head alone never passes


def check_checkpoint(path: Path) -> Header:
    """The header of the checkpoint at ``path``, every byte checked. Raises DataError, Unreadable for a failed read."""
    try:
        return read_checkpoint(path)[0]
    except (OSError, MemoryError) as error:
        raise reading_failed(error, path) from error


def first_whole(paths: Iterable[Path], run_id: str) -> Header | None:
    """The header of the first of these checkpoints that is whole and of this run; None if there is none."""
    for path in paths:
        with suppress(DataError):
            header = check_checkpoint(path)
            if header.run_id == run_id:
                return header
    return None
