"""A data set resident on the device, and the batches that an epoch makes of it."""

from __future__ import annotations

import torch
from torch import Tensor

from repro.data import Dataset
from repro.data.augment import augment_batch, draw_augmentation, gather_plan, normalize
from repro.engine.randomness import generator
from repro.errors import ConfigError
from repro.schema import Recipe


class Feed:
    """Training and test images on ``device`` as uint8, served as the batches of an epoch.

    Order and augmentation of an epoch are derived from (seed, epoch): any batch of any epoch can be made again.
    ``steps`` is the number of batches in an epoch. Raises ConfigError where the recipe leaves none.
    """

    def __init__(
        self, dataset: Dataset, recipe: Recipe, seed: int, device: torch.device, memory_format: torch.memory_format
    ) -> None:
        self.dataset = dataset
        self.recipe = recipe
        self.seed = seed
        self.device = device
        self.memory_format = memory_format
        self.train_images = dataset.train_images.to(device)
        self.train_labels = dataset.train_labels.to(device)
        self.test_images = dataset.test_images.to(device)
        self.test_labels = dataset.test_labels.to(device)
        batch, self.count = recipe.batch_size, len(dataset.train_labels)
        self.steps = self.count // batch if recipe.drop_last else -(-self.count // batch)
        if self.steps == 0:
            raise ConfigError(f"{self.count} images make no full batch of {batch}, and drop_last is true")

    def begin_epoch(self, epoch: int) -> None:
        """Draw the order of the training images in ``epoch`` (from 1), and the augmentation of each place in it."""
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
        self._order, self._plan = order.to(self.device), plan.to(self.device)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The network's input (B, 3, H, W) and the targets (B,) of ``step`` (from 0) in the epoch begun last."""
        chosen = slice(step * self.recipe.batch_size, (step + 1) * self.recipe.batch_size)
        indices = self._order[chosen]
        return self.prepare(augment_batch(self.train_images, self._plan[chosen], indices)), self.train_labels[indices]

    def prepare(self, images: Tensor) -> Tensor:
        """uint8 images (N, 3, H, W) as the network takes them: float32, normalized, in the run's memory format."""
        return normalize(images, self.dataset.mean, self.dataset.std, torch.float32, self.memory_format)
