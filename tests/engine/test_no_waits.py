"""A training step never waits for a GPU, shown without one: on fake tensors, a wait is an exception.

Fake tensors have a device, a shape and a type, and no values; whatever needs a value on the host (``.item()``, a branch
on the data, a Python number from a tensor) raises DataDependentOutputException. Such a wait would also keep the step
from being captured as a CUDA graph. The backward pass of fake tensors needs the device's own threads, so whole steps
are fake on a CPU, and what takes another way on a GPU is fake there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from repro.data.augment import CROP_FLIP_COLUMNS, ROTATION_COLUMNS, augment_batch, normalize
from repro.engine.optimizer import make_optimizer, set_learning_rate
from repro.engine.step import Totals, train_step
from repro.experiment.catalog import LOSSES, NETWORKS
from repro.experiment.schema import Recipe
from repro.losses import NORMALIZATIONS, build_loss, per_sample
from repro.models import build_model

BATCH, CLASSES = 4, 10
# Hundreds of layers take seconds even without values; the quick tests have one of each family.
QUICK = {"shufflenetv2_x0_5", "mobilenetv2_x0_75", "squeezenet", "resnet18", "torchvision/squeezenet1_1"}
TORCHVISION = [f"torchvision/{name}" for name in ("squeezenet1_1", "mobilenet_v3_small", "densenet121", "swin_t")]


@pytest.fixture(autouse=True)
def no_values(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors have no values; a draw of starting weights that looks at its values, before any step, is left out."""
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, *_, **__: tensor)
    with FakeTensorMode():
        yield


# Recipes with all that each optimizer has here.
COMMON = {"epochs": 2, "batch_size": BATCH, "learning_rate": 0.1, "weight_decay": 1e-4}
SGD = Recipe.model_validate({**COMMON, "momentum": 0.9, "nesterov": True})
ADAMW = Recipe.model_validate({**COMMON, "optimizer": "adamw", "betas": [0.9, 0.95], "epsilon": 1e-6})


def images() -> torch.Tensor:
    return torch.randint(256, (BATCH, 3, 64, 64), dtype=torch.uint8)


def take_a_step(
    model: nn.Module, loss: nn.Module, autocast: contextlib.AbstractContextManager[object], recipe: Recipe = SGD
) -> None:
    """One whole step, from uint8 images to updated weights and totals."""
    # As on a GPU the rate is a tensor, set only now: optimizers look at its value once, when they are built.
    optimizer = make_optimizer(model, recipe, torch.device("cpu"))
    optimizer.param_groups[0]["lr"] = torch.zeros(())
    set_learning_rate(optimizer, 0.05)
    prepared = normalize(images(), torch.zeros(3), torch.ones(3), torch.float32, torch.channels_last)
    targets = torch.zeros(BATCH, dtype=torch.int64)
    totals = Totals.zero(torch.device("cpu"))
    train_step(model, loss, optimizer, autocast, images=prepared, targets=targets, totals=totals)


def test_a_wait_is_seen() -> None:
    with pytest.raises(DataDependentOutputException):
        torch.ones(()).item()
    with pytest.raises(DataDependentOutputException):
        bool(torch.ones(()) > 0)


class WaitingLoss(nn.Module):
    """A loss that reads a value on the host."""

    def forward(self, *, logits: torch.Tensor, features: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        losses = nn.functional.cross_entropy(logits, targets, reduction="none")
        return losses / max(float(losses.detach().max()), 1.0)


def test_a_wait_within_a_step_is_seen() -> None:
    with pytest.raises(DataDependentOutputException):
        take_a_step(build_model("squeezenet", CLASSES, 64).train(), WaitingLoss(), contextlib.nullcontext())


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in (*NETWORKS, *TORCHVISION)]
)
def test_no_network_waits(name: str) -> None:
    model = build_model(name, CLASSES, 64).train()
    take_a_step(model, build_loss("bias"), contextlib.nullcontext())


def test_adamw_does_not_wait() -> None:
    model = build_model("squeezenet", CLASSES, 64).train()
    take_a_step(model, build_loss("bias", label_smoothing=0.1), contextlib.nullcontext(), ADAMW)


def test_adamw_on_a_gpu_has_all_that_a_graph_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel has no fake form; tests/engine/test_sync.py takes its steps on a real GPU."""
    given: dict[str, Any] = {}

    class Recorder:
        def __init__(self, parameters: list[nn.Parameter], **options: Any) -> None:
            given.update(options)
            self.state: dict[nn.Parameter, dict[str, torch.Tensor]] = {}

    monkeypatch.setattr(torch.optim, "AdamW", Recorder)
    with torch.device("cuda"):
        optimizer = make_optimizer(nn.Linear(3, 2), ADAMW, torch.device("cuda"))
    assert given["capturable"]
    assert given["fused"]
    tensors = [given["lr"], *(tensor for state in optimizer.state.values() for tensor in state.values())]
    assert len(tensors) == 1 + 2 * 3
    assert {(tensor.device.type, tensor.dtype) for tensor in tensors} == {("cuda", torch.float32)}


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_waits(name: str, normalization: str) -> None:
    model = build_model("squeezenet", CLASSES, 64).train()
    loss = build_loss(name, normalization=normalization)
    take_a_step(model, loss, torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False))


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_waits_on_a_gpu(name: str, normalization: str) -> None:
    with torch.device("cuda"):
        loss = build_loss(name, normalization=normalization).train()
        logits, targets = torch.randn(BATCH, CLASSES), torch.zeros(BATCH, dtype=torch.int64)
        features = torch.randn(BATCH, 16, 4, 4)
        losses, weights = per_sample(loss, logits=logits, features=features, targets=targets)
        Totals.zero(torch.device("cuda")).add(losses=losses, weights=weights, logits=logits, targets=targets)
    assert losses.device.type == "cuda"


@pytest.mark.parametrize("rotation", [0.0, 15.0])
def test_augmentation_does_not_wait(rotation: float) -> None:
    columns = ROTATION_COLUMNS if rotation else CROP_FLIP_COLUMNS
    with torch.device("cuda"):
        plan, indices = torch.zeros(BATCH, columns, dtype=torch.int32), torch.zeros(BATCH, dtype=torch.int64)
        augmented = augment_batch(images(), plan, indices)
        prepared = normalize(augmented, torch.zeros(3), torch.ones(3), torch.float32, torch.channels_last)
    assert prepared.device.type == "cuda"
