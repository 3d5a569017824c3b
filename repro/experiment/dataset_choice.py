"""Which images a table trains on."""

from __future__ import annotations

from collections import ChainMap
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from repro.errors import ConfigError, DataError
from repro.experiment.catalog import DATASETS, DatasetFacts, dataset_facts
from repro.experiment.fields import Strict, Title, known, offered
from repro.experiment.folder_listing import FOLDER, folder_facts, known_fingerprint

PLACE_NOT_RECORDED = "a record does not say where its folder of images is"
SIZES = range(32, 225, 32)  # pixels; every network of the catalog takes these
_NAMES: ChainMap[str, Any] = ChainMap({FOLDER: None}, DATASETS)  # as long as DATASETS grows, so does it
DatasetName = Annotated[str, AfterValidator(known("data set", _NAMES)), offered(_NAMES)]


class DatasetChoice(Strict):
    """A data set, and how many of its classes (the first of the sorted list; None for all).

    A ``folder`` of the user's own images has a ``path`` (absolute once a file is read; in no hash) and an
    ``image_size`` in pixels, to which its images are resized.
    """

    name: Annotated[
        DatasetName,
        Field(description="A built-in data set, 'folder' for your own images, or PLUGIN/NAME of a plugin."),
    ]
    classes: Annotated[
        Annotated[int, Field(ge=2, le=100_000)] | None,
        Field(description="Only this many classes, the first of the sorted list; by default all."),
    ] = None
    path: Annotated[
        Title | None,
        Field(description="For 'folder': where its images are, relative to the folder of this file."),
    ] = None
    image_size: Annotated[
        Annotated[int, Field(ge=SIZES[0], le=SIZES[-1], multiple_of=SIZES.step)] | None,
        Field(description="For 'folder': height and width in pixels, to which the images are resized."),
    ] = None

    @property
    def facts(self) -> DatasetFacts | None:
        """What is known of the data set; None if it is of a plugin that is not loaded, or a folder that is not here."""
        try:
            return self.known_facts
        except (ConfigError, DataError):
            return None

    @property
    def known_facts(self) -> DatasetFacts:
        """What is known of the data set. Raises ConfigError or DataError if it is not known here."""
        if self.name != FOLDER:
            return dataset_facts(self.name)
        if self.path is None or self.image_size is None:
            hint = "Its table says where it is: name a cell of the table, such as mine.yaml/row/column."
            raise ConfigError(PLACE_NOT_RECORDED, hint=hint)
        return folder_facts(Path(self.path), self.image_size)

    @property
    def num_classes(self) -> int:
        """The number of classes trained on. Raises as ``known_facts``."""
        return self.classes or self.known_facts.num_classes

    @property
    def train_count(self) -> int | None:
        """The number of training images, None if the data set is not known here."""
        if (facts := self.facts) is None:
            return None
        if facts.train_counts:
            return sum(facts.train_counts[: self.classes])
        return facts.train_count * self.num_classes // facts.num_classes

    @property
    def side_pixels(self) -> int:
        """Height and width of the images in pixels. Raises as ``known_facts``."""
        return self.image_size or self.known_facts.image_size

    @property
    def unchecked(self) -> bool:
        """Whether a folder is here whose fingerprint is not known: its records may be of other images."""
        return None in self.sources.values() and self.facts is not None

    @property
    def sources(self) -> dict[str, str | None]:
        """The fingerprint of a folder's pixels and labels, None if not known here; nothing for other data sets."""
        if self.name != FOLDER or self.path is None or self.image_size is None:
            return {}
        return {"images": known_fingerprint(Path(self.path), self.image_size)}
