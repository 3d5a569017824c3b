"""A data set as torch tensors, whole or the first classes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from repro.data.decoded import PixelSums
from repro.data.node_copy import open_on_node
from repro.data.prepare import Report, decoder_of, open_decoded, silent
from repro.errors import DataError
from repro.experiment.catalog import DatasetFacts, dataset_facts, default_root
from repro.experiment.schema import DatasetChoice


@dataclass(frozen=True)
class Dataset:
    """Images and labels of a data set, or of its first classes.

    train_images, test_images: uint8 (N, 3, H, W), red, green, blue. train_labels, test_labels: int64 (N,), indices of
    ``classes``. mean, std: of the training images, one value per channel, for pixels in [0, 1]; std is 1 for a channel
    that is the same everywhere, to divide by. For the records, source: what the images were decoded from; fingerprint:
    SHA-256 over the sums of the training pixels by class. For resuming, content: SHA-256 of all pixels and labels of
    the whole data set in their order; empty if not known.
    """

    name: str
    image_size: int
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str = ""
    fingerprint: str = ""
    content: str = ""

    @property
    def num_classes(self) -> int:
        """Number of classes, and so of logits."""
        return len(self.classes)


def load_dataset(
    name: str | DatasetFacts,
    root: str | Path | None = None,
    classes: int | None = None,
    *,
    report: Report = silent,
    node_data: Path | None = None,
    say: Callable[[str], None] = print,
) -> Dataset:
    """Loads the data set ``name`` of the catalog, or the one that its facts describe.

    root: the data folder; None means $BIASREPRO_DATA or ./data. classes: load only this many, the first of the sorted
    list. report: gets the progress if an archive must be decoded first. node_data: a folder on this machine for a
    copy of the decoded images, opened instead of those in ``root``; ``say`` gets a message if none can be made.

    The whole of a decoded data set is a copy-on-write map of its file, verified just now and shared with other
    processes; a subset is copied into memory. Raises DataError if the data are missing or damaged.
    """
    facts = dataset_facts(name) if isinstance(name, str) else name
    if classes is not None and not 2 <= classes <= facts.num_classes:
        raise DataError(f"{facts.title} has {facts.num_classes} classes: a subset has 2 to {facts.num_classes}")
    if facts.included:
        images = decoder_of(facts)(facts)
        images.check(facts)
        sums = PixelSums.of(images.train_images, images.train_labels, facts.num_classes)
        source, content = facts.source, ""
    else:
        folder = Path(root) if root is not None else default_root()
        if node_data is None:
            cached = open_decoded(facts, folder, report)
        else:
            cached = open_on_node(facts, folder, node_data, report, say)
        images, sums, source, content = cached.images, cached.pixel_sums, cached.source, cached.content
    mean, std = sums.mean_and_std(classes or facts.num_classes)
    train_images, train_labels = torch.from_numpy(images.train_images), torch.from_numpy(images.train_labels)
    test_images, test_labels = torch.from_numpy(images.test_images), torch.from_numpy(images.test_labels)
    if classes is not None:
        train_rows, test_rows = train_labels < classes, test_labels < classes
        train_images, train_labels = train_images[train_rows], train_labels[train_rows]
        test_images, test_labels = test_images[test_rows], test_labels[test_rows]
    return Dataset(
        name=facts.name,
        image_size=facts.image_size,
        classes=images.classes[:classes],
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
        mean=mean,
        std=tuple(value or 1.0 for value in std),  # a channel without variation becomes 0; divided by 0 it is NaN
        source=source,
        fingerprint=sums.fingerprint(classes or facts.num_classes),
        content=content,
    )


def random_dataset(choice: DatasetChoice, count: int, tested: int = 1) -> Dataset:
    """Random images of the shape and classes of a data set, for timing; the first ``tested`` are its test images."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 3, choice.side_pixels, choice.side_pixels)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, choice.num_classes, (count,), generator=generator)
    return Dataset(
        name=choice.name,
        image_size=choice.side_pixels,
        classes=tuple(str(index) for index in range(choice.num_classes)),
        train_images=images,
        train_labels=labels,
        test_images=images[:tested],
        test_labels=labels[:tested],
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
        source="random",
    )
