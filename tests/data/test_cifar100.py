"""CIFAR-100's two archives, in their exact formats, and pickles that must not run."""

from __future__ import annotations

import gzip
import hashlib
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repro.data.cifar100 import decode_cifar100
from repro.data.decoded import DecodedImages
from repro.errors import DataError
from repro.experiment.catalog import DATASETS, Archive, DatasetFacts

Pack = Callable[[str, dict[str, bytes]], bytes]


def assert_same(found: DecodedImages, expected: DecodedImages) -> None:
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    assert found.classes == expected.classes


@pytest.mark.parametrize("form", ["binary", "python"])
def test_both_archives_give_the_same_images_and_fine_labels(form: str, small_cifar: Any, tmp_path: Path) -> None:
    path = tmp_path / "under-any-name"
    path.write_bytes(getattr(small_cifar, f"{form}_archive"))
    images = decode_cifar100(path, small_cifar.facts)
    images.check(small_cifar.facts)
    assert_same(images, small_cifar.images)


def test_the_small_python_archive_is_a_pickle_of_numpy_arrays_to_python_itself(small_cifar: Any) -> None:
    # Guards the fixture: what tests call the published format is one that Python and NumPy read as such.
    content = gzip.decompress(small_cifar.python_archive)
    start = content.index(b"\x80\x02}(T\x09\x00\x00\x00filenames")
    loaded = pickle.loads(content[start:], encoding="latin1")
    assert np.array_equal(loaded["data"].reshape(-1, 3, 32, 32), small_cifar.images.train_images)


def test_an_archive_with_another_checksum_is_refused_unread(small_cifar: Any, tmp_path: Path) -> None:
    path = tmp_path / "cifar-100-binary.tar.gz"
    path.write_bytes(small_cifar.binary_archive)
    with pytest.raises(DataError, match="not a published archive") as error:
        decode_cifar100(path, DATASETS["cifar100"])
    assert "03b5dce01913d631647c71ecec9e9cb8" in str(error.value)
    assert str(path) in str(error.value)
    with pytest.raises(DataError, match="not a published archive"):
        decode_cifar100(tmp_path, DATASETS["cifar100"])


def accepted(content: bytes, facts: DatasetFacts, path: Path) -> DatasetFacts:
    """Writes an archive, and facts that vouch for it: what a checksum cannot protect from."""
    path.write_bytes(content)
    return replace(facts, archives=(Archive(path.name, md5=hashlib.md5(content).hexdigest()),))


class Hostile:
    """Unpickled by Python, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_a_call_is_refused_and_not_run(
    protocol: int, small_cifar: Any, tmp_path: Path, pack: Pack
) -> None:
    marker = tmp_path / "marker"
    hostile = pickle.dumps({"data": Hostile(marker)}, protocol)
    pickle.loads(hostile)
    assert marker.exists()
    marker.unlink()
    members = {f"cifar-100-python/{name}": hostile for name in ("train", "test", "meta")}
    path = tmp_path / "x.tar.gz"
    facts = accepted(pack("tar.gz", members), small_cifar.facts, path)
    with pytest.raises(DataError, match=r"it refers to .*(touch|getattr|Path)"):
        decode_cifar100(path, facts)
    assert not marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x02}.",  # an empty dict
        b"\x80\x02]q\x01.",  # a list
        b"\x80\x02K\x01K\x02R.",  # calls a number
        b"\x80\x02}(T\x04\x00\x00\x00dataK\x01u.",  # a number for an array
        b"\x80\x02cnumpy\ndtype\nK\x01\x85R.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f",  # announces more bytes than there are
    ],
)
def test_a_pickle_of_something_else_is_a_data_error(
    content: bytes, small_cifar: Any, tmp_path: Path, pack: Pack
) -> None:
    members = {f"cifar-100-python/{name}": content for name in ("train", "test", "meta")}
    path = tmp_path / "x.tar.gz"
    facts = accepted(pack("tar.gz", members), small_cifar.facts, path)
    with pytest.raises(DataError, match="not a pickle of CIFAR-100"):
        decode_cifar100(path, facts)


def test_an_array_of_anything_but_bytes_is_a_data_error(small_cifar: Any, tmp_path: Path) -> None:
    plain = gzip.decompress(small_cifar.python_archive)
    assert b"u1" in plain
    path = tmp_path / "x.tar.gz"
    facts = accepted(gzip.compress(plain.replace(b"u1", b"i1")), small_cifar.facts, path)
    with pytest.raises(DataError, match="an array of b'i1'"):
        decode_cifar100(path, facts)


def test_missing_members_and_broken_records_are_data_errors(small_cifar: Any, tmp_path: Path, pack: Pack) -> None:
    path = tmp_path / "x.tar.gz"
    facts = accepted(pack("tar.gz", {"cifar-100-binary/train.bin": b""}), small_cifar.facts, path)
    with pytest.raises(DataError, match="files are missing"):
        decode_cifar100(path, facts)
    members = {f"cifar-100-binary/{name}": bytes(3075) for name in ("train.bin", "test.bin", "fine_label_names.txt")}
    facts = accepted(pack("tar.gz", members), small_cifar.facts, path)
    with pytest.raises(DataError, match="3075 bytes are not a whole number of 3074-byte records"):
        decode_cifar100(path, facts)
