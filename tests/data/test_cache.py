"""The decoded file: whole or not there, and no byte of it can change unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repro.data import cache as decoded_cache
from repro.data.cache import _MAGIC, _TRAILER, CACHE_FILE, DamagedCache, open_cache, read_manifest, write_cache
from repro.data.decoded import DecodedImages


@pytest.fixture
def images() -> DecodedImages:
    random = np.random.default_rng(0)
    return DecodedImages(
        train_images=random.integers(0, 256, (7, 3, 4, 4), np.uint8),
        train_labels=np.array([0, 1, 2, 0, 1, 2, 0]),
        test_images=random.integers(0, 256, (2, 3, 4, 4), np.uint8),
        test_labels=np.array([2, 1]),
        classes=("a", "b", "ç"),
    )


@pytest.fixture
def cache(images: DecodedImages, tmp_path: Path) -> Path:
    path = tmp_path / CACHE_FILE
    write_cache(path, "small", images, "made by a test")
    return path


def test_what_is_written_is_what_is_opened(cache: Path, images: DecodedImages) -> None:
    cached = open_cache(cache)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert np.array_equal(getattr(cached.images, name), getattr(images, name)), name
        assert getattr(cached.images, name).flags.aligned
    assert cached.images.classes == images.classes
    assert cached.source == "made by a test"
    assert cached.fingerprint == read_manifest(cache).fingerprint
    assert [path.name for path in cache.parent.iterdir()] == [CACHE_FILE]


def test_writing_into_an_opened_array_never_reaches_the_file(cache: Path) -> None:
    before = cache.read_bytes()
    cached = open_cache(cache)
    cached.images.train_images[:] = 0
    del cached
    assert cache.read_bytes() == before


def test_mean_and_std_are_those_of_the_training_images_and_of_any_subset(cache: Path, images: DecodedImages) -> None:
    cached = open_cache(cache)
    for classes in (1, 2, 3):
        chosen = images.train_images[images.train_labels < classes] / 255
        mean, std = cached.pixel_sums.mean_and_std(classes)
        assert np.allclose(mean, chosen.mean((0, 2, 3)), rtol=1e-12, atol=0)
        assert np.allclose(std, chosen.std((0, 2, 3)), rtol=1e-12, atol=0)


def test_any_changed_byte_is_noticed(cache: Path) -> None:
    content = cache.read_bytes()
    data_bytes = read_manifest(cache).data_bytes
    positions = [*range(0, data_bytes, 11), *range(data_bytes, len(content))]
    descriptor = os.open(cache, os.O_RDWR)
    for position in positions:
        os.pwrite(descriptor, bytes([content[position] ^ (1 << position % 8)]), position)
        with pytest.raises(DamagedCache):
            open_cache(cache)
        os.pwrite(descriptor, content[position : position + 1], position)
    os.close(descriptor)
    open_cache(cache)


def test_a_file_cut_or_lengthened_anywhere_is_noticed(cache: Path) -> None:
    content = cache.read_bytes()
    data_bytes = read_manifest(cache).data_bytes
    for length in [*range(0, len(content), 997), len(content) - 1]:
        cache.write_bytes(content[:length])
        with pytest.raises(DamagedCache):
            open_cache(cache)
    for position in (0, 5000, data_bytes, len(content) - 60, len(content)):
        cache.write_bytes(content[:position] + bytes(4096) + content[position:])
        with pytest.raises(DamagedCache):
            open_cache(cache)


def test_a_missing_file_is_not_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_cache(tmp_path / "none")


def test_a_write_that_fails_leaves_nothing_and_keeps_what_was_there(
    cache: Path, images: DecodedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("repro.results.durable.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_cache(cache, "small", images, "a second time")
    assert cache.read_bytes() == before
    assert [path.name for path in cache.parent.iterdir()] == [CACHE_FILE]


def test_a_manifest_names_every_chunk(cache: Path) -> None:
    manifest = read_manifest(cache)
    assert len(manifest.chunk_sha256) == -(-manifest.data_bytes // (16 << 20))
    assert json.loads(json.dumps(manifest.arrays))["train_images"]["offset"] == 0


def with_manifest(cache: Path, content: bytes) -> None:
    """Put ``content`` in the manifest's place, with a trailer that fits."""
    arrays = cache.read_bytes()[: read_manifest(cache).data_bytes]
    cache.write_bytes(arrays + content + _TRAILER.pack(len(content), hashlib.sha256(content).digest(), _MAGIC))


