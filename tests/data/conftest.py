"""Small data sets in the exact formats of the published ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from repro.data.decoded import DecodedImages, Images
from repro.experiment.catalog import DATASETS, DatasetFacts

TINY_WNIDS = ("n01443537", "n01629819", "n01641577")


def tar_bytes(members: dict[str, bytes]) -> bytes:
    """An uncompressed tar of regular files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return buffer.getvalue()


def zip_bytes(members: dict[str, bytes]) -> bytes:
    """A deflated zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


PACKED: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zip_bytes,
    "tar.gz": lambda members: gzip.compress(tar_bytes(members), mtime=0),
    "tar.xz": lambda members: lzma.compress(tar_bytes(members)),
}


@pytest.fixture(scope="session")
def pack() -> Callable[[str, dict[str, bytes]], bytes]:
    """Packs members as a zip, tar.gz or tar.xz."""
    return lambda form, members: PACKED[form](members)


def jpeg_bytes(pixels: Images) -> bytes:
    """A JPEG of uint8 (H, W, 3) or greyscale (H, W) pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


@dataclass(frozen=True)
class SmallCifar:
    """What a small CIFAR-100 archive holds, in the archive's order, and the facts that describe it."""

    images: DecodedImages
    facts: DatasetFacts
    binary_archive: bytes
    python_archive: bytes


@pytest.fixture(scope="session")
def small_cifar() -> SmallCifar:
    random = np.random.default_rng(0)

    def part(count: int) -> tuple[Images, np.ndarray]:
        return random.integers(0, 256, (count, 3, 32, 32), np.uint8), random.permutation(count).astype(np.int64) % 4

    train_images, train_labels = part(20)
    test_images, test_labels = part(8)
    classes = ("apple", "aquarium_fish", "baby", "bear")
    images = DecodedImages(train_images, train_labels, test_images, test_labels, classes)
    binary = gzip.compress(tar_bytes(binary_members(images)), mtime=0)
    python = gzip.compress(tar_bytes(python_members(images)), mtime=0)
    facts = replace(
        DATASETS["cifar100"],
        num_classes=4,
        train_count=20,
        test_count=8,
        archives=tuple(
            replace(archive, md5=hashlib.md5(content).hexdigest(), size_bytes=len(content))
            for archive, content in zip(DATASETS["cifar100"].archives, (binary, python), strict=True)
        ),
    )
    return SmallCifar(images, facts, binary, python)


def binary_members(images: DecodedImages) -> dict[str, bytes]:
    """The published layout, with the files that are not read."""

    def records(pixels: Images, labels: np.ndarray) -> bytes:
        coarse = 19 - labels  # in the published files too, the first label is the coarse one
        return b"".join(bytes((c, f)) + image.tobytes() for c, f, image in zip(coarse, labels, pixels, strict=True))

    top = "cifar-100-binary"
    return {
        f"{top}/train.bin": records(images.train_images, images.train_labels),
        f"{top}/test.bin": records(images.test_images, images.test_labels),
        f"{top}/fine_label_names.txt": "\n".join(images.classes).encode() + b"\n",
        f"{top}/coarse_label_names.txt": b"aquatic_mammals\nfish\n",
    }


def python_members(images: DecodedImages) -> dict[str, bytes]:
    top = "cifar-100-python"

    def part(pixels: Images, labels: np.ndarray) -> bytes:
        content = {
            "filenames": [f"image_{i}.png" for i in range(len(labels))],
            "batch_label": "training batch 1 of 1",
            "fine_labels": labels.tolist(),
            "coarse_labels": (19 - labels).tolist(),
            "data": pixels.reshape(len(pixels), -1),
        }
        return python2_pickle(content)

    return {
        f"{top}/file.txt~": b"",
        f"{top}/meta": python2_pickle({"fine_label_names": list(images.classes), "coarse_label_names": ["fish"]}),
        f"{top}/train": part(images.train_images, images.train_labels),
        f"{top}/test": part(images.test_images, images.test_labels),
    }


def python2_pickle(value: object) -> bytes:
    """Pickles as Python 2's protocol 2 did, whose strings are bytes: the form of the published archive."""
    return b"\x80\x02" + _python2_opcodes(value) + b"."


def _python2_opcodes(value: object) -> bytes:
    if isinstance(value, str | bytes):
        content = value.encode() if isinstance(value, str) else value
        return b"T" + struct.pack("<i", len(content)) + content
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2_opcodes, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_python2_opcodes, value)) + b"t"
    if isinstance(value, dict):
        items = b"".join(_python2_opcodes(key) + _python2_opcodes(item) for key, item in value.items())
        return b"}(" + items + b"u"
    assert isinstance(value, np.ndarray)
    dtype = b"cnumpy\ndtype\n" + _python2_opcodes((value.dtype.str[1:], 0, 1)) + b"R"
    dtype += _python2_opcodes((3, "|", None, None, None, -1, -1, 0)) + b"b"
    state = b"(" + _python2_opcodes(1) + _python2_opcodes(value.shape) + dtype + _python2_opcodes(False)
    state += _python2_opcodes(value.tobytes()) + b"t"
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n" + _python2_opcodes((0,))
    return empty + _python2_opcodes("b") + b"tR" + state + b"b"


@pytest.fixture(scope="session")
def tiny_members() -> dict[str, bytes]:
    """A Tiny ImageNet of 3 classes with 4 training and 2 validation images each; every fifth image is greyscale."""
    random = np.random.default_rng(1)
    count = 0

    def jpeg() -> bytes:
        nonlocal count
        count += 1
        coarse = random.integers(0, 256, (8, 8) if count % 5 == 0 else (8, 8, 3), np.uint8)
        return jpeg_bytes(coarse.repeat(8, axis=0).repeat(8, axis=1))

    top = "tiny-imagenet-200"
    members = {}
    for wnid in reversed(TINY_WNIDS):
        members[f"{top}/train/{wnid}/{wnid}_boxes.txt"] = b""
        members |= {f"{top}/train/{wnid}/images/{wnid}_{k}.JPEG": jpeg() for k in (3, 0, 2, 1)}
    members |= {f"{top}/val/images/val_{k}.JPEG": jpeg() for k in (5, 3, 1, 0, 2, 4)}
    members |= {f"{top}/test/images/test_{k}.JPEG": b"not read" for k in range(2)}
    annotations = "".join(f"val_{k}.JPEG\t{TINY_WNIDS[(2 * k) % 3]}\t0\t32\t44\t62\n" for k in range(6))
    members[f"{top}/val/val_annotations.txt"] = annotations.encode()
    members[f"{top}/wnids.txt"] = "\n".join((TINY_WNIDS[1], TINY_WNIDS[0], TINY_WNIDS[2])).encode()
    members[f"{top}/words.txt"] = (
        b"n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\n"
        b"n01641577\tbullfrog, Rana catesbeiana\nn01629819\tEuropean fire salamander\n"
    )
    return members


@pytest.fixture(scope="session")
def tiny_facts(tiny_members: dict[str, bytes]) -> DatasetFacts:
    published = zip_bytes(tiny_members)
    facts = DATASETS["tiny_imagenet"]
    first = replace(facts.archives[0], md5=hashlib.md5(published).hexdigest(), size_bytes=len(published))
    return replace(facts, num_classes=3, train_count=12, test_count=6, archives=(first, *facts.archives[1:]))


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Writes members as files and returns the folder that holds them."""

    def write(members: dict[str, bytes]) -> Path:
        for name, content in members.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path

    return write
