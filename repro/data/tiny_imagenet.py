"""Tiny ImageNet: 100,000 training and 10,000 validation JPEGs of 64x64 in 200 classes of ImageNet.

Read from the published zip, from a tar.xz or tar.gz of the same layout, or from the unpacked folder::

    tiny-imagenet-200/wnids.txt, words.txt, train/<wnid>/images/<wnid>_<k>.JPEG,
                      val/images/val_<k>.JPEG, val/val_annotations.txt

The validation images are the test set, as everywhere in the literature: the labels of the real test set were never
published, and its files are not read. A copy is accepted by its structure, whatever its checksum: every class with
every image, every validation image with its label. Labels are indices of the sorted wnids; greyscale becomes RGB.
"""

from __future__ import annotations

import io
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from repro.data.archives import ReadLimits, read_members
from repro.data.decoded import DecodedImages, Images, Labels
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts
from repro.machine import usable_cores

_LIMITS = ReadLimits(member_bytes=16_000_000, total_bytes=2_000_000_000, members=200_000)
_TEXTS = ("wnids.txt", "words.txt", "val/val_annotations.txt")
_TRAIN_IMAGE = re.compile(r"train/(n\d{8})/images/\1_(\d{1,6})\.JPEG")
_TEST_IMAGE = re.compile(r"val/images/val_(\d{1,6})\.JPEG")
_BATCH_IMAGES = 256


def decode_tiny_imagenet(
    source: Path, facts: DatasetFacts, progress: Callable[[int, int], None] = lambda done, total: None
) -> DecodedImages:
    """Reads all images and decodes them meanwhile, in one process per core.

    ``progress`` is called with the number of images decoded so far and their total. Raises DataError that names the
    first file that is missing, damaged or not 64x64.
    """
    total = facts.train_count + facts.test_count
    texts: dict[str, str] = {}
    batches: list[tuple[list[str], Future[Images]]] = []
    executor = _executor(total)
    try:
        for names, contents in _image_batches(_members(source), texts):
            batches.append((names, executor.submit(decode_jpegs, names, contents, facts.image_size)))
            progress(min(total, _decoded(batches)), total)
        return _assemble(texts, batches, facts, progress)
    except DataError as error:
        raise DataError(error.what, where=error.where or str(source), hint=error.hint) from error
    finally:
        executor.shutdown(cancel_futures=True)


def _executor(image_count: int) -> Executor:
    """Processes, because threads hardly decode small JPEGs faster (measured: 3.7 s with 1, 3.5 s with 2)."""
    if image_count <= 4 * _BATCH_IMAGES:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(
        min(16, usable_cores()), mp_context=get_context("spawn"), initializer=_follow, initargs=(os.getpid(),)
    )


