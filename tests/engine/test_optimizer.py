"""The optimizers against torch's own, plain ones, and what a checkpoint holds of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro.engine.optimizer import make_optimizer, set_learning_rate
from repro.engine.state import TrainingState
from repro.engine.step import Totals
from repro.experiment.schema import Recipe

ADAMW = {"optimizer": "adamw", "betas": [0.8, 0.95], "epsilon": 1e-4, "weight_decay": 0.1}
SGD = {"momentum": 0.7, "nesterov": True, "weight_decay": 0.1}
RECIPES = pytest.mark.parametrize(
    "recipe", [SGD, ADAMW, {"momentum": 0.0}], ids=["sgd", "adamw", "sgd without momentum"]
)


def state_of(recipe: dict[str, Any]) -> TrainingState:
    """A small network with its optimizer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    whole = Recipe.model_validate({"epochs": 1, "learning_rate": 0.1, **recipe})
    cpu = torch.device("cpu")
    return TrainingState(model, nn.Identity(), make_optimizer(model, whole, cpu), Totals.zero(cpu))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(number))
    optimizer.zero_grad()
    torch.autograd.backward(model(images).square().mean())
    optimizer.step()


@RECIPES
def test_steps_are_those_of_torchs_plain_optimizer(recipe: dict[str, Any]) -> None:
    ours, reference = state_of(recipe), state_of(recipe).model
    options = {key: value for key, value in recipe.items() if key not in ("optimizer", "epsilon", "betas")}
    plain: torch.optim.Optimizer = torch.optim.SGD(reference.parameters(), lr=0.1, foreach=False, **options)
    if "betas" in recipe:
        plain = torch.optim.AdamW(
            reference.parameters(), lr=0.1, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.1, foreach=False
        )
    for number in range(20):
        set_learning_rate(ours.optimizer, 0.1 / (1 + number))
        plain.param_groups[0]["lr"] = 0.1 / (1 + number)
        step(ours.model, ours.optimizer, number)
        step(reference, plain, number)
    for mine, its in zip(ours.model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-6)


@RECIPES
def test_the_state_is_there_before_the_first_step_and_keeps_its_place(recipe: dict[str, Any]) -> None:
    state = state_of(recipe)
    before = [tensor.data_ptr() for tensor in state.tensors()]
    step(state.model, state.optimizer, 0)
    assert [tensor.data_ptr() for tensor in state.tensors()] == before


@RECIPES
def test_a_restored_state_takes_the_same_steps(recipe: dict[str, Any], tmp_path: Any) -> None:
    first, second = state_of(recipe), state_of(recipe)
    step(first.model, first.optimizer, 0)
    torch.save(first.to_checkpoint(), tmp_path / "state.pt")
    second.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.hash() == first.hash()
    for state in (first, second):
        step(state.model, state.optimizer, 1)
    assert second.hash() == first.hash()


def test_every_tensor_of_the_optimizer_is_in_the_hash_and_in_the_size() -> None:
    state = state_of(ADAMW)
    tensors: list[Tensor] = [tensor for each in state.optimizer.state.values() for tensor in each.values()]
    assert len(tensors) == 3 * 6
    for tensor in tensors:
        before = state.hash()
        tensor.add_(1)
        assert state.hash() != before
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    assert state.size_bytes() == 3 * 4 * parameters + 6 * 4 + 8 * 4 + 8  # 8 running statistics, a count of batches


def test_a_checkpoint_from_before_there_was_adamw_is_restored() -> None:
    first, second = state_of(SGD), state_of(SGD)
    step(first.model, first.optimizer, 0)
    saved = first.to_checkpoint()
    saved["momentum"] = [state["momentum_buffer"] for state in saved.pop("optimizer")]
    second.restore(saved)
    assert second.hash() == first.hash()
