"""One training step, and what an epoch adds up on the device while its steps run.

Nothing here makes the host wait for the device: sums, extremes and the first bad step stay in tensors until the epoch
ends.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.losses import WeightedCrossEntropy

NO_BAD_STEP = 2**62


@dataclass
class Totals:
    """Running totals over the samples of an epoch, on the device.

    ``sums`` float64 (6,): weighted loss, top-1 hits, top-5 hits, samples, z, z squared. ``extremes`` float32 (2,): the
    least and the greatest z. ``bad_step`` int64 (): the first step whose loss was not finite.
    """

    sums: Tensor
    extremes: Tensor
    bad_step: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Totals:
        """Totals over no samples."""
        return cls(
            sums=torch.zeros(6, dtype=torch.float64, device=device),
            extremes=torch.tensor([float("inf"), float("-inf")], device=device),
            bad_step=torch.tensor(NO_BAD_STEP, device=device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The totals by name, for a checkpoint."""
        return {"sums": self.sums, "extremes": self.extremes, "bad_step": self.bad_step}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over saved totals, in place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def reset(self) -> None:
        """Back to no samples, in place."""
        self.restore(Totals.zero(self.sums.device).tensors())

    def add(self, *, step: int, weights: Tensor, cross_entropy: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: z (N,), cross-entropies (N,), logits (N, K), targets (N,)."""
        weighted = weights * cross_entropy
        hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == targets[:, None]
        sums = (weighted.sum(), hits[:, 0].sum(), hits.sum(), weighted.new_tensor(len(targets)))
        self.sums += torch.stack([*(x.double() for x in sums), weights.double().sum(), weights.double().square().sum()])
        low, high = torch.aminmax(weights)
        torch.minimum(self.extremes[0], low, out=self.extremes[0])
        torch.maximum(self.extremes[1], high, out=self.extremes[1])
        bad = torch.where(torch.isfinite(self.sums[0]), NO_BAD_STEP, step)
        torch.minimum(self.bad_step, bad, out=self.bad_step)


def train_step(
    model: nn.Module,
    loss: WeightedCrossEntropy,
    optimizer: torch.optim.Optimizer,
    autocast: AbstractContextManager[object],
    *,
    images: Tensor,
    targets: Tensor,
    step: int,
    totals: Totals,
) -> None:
    """Forward, backward and update on images (N, 3, H, W) and targets (N,); adds the batch to ``totals``."""
    with autocast:
        logits, features = model(images)
    z, cross_entropy = loss.per_sample(logits=logits, features=features, targets=targets)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward((z * cross_entropy).mean())
    optimizer.step()
    with torch.no_grad():
        totals.add(step=step, weights=z, cross_entropy=cross_entropy, logits=logits, targets=targets)
