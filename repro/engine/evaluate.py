"""Test accuracy: every test image once, plain cross-entropy, no augmentation."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

EVALUATION_BATCH = 500


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, and accuracies in percent."""

    loss: float
    top1_percent: float
    top5_percent: float


@torch.no_grad()
def evaluate(
    model: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    autocast: AbstractContextManager[object],
    *,
    images: Tensor,
    labels: Tensor,
) -> Evaluation:
    """Evaluate on uint8 images (N, 3, H, W) and int64 labels (N,); ``prepare`` makes a batch the network's input."""
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=labels.device)
    for start in range(0, len(labels), EVALUATION_BATCH):
        targets = labels[start : start + EVALUATION_BATCH]
        with autocast:
            logits, _ = model(prepare(images[start : start + EVALUATION_BATCH]))
        cross_entropy = functional.cross_entropy(logits.float(), targets, reduction="sum")
        hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == targets[:, None]
        sums += torch.stack([cross_entropy.double(), hits[:, 0].sum().double(), hits.sum().double()])
    model.train(was_training)
    loss, top1, top5 = (sums / len(labels)).tolist()
    return Evaluation(loss, 100 * top1, 100 * top5)
