"""A run small enough to be trained dozens of times in a test: 84 random images, ShuffleNetV2 0.5x at 32x32."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from repro.data import Dataset
from repro.experiment.config import load_table
from repro.experiment.schema import Run

# cuBLAS looks at it once a process, at its first call: in whichever test that is.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

RECIPE = ("recipe.epochs=3", "recipe.batch_size=32", "recipe.decay_epochs=[2]", "recipe.warmup_epochs=1")


@pytest.fixture
def small_dataset() -> Dataset:
    random = torch.Generator().manual_seed(7)

    def images(count: int) -> torch.Tensor:
        return torch.randint(256, (count, 3, 32, 32), generator=random, dtype=torch.uint8)

    return Dataset(
        name="digits",
        train_images=images(84),  # two batches of 32 and a short one of 20
        train_labels=torch.randint(10, (84,), generator=random),
        test_images=images(40),
        test_labels=torch.randint(10, (40,), generator=random),
        mean=(0.5, 0.5, 0.5),
        std=(0.29, 0.29, 0.29),
        image_size=32,
        classes=tuple(str(digit) for digit in range(10)),
    )


@pytest.fixture
def loaded(small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Training loads the small data set, whatever it asks for."""
    monkeypatch.setattr("repro.engine.training.load_dataset", lambda name, root, **_named: small_dataset)
    return small_dataset


@pytest.fixture
def make_run() -> Callable[..., Run]:
    def make(*overrides: str, column: str = "bias", loss: str | None = None, seed: int = 0) -> Run:
        recipe = [item for item in RECIPE if "recipe.schedule=cosine" not in overrides or "decay_epochs" not in item]
        table = load_table(Path(__file__).parents[2] / "experiments" / "demo.yaml", (*recipe, *overrides))
        chosen = next(candidate for candidate in table.columns if candidate.id == column)
        if loss is not None:
            chosen = chosen.model_copy(update={"loss": loss})
        return Run(cell=table.cell(table.rows[0], chosen), seed=seed)

    return make


@pytest.fixture(autouse=True)
def _deterministic_only_where_asked() -> Iterator[None]:
    """A test that declares deterministic algorithms leaves none to the next."""
    yield
    torch.use_deterministic_algorithms(False)
