"""A data set on the device, and the batches of an epoch."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.data import Dataset
from repro.data.augment import augment_batch, draw_augmentation, gather_plan, normalize
from repro.engine.randomness import generator
from repro.errors import ConfigError, NoRoomOnGpu
from repro.experiment.schema import Recipe
from repro.wording import readable_size

# On a GPU augmenting costs the launch of some twenty small kernels, for one batch or for many. Of images larger than
# this, fewer batches: their indices alone would take gigabytes.
BATCHES_AUGMENTED_AT_ONCE = {"cpu": 1, "cuda": 16}
_SIZE_OF_MANY_PIXELS = 64


def require_gpu_memory(dataset: Dataset, device: torch.device) -> None:
    """Raise NoRoomOnGpu if the images, which are all put on the GPU, take more memory than is free there."""
    if device.type != "cuda":
        return
    needed = dataset.train_images.nbytes + dataset.test_images.nbytes
    free, _total = torch.cuda.mem_get_info(device)
    if needed > free:
        raise NoRoomOnGpu(
            f"the images take {readable_size(needed)} on the GPU, which has {readable_size(free)} free",
            hint="All of them are put there. Use a smaller image_size, fewer classes (dataset.classes), fewer runs on "
            "this GPU (--jobs-per-gpu 1), or --device cpu.",
        )


class Feed:
    """Training and test images on ``device`` as uint8; gives the batches of an epoch, of which there are ``steps``.

    Order and augmentation of an epoch are derived from (seed, epoch), so that any batch can be made again. Raises
    ConfigError for a recipe that leaves no batch, and NoRoomOnGpu for images that do not fit on the GPU.
    """

    def __init__(
        self, dataset: Dataset, recipe: Recipe, seed: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        self.dataset = dataset
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.memory_format = memory_format
        require_gpu_memory(dataset, device)
        self.train_images = dataset.train_images.to(device)
        self.train_labels = dataset.train_labels.to(device)
        self.test_images = dataset.test_images.to(device)
        self.test_labels = dataset.test_labels.to(device)
        # On the device: a tuple of floats would be copied there for each batch.
        self._mean = torch.tensor(dataset.mean, dtype=torch.float32, device=device)
        self._std = torch.tensor(dataset.std, dtype=torch.float32, device=device)
        larger = max(1.0, (dataset.image_size / _SIZE_OF_MANY_PIXELS) ** 2)
        self._at_once = max(1, int(BATCHES_AUGMENTED_AT_ONCE[device.type] / larger))
        batch, self.count = recipe.batch_size, len(dataset.train_labels)
        self.steps = self.count // batch if recipe.drop_last else -(-self.count // batch)
        if self.steps == 0:
            raise ConfigError(f"{self.count} images make no full batch of {batch}, and drop_last is true")

    def begin_epoch(self, epoch: int) -> None:
        """Draw the order of the training images in ``epoch`` (from 1), and their augmentation."""
        augmentation = self.recipe.augmentation
        order = torch.randperm(self.count, generator=generator(self.seed, "order", epoch))
        draws = draw_augmentation(
            self.count,
            crop_padding_pixels=augmentation.crop_padding_pixels,
            horizontal_flip=augmentation.horizontal_flip,
            rotation_degrees=augmentation.rotation_degrees,
            generator=generator(self.seed, "augmentation", epoch),
        )
        plan = gather_plan(draws, self.dataset.image_size, augmentation.crop_padding_pixels)
        self._order, self._plan = self._without_waiting(order), self._without_waiting(plan)
        self._first_augmented = -1

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Augmented images, uint8 (B, 3, H, W), and targets (B,) of ``step`` (from 0) in the current epoch."""
        size, first = self.recipe.batch_size, step - step % self._at_once
        if first != self._first_augmented:  # augment the batches from ``first`` on, as many as are made at once
            chosen = slice(first * size, (first + self._at_once) * size)
            indices = self._order[chosen]
            self._images = augment_batch(self.train_images, self._plan[chosen], indices)
            self._targets = self.train_labels.index_select(0, indices)
            self._first_augmented = first
        chosen = slice((step - first) * size, (step - first + 1) * size)
        return self._images[chosen], self._targets[chosen]

    def prepare(self, images: Tensor) -> Tensor:
        """Convert uint8 images (N, 3, H, W) to the network's input: float32, normalized, in the run's memory format."""
        return normalize(images, self._mean, self._std, torch.float32, self.memory_format)

    def _without_waiting(self, tensor: Tensor) -> Tensor:
        """Copy a CPU tensor to the device, from pinned memory so that the host does not wait."""
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor
