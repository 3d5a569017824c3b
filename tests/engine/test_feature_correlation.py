"""The correlation of mean and variance is that of all samples of an epoch, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from repro.engine.state import TrainingState, finished_epoch
from repro.engine.step import Totals
from repro.losses import build_loss, per_sample

MEASURED = {
    "learning_rate": 0.1,
    "test_loss": 1.0,
    "test_top1_percent": 50.0,
    "test_top5_percent": 90.0,
    "train_seconds": 1.0,
    "test_seconds": 1.0,
    "images_per_second": 1.0,
}


def recorded(name: str, batches: list[torch.Tensor]) -> float | None:
    """What an epoch of these features is recorded with."""
    loss, totals = build_loss(name), Totals.zero(torch.device("cpu"))
    for features in batches:
        logits, targets = torch.randn(len(features), 10), torch.zeros(len(features), dtype=torch.int64)
        losses, weights = per_sample(loss, logits=logits, features=features, targets=targets)
        measured = getattr(loss, "measured", None)
        totals.add(losses=losses, weights=weights, logits=logits, targets=targets, measured=measured)
    model = nn.Linear(1, 1)
    state = TrainingState(model, loss, torch.optim.SGD(model.parameters()), totals)
    return finished_epoch(state, **MEASURED).feature_correlation


@pytest.mark.parametrize("name", ["bias", "mean_bias", "inverse_bias"])
def test_it_is_numpys_over_all_samples(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand(40, 1, 1, 1, generator=generator)
    features = torch.relu(torch.randn(40, 8, 3, 3, generator=generator) + sizes) * (0.5 + sizes)
    flat = features.flatten(1).double().numpy()
    expected = np.corrcoef(flat.mean(axis=1), flat.var(axis=1, ddof=1))[0, 1]
    assert 0.1 < expected < 0.999
    assert recorded(name, [features[:25], features[25:]]) == pytest.approx(expected, abs=1e-5)


def test_without_measures_or_spread_there_is_none() -> None:
    assert recorded("ce", [torch.randn(8, 4, 3, 3)]) is None
    assert recorded("bias", [torch.randn(1, 4, 3, 3).expand(8, -1, -1, -1)]) is None