def _follow(parent: int) -> None:
    """In a worker: leave Ctrl-C to ``parent``, and exit once it is gone, for whatever reason."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def decode_jpegs(names: list[str], contents: list[bytes], size: int) -> Images:
    """Decodes square JPEGs of ``size`` pixels to uint8 (N, 3, size, size). Raises DataError that names a bad one."""
    images = np.empty((len(contents), 3, size, size), np.uint8)
    for i, content in enumerate(contents):
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
                if picture.size != (size, size):
                    raise DataError(f"{names[i]} has {picture.width}x{picture.height} pixels, not {size}x{size}")
                images[i] = np.asarray(picture.convert("RGB")).transpose(2, 0, 1)
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises each of these on damaged files
            raise DataError(f"{names[i]} is not a readable JPEG ({error})") from error
    return images


def _members(source: Path) -> Iterator[tuple[str, bytes]]:
    """Name (inside the data set's folder) and content of every file that is needed."""
    if not source.is_dir():
        top = "tiny-imagenet-200/"
        for name, content in read_members(source, lambda name: _is_needed(name.removeprefix(top)), _LIMITS):
            yield name.removeprefix(top), content
        return
    for pattern in (*_TEXTS, "train/*/images/*.JPEG", "val/images/*.JPEG"):
        for path in source.glob(pattern):
            name = path.relative_to(source).as_posix()
            if _is_needed(name) and path.is_file():
                if path.stat().st_size > _LIMITS.member_bytes:
                    raise DataError(f"{name} is too large for a file of this data set")
                yield name, path.read_bytes()


def _is_needed(name: str) -> bool:
    return name in _TEXTS or bool(_TRAIN_IMAGE.fullmatch(name) or _TEST_IMAGE.fullmatch(name))


def _image_batches(
    members: Iterator[tuple[str, bytes]], texts: dict[str, str]
) -> Iterator[tuple[list[str], list[bytes]]]:
    """The images in batches of names and contents; the text files go into ``texts``."""
    names, contents = [], []
    for name, content in members:
        if name in _TEXTS:
            texts[name] = content.decode("utf-8", errors="replace")
            continue
        names.append(name)
        contents.append(content)
        if len(names) == _BATCH_IMAGES:
            yield names, contents
            names, contents = [], []
    if names:
        yield names, contents


def _decoded(batches: list[tuple[list[str], Future[Images]]]) -> int:
    return sum(len(names) for names, images in batches if images.done())


def _train_rows(image_names: list[str], label_of: dict[str, int], images_per_class: int) -> dict[str, int]:
    """The row of each training image, by its name: ordered by wnid and number."""
    rows: dict[str, int] = {}
    found: Counter[str] = Counter()
    for name in image_names:
        if match := _TRAIN_IMAGE.fullmatch(name):
            wnid, number = match[1], int(match[2])
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
    image_names: list[str], label_of: dict[str, int], annotations: str, test_count: int
) -> tuple[dict[str, int], Labels]:
    """The row of each test image, by its name: ordered by number; and the labels (N,)."""
    wnids = dict(line.split("\t")[:2] for line in annotations.splitlines() if "\t" in line)
    rows: dict[str, int] = {}
    labels = np.full(test_count, -1, np.int64)
    for name in image_names:
        if match := _TEST_IMAGE.fullmatch(name):
            row, wnid = int(match[1]), wnids.get(name.removeprefix("val/images/"), "")
            if row >= test_count or wnid not in label_of:
                raise DataError(f"{name} has no valid line in val_annotations.txt")
            rows[name] = row
            labels[row] = label_of[wnid]
    if len(set(rows.values())) != test_count:
        raise DataError(f"there are {len(rows)} validation images, not {test_count}")
    return rows, labels


def _assemble(
    texts: dict[str, str],
    batches: list[tuple[list[str], Future[Images]]],
    facts: DatasetFacts,
    progress: Callable[[int, int], None],
) -> DecodedImages:
    """Checks that nothing is missing, and puts every image in its row."""
    for name in _TEXTS:
        if name not in texts:
            raise DataError(f"{name} is missing")
    wnids = sorted(texts["wnids.txt"].split())
    if len(wnids) != facts.num_classes or len(set(wnids)) != len(wnids):
        raise DataError(f"wnids.txt names {len(set(wnids))} classes, not {facts.num_classes}")
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    words = dict(line.split("\t", 1) for line in texts["words.txt"].splitlines() if "\t" in line)
    image_names = [name for names, _ in batches for name in names]
    per_class = facts.train_count // facts.num_classes
    train_rows = _train_rows(image_names, label_of, per_class)
    test_rows, test_labels = _test_rows(image_names, label_of, texts["val/val_annotations.txt"], facts.test_count)

    train_images = np.empty((facts.train_count, 3, facts.image_size, facts.image_size), np.uint8)
    test_images = np.empty((facts.test_count, 3, facts.image_size, facts.image_size), np.uint8)
    done = 0
    batches.reverse()
    while batches:  # free each batch once it is copied: together they are as large as the result
        names, images = batches.pop()
        for name, image in zip(names, images.result(), strict=True):
            if name in train_rows:
                train_images[train_rows[name]] = image
            else:
                test_images[test_rows[name]] = image
        done += len(names)
        progress(done + _decoded(batches), facts.train_count + facts.test_count)
    classes = tuple(words.get(wnid, wnid) for wnid in wnids)
    train_labels = np.arange(facts.num_classes).repeat(per_class)
    return DecodedImages(train_images, train_labels, test_images, test_labels, classes)
