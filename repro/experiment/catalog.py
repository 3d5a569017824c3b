"""What is known about each data set before a byte of it is read: sizes, addresses, checksums, folders."""

from __future__ import annotations

import difflib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from repro.errors import DataError


@dataclass(frozen=True)
class Archive:
    """One published file that holds a whole data set.

    ``md5`` and ``size_bytes`` are those of the published file; ``url`` is None for a form that is read where it
    is found and never downloaded; ``md5`` is then None where no published checksum exists.
    """

    file_name: str
    url: str | None = None
    md5: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class DatasetFacts:
    """The fixed facts of a data set: ``image_size`` in pixels (square), counts in images.

    ``archives`` lists the forms it can be read from, the downloaded one first; a data set without archives is
    bundled with a package that is installed anyway.
    """

    name: str
    title: str
    num_classes: int
    image_size: int
    train_count: int
    test_count: int
    source: str
    archives: tuple[Archive, ...] = ()

    @property
    def download(self) -> Archive | None:
        """The archive that ``biasrepro data fetch`` gets, or None where nothing needs to be downloaded."""
        return next((archive for archive in self.archives if archive.url is not None), None)

    @property
    def decoded_bytes(self) -> int:
        """Size of all images as uint8 pixels with their int64 labels, in bytes."""
        return (self.train_count + self.test_count) * (3 * self.image_size**2 + 8)


DATASETS: dict[str, DatasetFacts] = {
    facts.name: facts
    for facts in (
        DatasetFacts(
            name="cifar100",
            title="CIFAR-100",
            num_classes=100,
            image_size=32,
            train_count=50_000,
            test_count=10_000,
            source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            archives=(
                Archive(
                    "cifar-100-binary.tar.gz",
                    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                    md5="03b5dce01913d631647c71ecec9e9cb8",
                    size_bytes=168_513_733,
                ),
                Archive("cifar-100-python.tar.gz", md5="eb9058c3a382ffc7106e4002c42a8d85", size_bytes=169_001_437),
            ),
        ),
        DatasetFacts(
            name="tiny_imagenet",
            title="Tiny ImageNet",
            num_classes=200,
            image_size=64,
            train_count=100_000,
            test_count=10_000,
            source="Stanford CS231n; a subset of ILSVRC 2014. Its validation images are the test set here",
            archives=(
                Archive(
                    "tiny-imagenet-200.zip",
                    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                    md5="90528d7ca1a48142e341f4ef8d21d0de",
                    size_bytes=248_100_043,
                ),
                Archive("tiny-imagenet-200.tar.xz"),
                Archive("tiny-imagenet-200"),
            ),
        ),
        DatasetFacts(
            name="digits",
            title="scikit-learn digits",
            num_classes=10,
            image_size=32,
            train_count=1_442,
            test_count=355,
            source="UCI Optical Recognition of Handwritten Digits, test part; bundled with scikit-learn",
        ),
    )
}


def dataset_facts(name: str) -> DatasetFacts:
    """Returns the facts of a data set, or raises DataError with the nearest valid name."""
    if name in DATASETS:
        return DATASETS[name]
    near = difflib.get_close_matches(name, DATASETS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise DataError(f"there is no data set {name!r}", hint=f"{hint}known: {', '.join(DATASETS)}")


def default_root() -> Path:
    """The folder for data where none is named: $BIASREPRO_DATA, or ``data`` in the working directory."""
    return Path(os.environ.get("BIASREPRO_DATA") or "data")


def fetch_command(facts: DatasetFacts, root: Path) -> str:
    """The command that brings a data set into ``root``, ready to be pasted."""
    return f"biasrepro data fetch {facts.name} --root {shlex.quote(str(root))}"


def readable_size(size_bytes: int) -> str:
    """Bytes in decimal units, as downloads are announced: 168.5 MB."""
    return f"{size_bytes / 1e9:.2f} GB" if size_bytes >= 1_000_000_000 else f"{size_bytes / 1e6:.1f} MB"
