"""Evaluation against a count by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from repro.engine import evaluate as module
from repro.engine.device import set_up_device
from repro.engine.evaluate import Evaluator
from repro.experiment.schema import Execution


class Lookup(nn.Module):
    """Logits that are the first ten pixels of the image."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images.flatten(1)[:, :10], images


@pytest.mark.parametrize("batch", [1, 7, 30, 100])
def test_counts_every_image_once_at_any_batch_size(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVALUATION_BATCH", batch)
    random = torch.Generator().manual_seed(0)
    images = torch.randint(256, (30, 3, 4, 4), generator=random, dtype=torch.uint8)
    labels = torch.randint(10, (30,), generator=random)
    model = Lookup().train()
    settings = set_up_device(torch.device("cpu"), Execution(), None, "squeezenet")
    evaluate = Evaluator(model, lambda x: x.float() / 16, settings, None)
    result = evaluate(images=images, labels=labels)
    assert evaluate(images=images, labels=labels) == result

    logits = images.flatten(1)[:, :10].double() / 16
    ranks = (logits > logits.gather(1, labels[:, None])).sum(dim=1)
    assert result.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-6)
    assert result.top1_percent == pytest.approx(100 * float((ranks == 0).double().mean()))
    assert result.top5_percent == pytest.approx(100 * float((ranks < 5).double().mean()), abs=100 / 30 + 1e-9)
    assert model.training
