"""Data sets as uint8 tensors: found or fetched, decoded once, verified whenever they are opened.

``DATASETS`` and everything the command line shows come without torch; ``Dataset`` and ``load_dataset``, which
return tensors, import it on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repro.experiment.catalog import DATASETS, DatasetFacts, default_root

if TYPE_CHECKING:
    from repro.data.dataset import Dataset, load_dataset

__all__ = ["DATASETS", "Dataset", "DatasetFacts", "default_root", "load_dataset"]


def __getattr__(name: str) -> Any:
    if name in ("Dataset", "load_dataset"):
        from repro.data import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
