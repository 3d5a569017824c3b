"""Tiny ImageNet: 100,000 training and 10,000 validation JPEGs of 64x64 in 200 classes of ImageNet.

Read from the published zip, from a tar.xz or tar.gz of the same layout, or from the unpacked folder::

    tiny-imagenet-200/wnids.txt, words.txt, train/<wnid>/images/<wnid>_<k>.JPEG,
                      val/images/val_<k>.JPEG, val/val_annotations.txt

Also below other folders, without the folders ``images``, and with the validation images in folders of their classes, as
many scripts leave them: then the annotations may be missing. Names are checked before an image is decoded.

The validation images are the test set, as everywhere in the literature: the labels of the real test set were never
published, and its files are not read. A copy is accepted by its structure, whatever its checksum: every class with
every image, every validation image with its label. Labels are indices of the sorted wnids; greyscale becomes RGB.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from repro.data.archives import ReadLimits, read_members
from repro.data.decoded import DecodedImages, Labels
from repro.data.image_files import BATCH_IMAGES, decode_into, decode_square
from repro.errors import DataError, Unreadable
from repro.experiment.catalog import DatasetFacts

_LIMITS = ReadLimits(member_bytes=16_000_000, total_bytes=2_000_000_000, members=500_000)
_ANNOTATIONS = "val/val_annotations.txt"
_TEXTS = ("wnids.txt", "words.txt", _ANNOTATIONS)
_TRAIN_IMAGE = re.compile(r"(.*/)?train/(n\d{8})/(?:images/)?\2_(\d{1,6})\.JPEG")
_TEST_IMAGE = re.compile(r"(?:.*/)?val/(?:(n\d{8})/)?(?:images/)?(val_(\d{1,6})\.JPEG)")


def decode_tiny_imagenet(
    source: Path, facts: DatasetFacts, progress: Callable[[int, int], None] = lambda done, total: None
) -> DecodedImages:
    """Reads all images and decodes them meanwhile, in one process per core.

    ``progress`` is called with the number of images decoded so far and their total. Raises DataError that names the
    first file that is missing, damaged or not 64x64.
    """
    images = np.empty((facts.train_count + facts.test_count, 3, facts.image_size, facts.image_size), np.uint8)
    try:
        layout = _layout_of(source, facts)
        batches = _image_batches(_members(source, layout.rows.__contains__), layout, facts.image_size)
        if decode_into(images, batches, decode_square, progress) != len(images):
            raise DataError("the files changed while they were read")
    except Unreadable:
        raise  # nothing is said of the archive
    except DataError as error:
        raise DataError(error.what, where=error.where or str(source), hint=error.hint) from error
    train_labels = np.arange(facts.num_classes).repeat(facts.train_count // facts.num_classes)
    train_images, test_images = images[: facts.train_count], images[facts.train_count :]
    return DecodedImages(train_images, train_labels, test_images, layout.test_labels, layout.classes)


def _members(source: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file that is ``wanted``; every name is asked for."""
    if not source.is_dir():
        yield from read_members(source, wanted, _LIMITS)
        return
    found = (source.glob(above + "wnids.txt") for above in ("", "*/", "*/*/"))
    top = next((path.parent for paths in found for path in paths), source)
    below = ("train/*/", "train/*/images/", "val/", "val/*/", "val/*/images/")
    for pattern in (*_TEXTS, *(f"{folder}*.JPEG" for folder in below)):
        for path in top.glob(pattern):
            name = path.relative_to(source).as_posix()
            if path.is_file() and wanted(name):
                if path.stat().st_size > _LIMITS.member_bytes:
                    raise DataError(f"{name} is too large for a file of this data set")
                yield name, path.read_bytes()


def _image_batches(
    members: Iterator[tuple[str, bytes]], layout: _Layout, size: int
) -> Iterator[tuple[list[int], tuple[list[str], list[bytes], int]]]:
    """The images in batches: their rows, and the arguments of ``decode_square``."""
    while batch := list(islice(members, BATCH_IMAGES)):
        names, contents = [name for name, _ in batch], [content for _, content in batch]
        yield [layout.rows[name] for name in names], (names, contents, size)


