"""The plain loop: a standard PyTorch training loop for small images, for comparison; copied from nobody's code.

Worker processes of a DataLoader turn each image into a PIL image and apply torchvision's transforms; batches are copied
to the device; everything is float32 and contiguous; SGD has torch.optim's defaults; and the loss is read at every step,
for the average in a progress bar.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision import transforms

from repro.data import Dataset
from repro.experiment.schema import Cell, Recipe
from repro.losses import build_loss, per_sample
from repro.models import build_model


class PlainImages(TorchDataset[tuple[Tensor, int]]):
    """A data set of PIL images, transformed when read."""

    def __init__(self, dataset: Dataset, recipe: Recipe) -> None:
        self.images = dataset.train_images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = dataset.train_labels.tolist()
        augmentation = recipe.augmentation
        steps = [
            transforms.ToPILImage(),
            transforms.RandomCrop(dataset.image_size, padding=augmentation.crop_padding_pixels),
        ]
        if augmentation.horizontal_flip:
            steps.append(transforms.RandomHorizontalFlip())
        if augmentation.rotation_degrees:
            steps.append(transforms.RandomRotation(augmentation.rotation_degrees))
        self.transform = transforms.Compose(
            [*steps, transforms.ToTensor(), transforms.Normalize(dataset.mean, dataset.std)]
        )

    def __len__(self) -> int:
        """The number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """An augmented image, float32 (3, H, W), and its label."""
        return self.transform(self.images[index]), self.labels[index]


class PlainLoop:
    """Trains the network of ``cell`` on ``dataset``, whose images ``workers`` processes prepare."""

    def __init__(self, cell: Cell, dataset: Dataset, device: torch.device, workers: int) -> None:
        recipe = cell.recipe
        self.device, self.batch_size = device, recipe.batch_size
        self.model = build_model(
            cell.row.model, cell.dataset.num_classes, cell.dataset.side_pixels, **cell.row.options.model_dump()
        ).to(device)
        weighting = cell.weighting.model_dump()
        self.loss = build_loss(cell.column.loss, **weighting, label_smoothing=recipe.label_smoothing).to(device)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.nesterov,
        )
        self.loader = DataLoader(
            PlainImages(dataset, recipe),
            batch_size=recipe.batch_size,
            shuffle=True,
            drop_last=recipe.drop_last,
            num_workers=workers,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,  # epochs are short here: starting processes would dominate them
        )

    def epoch(self) -> float:
        """Train one epoch; returns its mean loss."""
        self.model.train()
        total = 0.0
        for images, targets in self.loader:
            total += self.step(images, targets).item()
        return total / len(self.loader)

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """Train on images (N, 3, H, W) and targets (N,); returns the loss."""
        images = images.to(self.device, non_blocking=True)
        targets = targets.to(self.device, non_blocking=True)
        self.optimizer.zero_grad()
        logits, features = self.model(images)
        losses, _weights = per_sample(self.loss, logits=logits, features=features, targets=targets)
        loss = losses.mean()
        torch.autograd.backward(loss)
        self.optimizer.step()
        return loss.detach()
