"""Evaluation on the test images: plain cross-entropy, never smoothed, and accuracy; no augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from repro.engine.cuda_graph import BatchFunction, Capture, GraphedBatch
from repro.engine.device import DeviceSettings, settled_convolutions

EVALUATION_BATCH = 128
# A training step keeps every feature map, an evaluation two at a time: it needs several times less memory an image.
IMAGES_FOR_ONE_IN_TRAINING = 4


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy, and accuracies in percent."""

    loss: float
    top1_percent: float
    top5_percent: float


class Evaluator:
    """Evaluates ``model`` on uint8 images converted by ``prepare``. With ``capture``, each batch is a CUDA graph.

    No batch takes more memory than one of ``training_batch`` images does in training.
    """

    def __init__(
        self,
        model: nn.Module,
        prepare: Callable[[Tensor], Tensor],
        settings: DeviceSettings,
        capture: Capture | None,
        training_batch: int,
    ) -> None:
        self._model = model
        self._at_once = min(
            EVALUATION_BATCH, training_batch * (1 if settings.recompute else IMAGES_FOR_ONE_IN_TRAINING)
        )
        self._sums = sums = torch.zeros(3, dtype=torch.float64, device=settings.device)
        eager = batch_evaluation(model, prepare, settings, sums)
        self._add: BatchFunction = GraphedBatch(eager, lambda: [sums], capture) if capture else eager

    def __call__(self, *, images: Tensor, labels: Tensor) -> Evaluation:
        """Evaluate on uint8 images (N, 3, H, W) and int64 labels (N,). Waits for the device only at the end."""
        was_training = self._model.training
        self._model.eval()
        self._sums.zero_()
        for start in range(0, len(labels), self._at_once):
            chosen = slice(start, start + self._at_once)
            self._add(images[chosen], labels[chosen])
        self._model.train(was_training)
        loss, top1, top5 = (total / len(labels) for total in self._sums.tolist())
        return Evaluation(loss, 100 * top1, 100 * top5)


def batch_evaluation(
    model: nn.Module, prepare: Callable[[Tensor], Tensor], settings: DeviceSettings, sums: Tensor
) -> BatchFunction:
    """The function that adds a batch's cross-entropy, top-1 hits and top-5 hits to ``sums``, float64 (3,)."""

    @torch.no_grad()
    def add(images: Tensor, targets: Tensor) -> None:
        with settings.autocast(), settled_convolutions():
            logits, _ = model(prepare(images))
        cross_entropy = functional.cross_entropy(logits.float(), targets, reduction="sum")
        ranks = ranks_of(logits, targets)
        sums.add_(torch.stack([cross_entropy.double(), (ranks < 1).sum().double(), (ranks < 5).sum().double()]))

    return add


def ranks_of(logits: Tensor, targets: Tensor) -> Tensor:
    """How many classes are ranked before each sample's own: int64 (N,), from logits (N, K) and int64 targets (N,).

    Of equal logits, which bf16 often makes, the lower class is first, on every device; ``topk`` takes any of them.
    """
    own = logits.gather(1, targets[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    tied_before = (logits == own) & (classes < targets[:, None])
    return (~(logits <= own) | tied_before).sum(dim=1)
