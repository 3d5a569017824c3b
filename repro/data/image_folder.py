"""A user's folder of images, decoded: every image as RGB of one size, square.

What happens to an image: it is turned as its EXIF orientation says; greyscale, palette, CMYK and transparent images
become RGB as Pillow converts them (transparency is dropped, 16-bit greyscale is scaled to 8 bits); of an animation the
first image is read. Then it is resized so that its shorter side has the size, bilinear with antialiasing, and its
centre is cut out: torchvision's ``Resize(size)`` and ``CenterCrop(size)`` on a PIL image, pixel for pixel.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from repro.data.decoded import DecodedImages, Images
from repro.data.image_files import BATCH_IMAGES, decode_into
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts
from repro.experiment.folder_listing import FolderListing, list_folder
from repro.wording import counted

_MOST_NAMED = 10
_BATCH_PIXELS = BATCH_IMAGES * 64 * 64


class UnreadableImages(DataError):
    """Files that Pillow cannot read as images; ``files`` has each with the reason."""

    def __init__(self, files: list[str]) -> None:
        super().__init__("; ".join(files))
        self.files = files

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        return UnreadableImages, (self.files,)  # it comes from another process


def decode_folder(facts: DatasetFacts, progress: Callable[[int, int], None], *, scratch: Path) -> DecodedImages:
    """Decodes all images of the folder of ``facts``, in one process per core.

    They are in a temporary file in the folder ``scratch``, since they may be larger than the memory. ``progress`` is
    called with the number of images done and their total. Raises DataError that names the files that cannot be read
    as images.
    """
    assert facts.folder is not None
    listing, size = list_folder(facts.folder), facts.image_size
    count = facts.train_count + facts.test_count
    with (scratch / f"decoding.{listing.key[:8]}.tmp").open("w+b") as file:
        Path(file.name).unlink()  # it takes space until it is closed, whatever ends this process
        images: Images = np.memmap(file, np.uint8, "w+", shape=(count, 3, size, size))
    failures: list[DataError] = []
    decode_into(images, _batches(listing, size), decode_square_centre, progress, failures)
    if failures:
        raise _unreadable(listing.folder, failures)
    labels = [np.repeat(np.arange(facts.num_classes), split.counts) for split in (listing.train, listing.test)]
    first = facts.train_count
    return DecodedImages(images[:first], labels[0], images[first:], labels[1], listing.classes)


def _batches(listing: FolderListing, size: int) -> Iterator[tuple[range, tuple[Path, list[str], int]]]:
    """The files in batches: their rows, and the arguments of ``decode_square_centre``."""
    files = list(chain.from_iterable(chain(listing.train.files, listing.test.files)))
    step = max(1, min(BATCH_IMAGES, _BATCH_PIXELS // size**2))
    for first in range(0, len(files), step):
        batch = files[first : first + step]
        yield range(first, first + len(batch)), (listing.folder, batch, size)


def decode_square_centre(folder: Path, names: list[str], size: int) -> Images:
    """Decodes files below ``folder`` to uint8 (N, 3, size, size). Raises UnreadableImages that names all bad ones."""
    images = np.empty((len(names), 3, size, size), np.uint8)
    unreadable = []
    for i, name in enumerate(names):
        try:
            images[i] = square_centre(folder / name, size).transpose(2, 0, 1)
        except Exception as error:  # Pillow's decoders raise anything on damaged files
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
            unreadable.append(f"{name} ({reason or type(error).__name__})")
    if unreadable:
        raise UnreadableImages(unreadable)
    return images


def square_centre(path: Path, size: int) -> Images:
    """The centre of an image at ``size``, uint8 (size, size, 3)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata, and of sizes that are large and not yet refused
        with Image.open(path) as opened:
            picture = _as_rgb(ImageOps.exif_transpose(opened))
    width, height = picture.size
    shorter = min(width, height)
    if shorter != size:
        longer = int(size * max(width, height) / shorter)
        picture = picture.resize((size, longer) if width <= height else (longer, size), Image.Resampling.BILINEAR)
    left, top = round((picture.width - size) / 2), round((picture.height - size) / 2)
    return np.asarray(picture.crop((left, top, left + size, top + size)))


def _as_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode in ("I", "F"):
        raise ValueError("32 bits for each pixel: save it with 8")
    if picture.mode.startswith("I;16"):  # Pillow would cut off everything above 255
        return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def _unreadable(source: Path, failures: list[DataError]) -> DataError:
    others = [failure for failure in failures if not isinstance(failure, UnreadableImages)]
    if others:
        return others[0]
    files = [file for failure in failures if isinstance(failure, UnreadableImages) for file in failure.files]
    more = f"; and {len(files) - _MOST_NAMED:,} more" if len(files) > _MOST_NAMED else ""
    what = f"{counted(len(files), 'file')} cannot be read as images: {'; '.join(files[:_MOST_NAMED])}{more}"
    return DataError(what, where=str(source), hint="Repair these files, or move them out of the folder.")
