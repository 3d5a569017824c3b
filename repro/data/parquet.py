"""Data sets as the Hugging Face hub has them: Parquet files of encoded images and labels, one or more for each split.

The split is in a file's name: ``train-00000-of-00001.parquet``, and ``test-...``, ``valid-...`` or ``validation-...``
for the test images. The image is a struct with its ``bytes`` in a column ``img`` or ``image``, the label a whole number
in ``fine_label`` or ``label``. The images keep the order of the files. What comes out is accepted only if
``published_content`` knows it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repro.data.decoded import DecodedImages
from repro.data.image_files import BATCH_IMAGES, decode_into, decode_square
from repro.data.published_content import PUBLISHED, difference_from_published
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts

_SPLIT = re.compile(r"(train|test|val(?:id(?:ation)?)?)(?![a-z]).*\.parquet", re.IGNORECASE)
_IMAGES, _LABELS = ("img", "image"), ("fine_label", "label")
_FORMATS = ("PNG", "JPEG")
_NEITHER_SPLIT = "Name the files as the hub does: train-00000-of-00001.parquet, and test-... or valid-... ."


@dataclass(frozen=True)
class _Part:
    """An opened file, and the names of its two columns."""

    path: Path
    file: Any
    image_column: str
    label_column: str

    @property
    def rows(self) -> int:
        return int(self.file.metadata.num_rows)


def parquet_files(source: Path) -> tuple[Path, ...]:
    """The Parquet files that a path means: itself, or those in the folder; none if it is something else."""
    if source.is_dir():
        return tuple(sorted(source.glob("*.parquet")))
    return (source,) if source.suffix.lower() == ".parquet" else ()


def decode_parquet(
    files: Sequence[Path], facts: DatasetFacts, progress: Callable[[int, int], None] = lambda done, total: None
) -> DecodedImages:
    """Reads, decodes and verifies all images of a data set.

    ``progress`` is called with the number of images decoded so far and their total. Raises DataError that names the
    first file or image that is missing, damaged or another one, and if pyarrow is not installed.
    """
    if facts.name not in PUBLISHED:
        known = ", ".join(PUBLISHED)
        raise DataError(f"{facts.title} is not read from Parquet", hint=f"These data sets are: {known}.")
    splits = _opened_splits(files, facts)
    images = np.empty((facts.train_count + facts.test_count, 3, facts.image_size, facts.image_size), np.uint8)
    labels = np.empty(len(images), np.int64)
    decode_into(images, _batches(splits, labels, facts.image_size), decode_square, progress)
    first = facts.train_count
    decoded = DecodedImages(images[:first], labels[:first], images[first:], labels[first:], _classes(splits, facts))
    decoded.check(facts)
    if difference := difference_from_published(facts.name, decoded):
        raise DataError(
            f"these are not the published images of {facts.title}: {difference}",
            where=str(files[0]),
            hint="Images that were encoded again have other pixels. Get the published archive, or other files.",
        )
    return decoded


def _opened_splits(files: Sequence[Path], facts: DatasetFacts) -> list[_Part]:
    """The training files, then the test files, each in the order of their names; all images are there."""
    by_split: dict[bool, list[_Part]] = {True: [], False: []}
    names: dict[str, Path] = {}
    for path in sorted(files, key=lambda path: path.name):
        match = _SPLIT.fullmatch(path.name)
        if match is None:
            raise DataError("neither training nor test images, by its name", where=str(path), hint=_NEITHER_SPLIT)
        split = match[1].lower()
        names.setdefault(split, path)
        by_split[split == "train"].append(_opened(path))
    if len(held_out := sorted(names.keys() - {"train"})) > 1:
        given = " and ".join(names[split].name for split in held_out)
        raise DataError(f"{given} are two test sets", hint="Give the files of one of them.")
    for is_train, count in ((True, facts.train_count), (False, facts.test_count)):
        kind, parts = "training" if is_train else "test", by_split[is_train]
        found = sum(part.rows for part in parts)
        if not parts:
            raise DataError(f"no file of {kind} images", where=str(files[0]), hint=_NEITHER_SPLIT)
        if found != count:
            what = f"{found:,} {kind} images, but {facts.title} has {count:,}"
            raise DataError(what, where=str(parts[0].path), hint="Give every file of the split, and no other.")
    return by_split[True] + by_split[False]


def _opened(path: Path) -> _Part:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise DataError(
            "Parquet needs pyarrow, which is not installed", hint="pip install 'biasrepro[parquet]'"
        ) from error
    try:
        file = parquet.ParquetFile(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"not a whole Parquet file ({error})", where=str(path), hint="Get it again.") from error
    columns = file.schema_arrow.names
    image_column = next((name for name in _IMAGES if name in columns), None)
    label_column = next((name for name in _LABELS if name in columns), None)
    if image_column is None or label_column is None:
        kind, wanted = ("images", _IMAGES) if image_column is None else ("labels", _LABELS)
        raise DataError(
            f"no column of {kind}: it has {', '.join(columns)}",
            where=str(path),
            hint=f"Expected {' or '.join(wanted)}.",
        )
    return _Part(path, file, image_column, label_column)


def _batches(
    parts: Sequence[_Part], labels: np.ndarray[tuple[int], np.dtype[np.int64]], size: int
) -> Iterator[tuple[range, tuple[list[str], list[bytes], int, tuple[str, ...]]]]:
    """The images in batches: their rows, and the arguments of ``decode_square``. Fills ``labels`` meanwhile."""
    from pyarrow import ArrowException

    row = 0
    for part in parts:
        of_file = row
        try:
            for batch in part.file.iter_batches(BATCH_IMAGES, columns=[part.image_column, part.label_column]):
                names = [f"row {row - of_file + i} of {part.path.name}" for i in range(batch.num_rows)]
                contents = [
                    _bytes_of(cell, name)
                    for cell, name in zip(batch[part.image_column].to_pylist(), names, strict=True)
                ]
                labels[row : row + batch.num_rows] = [
                    _label_of(cell, name)
                    for cell, name in zip(batch[part.label_column].to_pylist(), names, strict=True)
                ]
                yield range(row, row + batch.num_rows), (names, contents, size, _FORMATS)
                row += batch.num_rows
        except (ArrowException, OSError) as error:
            raise DataError(f"damaged ({error})", where=str(part.path), hint="Get the file again.") from error


def _bytes_of(cell: Any, name: str) -> bytes:
    """The encoded image in a cell: a struct with ``bytes`` (and a ``path``), or the bytes alone."""
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise DataError(f"{name} has no bytes of an image", hint="The file must contain the images, not only paths.")
    return content


def _label_of(cell: Any, name: str) -> int:
    if not isinstance(cell, int) or not 0 <= cell < 1 << 31:
        raise DataError(f"{name} has no label (a whole number): {cell!r}")
    return cell


def _classes(parts: Sequence[_Part], facts: DatasetFacts) -> tuple[str, ...]:
    """The class names that the hub writes into a file's schema, by label; numbers if there are none.

    Raises DataError if they are not in alphabetical order, as those of the archives are: the labels would differ.
    """
    metadata = parts[0].file.schema_arrow.metadata or {}
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        names = tuple(map(str, features[parts[0].label_column]["names"]))
    except (KeyError, TypeError, ValueError):
        return tuple(str(label) for label in range(facts.num_classes))
    if list(names) != sorted(names):
        raise DataError("its classes are not in alphabetical order", where=str(parts[0].path))
    return names
