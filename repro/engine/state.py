"""The state of a run: everything that it needs to resume."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from repro.engine.optimizer import states_of
from repro.engine.step import Totals
from repro.results import EpochRecord


@dataclass
class TrainingState:
    """The state of a run: ``epoch`` (from 1) is the one in progress, ``step`` (from 0) the next to be taken in it."""

    model: nn.Module
    loss: nn.Module
    optimizer: torch.optim.Optimizer
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
            "optimizer": states_of(self.optimizer),
            "totals": self.totals.tensors(),
            "history": [epoch.model_dump() for epoch in self.history],
            **{name: getattr(self, name) for name in self._COUNTERS},
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Load a saved state, in place."""
        self.model.load_state_dict(saved["model"])
        self.loss.load_state_dict(saved["loss"])
        self._restore_optimizer(saved)
        self.totals.restore(saved["totals"])
        self.history = [EpochRecord.model_validate(epoch) for epoch in saved["history"]]
        for name in self._COUNTERS:
            setattr(self, name, saved[name])

    def tensors(self) -> list[Tensor]:
        """Every tensor that a training step changes, except gradients."""
        networks = [*self.model.parameters(), *self.model.buffers(), *self.loss.buffers()]
        return [*networks, *self._optimizer_tensors().values(), *self.totals.tensors().values()]

    def size_bytes(self) -> int:
        """The approximate size of a checkpoint: weights, buffers and the optimizer's state."""
        states = self.model.state_dict(), self.loss.state_dict(), self._optimizer_tensors()
        return sum(tensor.numel() * tensor.element_size() for state in states for tensor in state.values())

    def hash(self) -> str:
        """SHA-256 (hex) over names, shapes, types and bytes of weights, buffers, loss state and optimizer state."""
        digest = hashlib.sha256()
        loss = self.loss.state_dict(prefix="loss.")
        for name, tensor in {**self.model.state_dict(), **loss, **self._optimizer_tensors()}.items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        """The optimizer's state by name and number of the parameter: ``momentum.0``, ``exp_avg.0``, …"""
        states = enumerate(states_of(self.optimizer))
        return {
            f"{name.removesuffix('_buffer')}.{index}": tensor
            for index, state in states
            for name, tensor in state.items()
        }

    def _restore_optimizer(self, saved: dict[str, Any]) -> None:
        """Load the optimizer's state into its tensors, whose memory layout is that of the parameters.

        So updates after a resume add up in the same order. Momentum that only one of the two has is left as it is.
        """
        # Before there was AdamW, checkpoints had a list of SGD's momentum.
        states = saved["optimizer"] if "optimizer" in saved else [{"momentum_buffer": m} for m in saved["momentum"]]
        for own, state in zip(states_of(self.optimizer), states, strict=True):
            for name in own.keys() & state.keys():
                own[name].copy_(state[name])


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
