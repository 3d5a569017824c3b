"""One training step, and the totals of an epoch on the device.

Nothing here makes the host wait for the device: the totals stay in tensors until the epoch ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.engine.norms import lay_out_gradient
from repro.losses import per_sample

NO_BAD_STEP = 2**62


@dataclass
class Totals:
    """Running totals over the samples of an epoch, on the device.

    ``sums`` float64 (6,): weighted loss, top-1 hits, top-5 hits, samples, z, z squared. ``extremes`` float32 (2,):
    minimum and maximum of z. ``moments`` float64 (5,): of the variance v and the mean m of the features of a sample, v,
    m, v squared, m squared, v times m; zero if the loss measures none. ``steps`` int64 (): the batches added.
    ``bad_step`` int64 (): the first batch, from 1, whose loss was not finite.
    """

    sums: Tensor
    extremes: Tensor
    moments: Tensor
    steps: Tensor
    bad_step: Tensor

    @classmethod
    def zero(cls, device: torch.device) -> Totals:
        """Totals over no samples."""
        return cls(
            sums=torch.zeros(6, dtype=torch.float64, device=device),
            extremes=torch.tensor([float("inf"), float("-inf")], device=device),
            moments=torch.zeros(5, dtype=torch.float64, device=device),
            steps=torch.zeros((), dtype=torch.int64, device=device),
            bad_step=torch.tensor(NO_BAD_STEP, device=device),
        )

    def tensors(self) -> dict[str, Tensor]:
        """The totals by name, for a checkpoint."""
        return {
            "sums": self.sums,
            "extremes": self.extremes,
            "moments": self.moments,
            "steps": self.steps,
            "bad_step": self.bad_step,
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Load saved totals, in place."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])

    def reset(self) -> None:
        """Start again from no samples, in place."""
        self.restore(Totals.zero(self.sums.device).tensors())

    def add(
        self, *, losses: Tensor, weights: Tensor, logits: Tensor, targets: Tensor, measured: Tensor | None = None
    ) -> None:
        """Add a batch: losses (N,), weights z (N,), logits (N, K), targets (N,); variance and mean (2, N) if any."""
        hits = logits.topk(min(5, logits.shape[1]), dim=1).indices == targets[:, None]
        # new_full, not new_tensor, which copies from the host: that waits, and cannot be captured in a graph.
        sums = (losses.sum(), hits[:, 0].sum(), hits.sum(), losses.new_full((), len(targets)))
        self.sums += torch.stack([*(x.double() for x in sums), weights.double().sum(), weights.double().square().sum()])
        low, high = torch.aminmax(weights)
        torch.minimum(self.extremes[0], low, out=self.extremes[0])
        torch.maximum(self.extremes[1], high, out=self.extremes[1])
        if measured is not None:
            both = measured.double()
            self.moments += torch.cat([both.sum(dim=1), both.square().sum(dim=1), both.prod(dim=0).sum()[None]])
        self.steps += 1
        bad = torch.where(torch.isfinite(self.sums[0]), NO_BAD_STEP, self.steps)
        torch.minimum(self.bad_step, bad, out=self.bad_step)


def train_step(
    forward: Callable[[Tensor], tuple[Tensor, Tensor]],
    loss: nn.Module,
    optimizer: torch.optim.Optimizer,
    autocast: AbstractContextManager[object],
    *,
    images: Tensor,
    targets: Tensor,
    totals: Totals,
) -> None:
    """Forward, backward and update on images (N, 3, H, W) and targets (N,); adds the batch to ``totals``."""
    with autocast:
        logits, features = forward(images)
    lay_out_gradient(features)
    losses, weights = per_sample(loss, logits=logits, features=features, targets=targets)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(losses.mean())
    optimizer.step()
    with torch.no_grad():
        measured = getattr(loss, "measured", None)
        totals.add(losses=losses, weights=weights, logits=logits, targets=targets, measured=measured)
