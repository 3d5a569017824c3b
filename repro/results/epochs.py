"""The epochs of a run: each as an object with named figures, all of them as bare numbers."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import attrgetter
from typing import Annotated, Any, overload

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from repro.results.record_fields import AtLeastOne, Number, Percent, Positive, Seconds, StrictRecord


class EpochRecord(StrictRecord):
    """One epoch: losses are batch-weighted means, accuracies in percent, weights are the z of the loss.

    ``feature_correlation`` is between the mean and the variance of each sample's last features, over the training
    images of the epoch; None if the loss measures neither, and in records older than it.
    """

    epoch: AtLeastOne
    learning_rate: Number
    train_loss: Number
    train_top1_percent: Percent
    train_top5_percent: Percent
    weight_mean: Number
    weight_std: Positive
    weight_min: Number
    weight_max: Number
    test_loss: Number
    test_top1_percent: Percent
    test_top5_percent: Percent
    train_seconds: Seconds
    test_seconds: Seconds
    images_per_second: Positive
    feature_correlation: Annotated[float, Field(ge=-1, le=1)] | None = None


_EPOCH_KEYS = tuple(EpochRecord.model_fields)


class Epochs(Sequence[EpochRecord]):
    """The epochs of a run, kept as bare numbers: as objects, those of 2,000 records take 0.7 GB."""

    def __init__(self, epochs: Iterable[EpochRecord] = ()) -> None:
        values = chain.from_iterable(map(attrgetter(*_EPOCH_KEYS), epochs))
        self._numbers = array("d", (math.nan if value is None else value for value in values))

    def column(self, key: str) -> array[float]:
        """The values of ``key`` by epoch."""
        return self._numbers[_EPOCH_KEYS.index(key) :: len(_EPOCH_KEYS)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Each epoch as plain data."""
        for start in range(0, len(self._numbers), len(_EPOCH_KEYS)):
            row: dict[str, Any] = dict(zip(_EPOCH_KEYS, self._numbers[start : start + len(_EPOCH_KEYS)], strict=True))
            row["epoch"] = int(row["epoch"])
            row["feature_correlation"] = None if math.isnan(row["feature_correlation"]) else row["feature_correlation"]
            yield row

    def __len__(self) -> int:
        return len(self._numbers) // len(_EPOCH_KEYS)

    def __iter__(self) -> Iterator[EpochRecord]:
        return (EpochRecord.model_construct(**row) for row in self.rows())

    @overload
    def __getitem__(self, index: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[EpochRecord, ...]: ...
    def __getitem__(self, index: int | slice) -> EpochRecord | tuple[EpochRecord, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Epochs) and self._numbers.tobytes() == other._numbers.tobytes()

    def __hash__(self) -> int:
        return hash(self._numbers.tobytes())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        objects = handler.generate_schema(tuple[EpochRecord, ...])
        as_objects = core_schema.wrap_serializer_function_ser_schema(
            lambda epochs, write: write(tuple(epochs)), schema=objects
        )
        return core_schema.no_info_after_validator_function(cls, objects, serialization=as_objects)
