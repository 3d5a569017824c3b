"""The images on the device: of any size, and refused before training where a GPU has no room for them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from repro.data import Dataset
from repro.engine.batches import Feed, require_gpu_memory
from repro.errors import NoRoomOnGpu
from repro.experiment.schema import Recipe


@pytest.mark.parametrize("size", [96, 224])
def test_batches_of_larger_images(small_dataset: Dataset, size: int) -> None:
    images = torch.randint(256, (10, 3, size, size), dtype=torch.uint8)
    labels = small_dataset.train_labels[:10]
    larger = replace(small_dataset, image_size=size, train_images=images, train_labels=labels)
    feed = Feed(
        larger, Recipe(epochs=1, learning_rate=0.1, batch_size=4), 0, torch.device("cpu"), torch.contiguous_format
    )
    feed.begin_epoch(1)
    shapes = [tuple(feed.batch(step)[0].shape) for step in range(feed.steps)]
    assert shapes == [(4, 3, size, size), (4, 3, size, size), (2, 3, size, size)]
    assert feed.prepare(feed.batch(0)[0]).dtype == torch.float32


def test_images_larger_than_the_gpu_s_free_memory_are_refused(
    small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = small_dataset.train_images.nbytes + small_dataset.test_images.nbytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed, 10 * needed))
    require_gpu_memory(small_dataset, torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (needed - 1, 10 * needed))
    with pytest.raises(NoRoomOnGpu, match=r"the images take 380\.9 kB on the GPU, which has 380\.9 kB free") as refused:
        require_gpu_memory(small_dataset, torch.device("cuda"))
    assert "smaller image_size" in str(refused.value.hint)
    require_gpu_memory(small_dataset, torch.device("cpu"))