def manifest_of(cache: Path) -> dict[str, Any]:
    data_bytes = read_manifest(cache).data_bytes
    fields: dict[str, Any] = json.loads(cache.read_bytes()[data_bytes : -_TRAILER.size])
    return fields


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"7", b"\xff", b"[" * 100_000, b"{", b'{"arrays": 1}'])
def test_a_manifest_that_is_none_is_damage(content: bytes, cache: Path) -> None:
    with_manifest(cache, content)
    for read in (read_manifest, open_cache):
        with pytest.raises(DamagedCache, match="its manifest is not one that biasrepro writes"):
            read(cache)


ARRAY: dict[str, Any] = {"offset": 0, "shape": [1]}


@pytest.mark.parametrize(
    "changed",
    [
        *({"source": value} for value in (None, 7)),
        *({"classes": value} for value in ([], "abc", ["a"], [1, 2, 3], None)),
        *({"pixels": value} for value in ([], [1, 2], [-1, 2, 3], [10**400, 2, 3], [1.5, 2, 3], [True, 2, 3])),
        *({"pixel_sums": value} for value in ([], [[1, 2, 3]], [[1, 2]] * 3, [[1, 2, 10**30]] * 3)),
        *({"chunk_sha256": value} for value in ([], ["a", "b"], [7], None, {})),
        *({"data_bytes": value} for value in (0, -1, 10**400, 1e308, "1")),
        *({"arrays": value} for value in ({}, [], {"train_images": ARRAY}, dict.fromkeys("abcd", ARRAY))),
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_a_manifest_whose_parts_do_not_fit_is_damage(changed: dict[str, Any], cache: Path) -> None:
    with_manifest(cache, json.dumps(manifest_of(cache) | changed).encode())
    with pytest.raises(DamagedCache):
        open_cache(cache)


@pytest.mark.parametrize(
    "place",
    [{"offset": -4096}, {"offset": 8}, {"offset": 4096 << 20}, {"shape": [7, 3, 4, 10**9]}, {"shape": [-1]}, {}],
)
def test_an_array_outside_the_file_is_damage(place: dict[str, Any], cache: Path) -> None:
    fields = manifest_of(cache)
    array = fields["arrays"]["train_images"]
    fields["arrays"]["train_images"] = {**array, **place} if place else None
    with_manifest(cache, json.dumps(fields).encode())
    with pytest.raises(DamagedCache):
        open_cache(cache)


@pytest.mark.timeout(20)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / CACHE_FILE)
    for read in (read_manifest, open_cache):
        with pytest.raises(DamagedCache, match="it is a pipe"):
            read(tmp_path / CACHE_FILE)


def test_what_was_verified_is_what_is_read(cache: Path, images: DecodedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    real = decoded_cache._chunk_sha256

    def swapped_meanwhile(content: Any) -> list[str]:
        other = cache.with_name("other")
        other.write_bytes(bytes(cache.stat().st_size))
        other.replace(cache)
        return real(content)

    monkeypatch.setattr(decoded_cache, "_chunk_sha256", swapped_meanwhile)
    assert np.array_equal(open_cache(cache).images.train_images, images.train_images)


def test_what_another_user_may_write_to_is_not_taken_for_this_user_s(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_cache(cache, of_this_user=True)
    cache.chmod(0o666)
    with pytest.raises(DamagedCache, match="another user may write to it"):
        open_cache(cache, of_this_user=True)
    cache.chmod(0o600)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(DamagedCache, match="another user may write to it"):
        open_cache(cache, of_this_user=True)
    open_cache(cache)
