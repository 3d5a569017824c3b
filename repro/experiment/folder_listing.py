"""A user's folder of images: which classes and files it has, and whether that is a data set. Reads no image.

The layout is that of torchvision's ``ImageFolder``: ``train/<class>/...`` and ``test/<class>/...`` (``val/`` where
there is no ``test/``), with files also in folders below a class. Hidden files are left out, as are files beside the
class folders. Classes are in the order of their names, images in the order of their paths.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts, default_root

FOLDER = "folder"
FINGERPRINT_FILE = "fingerprint"
SPLITS = "It needs train/ and test/ (or val/), each with one folder of images for every class."
# Of other systems, in any folder that was once opened there.
_NEVER_IMAGES = {"thumbs.db", "desktop.ini"}
_MOST_NAMED = 5


@dataclass(frozen=True)
class Split:
    """The files of a split, by class in the order of the classes; paths are relative to the data set's folder."""

    name: str
    files: tuple[tuple[str, ...], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """The number of images of each class."""
        return tuple(len(files) for files in self.files)


@dataclass(frozen=True)
class FolderListing:
    """The images of a folder. ``key`` is a SHA-256 over names, sizes and times: it changes when a file does."""

    folder: Path
    classes: tuple[str, ...]
    train: Split
    test: Split
    key: str


@lru_cache(maxsize=16)
def list_folder(folder: Path) -> FolderListing:
    """The images in ``folder``, listed once in a process. Raises DataError if they are no data set."""
    try:
        if not folder.is_dir():
            what = "not a folder" if folder.exists() else "no such folder"
            raise DataError(what, where=str(folder), hint="dataset.path is relative to the folder of the YAML file.")
        return _listed(folder)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=str(error.filename or folder)) from error


def folder_facts(folder: Path, image_size: int) -> DatasetFacts:
    """The images in ``folder`` at a size as a data set. Raises DataError if they are none."""
    listing = list_folder(folder)
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", folder.name)[:40]
    return DatasetFacts(
        name=FOLDER,
        title=f"the folder {folder.name}",
        num_classes=len(listing.classes),
        image_size=image_size,
        train_count=sum(listing.train.counts),
        test_count=sum(listing.test.counts),
        source=f"{folder}: {listing.train.name}/ and {listing.test.name}/",
        decoder="repro.data.image_folder:decode_folder",
        folder=folder,
        cache_folder=f"folder/{name}-{listing.key[:16]}-{image_size}",
        train_counts=listing.train.counts,
        test_counts=listing.test.counts,
    )


_known_fingerprints: dict[tuple[Path, int], str] = {}


def remember_fingerprint(folder: Path, image_size: int, fingerprint: str) -> None:
    """Make the fingerprint of decoded images known in this process."""
    _known_fingerprints[folder, image_size] = fingerprint


def known_fingerprint(folder: Path, image_size: int) -> str | None:
    """The SHA-256 of the pixels and labels of a folder at a size, in their order; decodes nothing.

    None if the folder is not here, or not decoded in this process or in the default data folder.
    """
    if (folder, image_size) not in _known_fingerprints:
        with suppress(DataError, OSError, UnicodeDecodeError):
            file = default_root() / folder_facts(folder, image_size).cache_folder / FINGERPRINT_FILE
            if re.fullmatch("[0-9a-f]{64}", text := file.read_text("ascii").strip()):
                remember_fingerprint(folder, image_size, text)
    return _known_fingerprints.get((folder, image_size))


def _listed(folder: Path) -> FolderListing:
    held_out = next((name for name in ("test", "val") if (folder / name).is_dir()), None)
    for split, missing in (("train", not (folder / "train").is_dir()), ("test", held_out is None)):
        if missing:
            raise DataError(f"there is no folder {split}/", where=str(folder), hint=SPLITS)
    assert held_out is not None
    classes = _class_folders(folder / "train")
    _require_classes(folder, classes, held_out)
    digest = hashlib.sha256()
    splits: list[Split] = []
    for name in ("train", held_out):
        files = tuple(tuple(_files_of(folder, f"{name}/{label}", digest)) for label in classes)
        if empty := [label for label, found in zip(classes, files, strict=True) if not found]:
            hint = "Add images to every class, or remove its folders."
            raise DataError(f"no image in {_named(empty)}", where=str(folder / name), hint=hint)
        splits.append(Split(name, files))
    train, test = splits
    return FolderListing(folder, classes, train, test, digest.hexdigest())


def _class_folders(split: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in _entries(split) if entry.is_dir() and not entry.name.startswith(".")))


def _require_classes(folder: Path, classes: Sequence[str], held_out: str) -> None:
    """Raises DataError unless training and test images have the same classes, two or more."""
    tested = _class_folders(folder / held_out)
    for here, others, split, other in ((classes, tested, "train", held_out), (tested, classes, held_out, "train")):
        if alone := [name for name in here if name not in others]:
            hint = "Every class needs training and test images, in folders of the same name."
            raise DataError(f"{_named(alone)} in {split}/ but not in {other}/", where=str(folder), hint=hint)
    if len(classes) < 2:
        found = f"one class, {classes[0]}" if classes else "no class"
        raise DataError(f"{found}: at least two are needed", where=str(folder / "train"), hint=SPLITS)


def _files_of(folder: Path, below: str, digest: hashlib._Hash) -> Iterator[str]:
    """The files of a class in the order of their paths; puts names, sizes and times into ``digest``."""
    above = tuple(_identity(place) for place in (folder, (folder / below).parent))
    found = sorted(_walk(folder / below, folder, above))
    for name in found:
        about = (folder / name).stat()
        digest.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return iter(found)


def _walk(place: Path, top: Path, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
    if _identity(place) in above:
        raise DataError("a link to a folder above it: it would never end", where=str(place), hint="Remove this link.")
    above = (*above, _identity(place))
    for entry in _entries(place):
        if entry.name.startswith(".") or entry.name.lower() in _NEVER_IMAGES:
            continue
        path = Path(entry.path)
        if entry.is_dir():
            yield from _walk(path, top, above)
        elif entry.is_file():
            yield path.relative_to(top).as_posix()
        else:
            what = "a link to nothing" if entry.is_symlink() else "neither a file nor a folder"
            raise DataError(what, where=str(path), hint="Remove it.")


def _entries(place: Path) -> list[os.DirEntry[str]]:
    with os.scandir(place) as entries:
        return list(entries)


def _identity(place: Path) -> tuple[int, int]:
    about = place.stat()
    return about.st_dev, about.st_ino


def _named(classes: Sequence[str]) -> str:
    kind = "the class" if len(classes) == 1 else f"{len(classes)} classes:"
    more = ", ..." if len(classes) > _MOST_NAMED else ""
    return f"{kind} {', '.join(classes[:_MOST_NAMED])}{more}"
