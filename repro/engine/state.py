"""The state of a run: everything that it needs to resume."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from repro.engine.step import Totals
from repro.results import EpochRecord


@dataclass
class TrainingState:
    """The state of a run: ``epoch`` (from 1) is the one in progress, ``step`` (from 0) the next to be taken in it."""

    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.SGD
    totals: Totals
    epoch: int = 1
    step: int = 0
    epoch_seconds: float = 0.0
    run_seconds: float = 0.0
    started_at: str = ""
    resumptions: int = 0
    changes_accepted: list[str] = field(default_factory=list)
    history: list[EpochRecord] = field(default_factory=list)

    _COUNTERS = ("epoch", "step", "epoch_seconds", "run_seconds", "started_at", "resumptions", "changes_accepted")

    def to_checkpoint(self) -> dict[str, Any]:
        """The state as tensors and plain values, which ``torch.load(weights_only=True)`` reads back."""
        return {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "momentum": self._momentum(),
            "totals": self.totals.tensors(),
            "history": [epoch.model_dump() for epoch in self.history],
            **{name: getattr(self, name) for name in self._COUNTERS},
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Load a saved state, in place."""
        self.model.load_state_dict(saved["model"])
        self.loss.load_state_dict(saved["loss"])
        self._restore_momentum(saved["momentum"])
        self.totals.restore(saved["totals"])
        self.history = [EpochRecord.model_validate(epoch) for epoch in saved["history"]]
        for name in self._COUNTERS:
            setattr(self, name, saved[name])

    def tensors(self) -> list[Tensor]:
        """Every tensor that a training step changes, except gradients."""
        momentum = [buffer for buffer in self._momentum() if buffer is not None]
        networks = [*self.model.parameters(), *self.model.buffers(), *self.loss.buffers()]
        return [*networks, *momentum, *self.totals.tensors().values()]

    def size_bytes(self) -> int:
        """The approximate size of a checkpoint: weights, buffers and momentum."""
        tensors = [*self.model.state_dict().values(), *self.loss.state_dict().values(), *self._parameters()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def hash(self) -> str:
        """SHA-256 (hex) over names, shapes, types and bytes of weights, buffers, loss state and momentum."""
        digest = hashlib.sha256()
        momentum = {f"momentum.{index}": buffer for index, buffer in enumerate(self._momentum())}
        for name, tensor in {**self.model.state_dict(), **self.loss.state_dict(prefix="loss."), **momentum}.items():
            if tensor is not None:
                digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _momentum(self) -> list[Tensor | None]:
        return [self.optimizer.state[parameter].get("momentum_buffer") for parameter in self._parameters()]

    def _restore_momentum(self, buffers: list[Tensor | None]) -> None:
        for parameter, buffer in zip(self._parameters(), buffers, strict=True):
            if buffer is not None:
                # In the parameter's memory layout, so that updates after a resume add up in the same order.
                self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)


def finished_epoch(state: TrainingState, **measured: float) -> EpochRecord:
    """The record of the epoch in ``state.totals`` with the ``measured`` fields. Waits for the device."""
    loss, top1, top5, count, z, z_squared = state.totals.sums.tolist()
    low, high = state.totals.extremes.tolist()
    mean = z / count
    correlation = _correlation([moment / count for moment in state.totals.moments.tolist()])
    return EpochRecord(
        epoch=state.epoch,
        train_loss=loss / count,
        train_top1_percent=100 * top1 / count,
        train_top5_percent=100 * top5 / count,
        weight_mean=mean,
        weight_std=max(0.0, z_squared / count - mean * mean) ** 0.5,
        weight_min=low,
        weight_max=high,
        feature_correlation=correlation,
        **measured,
    )


def _correlation(means: list[float]) -> float | None:
    """Pearson's correlation from the means of x, y, x squared, y squared and x y; None without spread or values."""
    x, y, xx, yy, xy = means
    spread = (xx - x * x) * (yy - y * y)
    return max(-1.0, min(1.0, (xy - x * y) / spread**0.5)) if spread > 0 else None
