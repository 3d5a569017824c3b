"""Evaluation against a count by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from repro.data import Dataset
from repro.engine import evaluate as module
from repro.engine.device import set_up_device
from repro.engine.evaluate import Evaluator, ranks_of
from repro.engine.learner import Learner
from repro.experiment.schema import Execution, Run


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
    evaluate = Evaluator(model, lambda x: x.float() / 16, settings, None, batch)
    result = evaluate(images=images, labels=labels)
    assert evaluate(images=images, labels=labels) == result

    logits = images.flatten(1)[:, :10].double() / 16
    order = logits.argsort(dim=1, descending=True, stable=True)  # of equal ones, the lower class first
    ranks = (order == labels[:, None]).int().argmax(dim=1)
    assert result.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-6)
    assert result.top1_percent == pytest.approx(100 * float((ranks == 0).double().mean()))
    assert result.top5_percent == pytest.approx(100 * float((ranks < 5).double().mean()))
    assert model.training


def test_of_equal_logits_the_lower_class_is_first() -> None:
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0]] * 4, dtype=torch.bfloat16)
    assert ranks_of(logits, torch.tensor([0, 1, 2, 3])).tolist() == [2, 0, 1, 3]


def test_without_ties_the_ranks_are_those_of_sorting() -> None:
    logits = torch.randn(200, 30, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(200) % 30
    places = logits.argsort(dim=1, descending=True).argsort(dim=1)
    assert torch.equal(ranks_of(logits, targets), places.gather(1, targets[:, None])[:, 0])


def test_a_logit_that_is_no_number_is_never_a_hit_of_the_others() -> None:
    logits = torch.tensor([[float("nan"), 2.0, 1.0]])
    assert ranks_of(logits, torch.tensor([1])).tolist() == [1]


@pytest.mark.parametrize(("recompute", "sizes"), [(False, [16, 16, 8]), (True, [4] * 10)])
def test_no_batch_takes_more_memory_than_in_training_and_none_a_timed_algorithm(
    recompute: bool, sizes: list[int], make_run: Callable[..., Run], small_dataset: Dataset
) -> None:
    """torch keeps the algorithms that it timed in training by shape, and whether determinism was asked."""
    run = make_run("recipe.batch_size=4")
    settings = set_up_device(torch.device("cpu"), run.cell.execution, None, run.cell.row.model)
    settings = replace(settings, recompute=recompute)
    learner = Learner(run, small_dataset, settings)
    seen: list[tuple[int, bool]] = []
    learner.state.model.register_forward_hook(
        lambda _model, inputs, _outputs: seen.append((len(inputs[0]), torch.backends.cudnn.deterministic))
    )
    learner.evaluate()
    assert seen == [(size, True) for size in sizes]
    assert not torch.backends.cudnn.deterministic