@dataclass(frozen=True)
class _Layout:
    """The row of each image by its name in the source, training images first; the test labels (N,); the classes."""

    rows: dict[str, int]
    test_labels: Labels
    classes: tuple[str, ...]


def _layout_of(source: Path, facts: DatasetFacts) -> _Layout:
    """Reads all names and the texts, and checks that nothing is missing and nothing is there twice."""
    names: list[str] = []

    def is_text(name: str) -> bool:
        names.append(name)
        return name.endswith(_TEXTS)

    contents = dict(_members(source, is_text))
    tops = {match[1] or "" for name in names if (match := _TRAIN_IMAGE.fullmatch(name))}
    if len(tops) > 1:
        raise DataError(f"training images are in {len(tops)} places: {' and '.join(sorted(tops)[:2])}")
    top = tops.pop() if tops else ""
    texts = {name: contents[top + name].decode("utf-8-sig", "replace") for name in _TEXTS if top + name in contents}
    for name in ("wnids.txt", "words.txt"):
        if name not in texts:
            raise DataError(f"{name} is missing")
    wnids = sorted(texts["wnids.txt"].split())
    if len(wnids) != facts.num_classes or len(set(wnids)) != len(wnids):
        raise DataError(f"wnids.txt names {len(set(wnids))} classes, not {facts.num_classes}")
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    words = dict(line.split("\t", 1) for line in texts["words.txt"].splitlines() if "\t" in line)
    rows = _train_rows(names, label_of, facts.train_count // facts.num_classes)
    test_names = [name for name in names if name.startswith(f"{top}val/")]
    test_rows, test_labels = _test_rows(test_names, label_of, texts.get(_ANNOTATIONS), facts.test_count)
    rows |= {name: facts.train_count + row for name, row in test_rows.items()}
    return _Layout(rows, test_labels, tuple(words.get(wnid, wnid) for wnid in wnids))


def _train_rows(names: list[str], label_of: dict[str, int], images_per_class: int) -> dict[str, int]:
    """The row of each training image, by its name: ordered by wnid and number."""
    rows: dict[str, int] = {}
    found: Counter[str] = Counter()
    for name in names:
        if match := _TRAIN_IMAGE.fullmatch(name):
            wnid, number = match[2], int(match[3])
            if wnid not in label_of or number >= images_per_class:
                raise DataError(f"{name} is not an image of this data set")
            rows[name] = label_of[wnid] * images_per_class + number
            found[wnid] += 1
    for wnid in label_of:
        if found[wnid] != images_per_class:
            raise DataError(f"class {wnid} has {found[wnid]} training images, not {images_per_class}")
    if len(set(rows.values())) != len(rows):
        raise DataError("two training images have the same number")
    return rows


def _test_rows(
    names: list[str], label_of: dict[str, int], annotations: str | None, test_count: int
) -> tuple[dict[str, int], Labels]:
    """The row of each test image, by its name: ordered by number; and the labels (N,).

    A label is that of the annotations, or the image's folder; they must agree.
    """
    wnids = dict(line.split("\t")[:2] for line in (annotations or "").splitlines() if "\t" in line)
    rows: dict[str, int] = {}
    labels = np.full(test_count, -1, np.int64)
    for name in names:
        if match := _TEST_IMAGE.fullmatch(name):
            folder, file_name, row = match[1], match[2], int(match[3])
            if annotations is None and folder is None:
                raise DataError(f"{_ANNOTATIONS} is missing, and {name} is in no folder of its class")
            wnid = wnids.get(file_name, "") if annotations is not None else folder
            if row >= test_count or wnid not in label_of:
                raise DataError(f"{name} has no valid line in val_annotations.txt")
            if folder not in (None, wnid):
                raise DataError(f"{name} is of class {wnid} by val_annotations.txt")
            if labels[row] >= 0:
                raise DataError(f"the validation image {file_name} is here twice")
            rows[name] = row
            labels[row] = label_of[wnid]
    if len(rows) != test_count:
        raise DataError(f"there are {len(rows)} validation images, not {test_count}")
    return rows, labels
