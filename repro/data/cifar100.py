"""CIFAR-100 from its published archives: 50,000 training and 10,000 test images of 32x32 in 100 classes.

The binary archive holds records of one coarse label byte, one fine label byte and 3,072 pixel bytes (red, green
and blue planes, row by row). The Python archive holds the same as pickles, which are never executed: see
``_ArrayUnpickler``. Either is read only if its MD5 is the published one, so a label or a pixel cannot differ.
"""

from __future__ import annotations

import io
import pickle
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from repro.data.archives import ReadLimits, published_archive, read_members
from repro.data.decoded import DecodedImages, Images, Labels
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts

_BINARY = {name: f"cifar-100-binary/{name}" for name in ("train.bin", "test.bin", "fine_label_names.txt")}
_PYTHON = {name: f"cifar-100-python/{name}" for name in ("train", "test", "meta")}
# What an unpickler raises on other content; MemoryError: a string that announces more bytes than there are.
_NO_SUCH_PICKLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)
_LIMITS = ReadLimits(member_bytes=200_000_000, total_bytes=400_000_000, members=100)


def decode_cifar100(source: Path, facts: DatasetFacts, progress: object = None) -> DecodedImages:
    """Decodes ``cifar-100-binary.tar.gz`` or ``cifar-100-python.tar.gz``; fine labels, in alphabetical order."""
    if source.is_dir() or published_archive(source, facts) is None:
        raise DataError(
            f"this is not a published archive of {facts.title}: no checksum agrees",
            where=str(source),
            hint=f"expected: {', '.join(f'{a.file_name} (MD5 {a.md5})' for a in facts.archives)}",
        )
    wanted = {*_BINARY.values(), *_PYTHON.values()}
    members = dict(read_members(source, wanted.__contains__, _LIMITS))
    if set(members) == set(_BINARY.values()):
        return _decode_binary(members)
    if set(members) == set(_PYTHON.values()):
        return _decode_python(members, source)
    raise DataError(f"files are missing in this archive of {facts.title}; found {sorted(members)}", where=str(source))


def _decode_binary(members: dict[str, bytes]) -> DecodedImages:
    train_images, train_labels = _split_records(members[_BINARY["train.bin"]])
    test_images, test_labels = _split_records(members[_BINARY["test.bin"]])
    classes = tuple(members[_BINARY["fine_label_names.txt"]].decode("ascii").split())
    return DecodedImages(train_images, train_labels, test_images, test_labels, classes)


def _split_records(content: bytes) -> tuple[Images, Labels]:
    record_bytes = 2 + 3 * 32 * 32
    if len(content) % record_bytes:
        raise DataError(f"CIFAR-100: {len(content)} bytes are not a whole number of records of {record_bytes}")
    records = np.frombuffer(content, np.uint8).reshape(-1, record_bytes)
    return np.ascontiguousarray(records[:, 2:]).reshape(-1, 3, 32, 32), records[:, 1].astype(np.int64)


def _decode_python(members: dict[str, bytes], source: Path) -> DecodedImages:
    try:
        train, test, meta = (_ArrayUnpickler(members[_PYTHON[name]]).load() for name in ("train", "test", "meta"))
        return DecodedImages(
            train_images=train[b"data"].array().reshape(-1, 3, 32, 32),
            train_labels=np.array(train[b"fine_labels"], dtype=np.int64),
            test_images=test[b"data"].array().reshape(-1, 3, 32, 32),
            test_labels=np.array(test[b"fine_labels"], dtype=np.int64),
            classes=tuple(name.decode("ascii") for name in meta[b"fine_label_names"]),
        )
    except _NO_SUCH_PICKLE as e:
        raise DataError(f"this pickle is not one of CIFAR-100 ({e})", where=str(source)) from e


class _PickledDtype:
    """Stands for ``numpy.dtype`` in a pickle: remembers the type's code."""

    def __init__(self, code: bytes, _align: int, _copy: int) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass  # byte order and alignment: without meaning for single bytes


class _PickledArray:
    """Stands for ``numpy.ndarray`` in a pickle: keeps the array's description and its bytes."""

    def __init__(self, _kind: object, _shape: object, _code: object) -> None:
        self._state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._state = state

    def array(self) -> Images:
        _version, shape, dtype, column_major, content = self._state
        if dtype.code != b"u1" or len(content) != prod(shape):
            raise ValueError(f"an array of {dtype.code!r} with shape {shape} in {len(content)} bytes")
        return np.frombuffer(content, np.uint8).reshape(shape, order="F" if column_major else "C")


class _ArrayUnpickler(pickle.Unpickler):
    """Reads dicts, lists, numbers, strings and byte arrays; every other class or function is refused by name.

    Even NumPy's own functions are not called: the pickle's references to them give the stand-ins above.
    """

    _STAND_INS: ClassVar[dict[tuple[str, str], type]] = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): _PickledArray,
        ("numpy", "dtype"): _PickledDtype,
    }

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="bytes")

    def find_class(self, module: str, name: str) -> type:
        stand_in = self._STAND_INS.get((module, name))
        if stand_in is None:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return stand_in
