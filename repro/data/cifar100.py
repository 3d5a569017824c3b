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

from repro.data.archives import ReadLimits, file_md5, read_members
from repro.data.decoded import DecodedImages, Images, Labels
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts

_BINARY = ("cifar-100-binary/train.bin", "cifar-100-binary/test.bin", "cifar-100-binary/fine_label_names.txt")
_PYTHON = ("cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta")
# What an unpickler raises on other content. MemoryError: a string that announces more bytes than there are.
_NOT_SUCH_A_PICKLE = (
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
    published = {archive.md5: archive.file_name for archive in facts.archives}
    if source.is_dir() or file_md5(source) not in published:
        raise DataError(
            f"not a published archive of {facts.title}: its MD5 is another one",
            where=str(source),
            hint=f"Expected: {', '.join(f'{name} (MD5 {md5})' for md5, name in published.items())}.",
        )
    members = dict(read_members(source, {*_BINARY, *_PYTHON}.__contains__, _LIMITS))
    if set(members) == set(_BINARY):
        train, test, names = (members[name] for name in _BINARY)
        return DecodedImages(*_split_records(train), *_split_records(test), tuple(names.decode("ascii").split()))
    if set(members) == set(_PYTHON):
        return _decode_python(source, *(members[name] for name in _PYTHON))
    raise DataError(f"files are missing in this archive of {facts.title}; found {sorted(members)}", where=str(source))


def _split_records(content: bytes) -> tuple[Images, Labels]:
    record_bytes = 2 + 3 * 32 * 32
    if len(content) % record_bytes:
        raise DataError(f"CIFAR-100: {len(content)} bytes are not a whole number of {record_bytes}-byte records")
    records = np.frombuffer(content, np.uint8).reshape(-1, record_bytes)
    return np.ascontiguousarray(records[:, 2:]).reshape(-1, 3, 32, 32), records[:, 1].astype(np.int64)


def _decode_python(source: Path, *pickles: bytes) -> DecodedImages:
    try:
        train, test, meta = (_ArrayUnpickler(content).load() for content in pickles)
        return DecodedImages(
            train_images=train[b"data"].array().reshape(-1, 3, 32, 32),
            train_labels=np.array(train[b"fine_labels"], dtype=np.int64),
            test_images=test[b"data"].array().reshape(-1, 3, 32, 32),
            test_labels=np.array(test[b"fine_labels"], dtype=np.int64),
            classes=tuple(name.decode("ascii") for name in meta[b"fine_label_names"]),
        )
    except _NOT_SUCH_A_PICKLE as error:
        raise DataError(f"not a pickle of CIFAR-100 ({error})", where=str(source)) from error


class _PickledDtype:
    """Stands in for ``numpy.dtype`` in a pickle: keeps the type's code."""

    def __init__(self, code: bytes, _align: int, _copy: int) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        pass  # byte order and alignment mean nothing for single bytes


class _PickledArray:
    """Stands in for ``numpy.ndarray`` in a pickle: keeps the array's description and its bytes."""

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
    """Reads dicts, lists, numbers, strings and byte arrays; any other class or function is refused.

    Not even NumPy's own functions are called: the pickle's references to them give the stand-ins above.
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
