"""The learning rate against PyTorch's own scheduler, and the warm-up by hand."""

from __future__ import annotations

import pytest
import torch

from repro.engine.schedule import learning_rate
from repro.experiment.config import find_table


@pytest.mark.parametrize("name", ["table1", "released"])
def test_step_schedule_is_pytorchs(name: str) -> None:
    recipe = find_table(name).recipe
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=recipe.learning_rate)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(recipe.decay_epochs), gamma=recipe.decay_factor)
    for epoch in range(1, recipe.epochs + 1):
        assert learning_rate(recipe, epoch, 0, 391) == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        scheduler.step()


def test_table_2_as_the_supplement_states_it() -> None:
    recipe = find_table("table2").recipe
    rates = {epoch: learning_rate(recipe, epoch, 0, 391) for epoch in (2, 60, 61, 120, 121, 160, 161, 200)}
    assert rates == pytest.approx(
        {2: 0.1, 60: 0.1, 61: 0.02, 120: 0.02, 121: 0.004, 160: 0.004, 161: 0.0008, 200: 0.0008}, rel=1e-12
    )


def test_warm_up_rises_linearly_to_the_full_rate() -> None:
    recipe = find_table("table2").recipe
    rates = [learning_rate(recipe, 1, step, 391) for step in range(391)]
    assert rates == pytest.approx([0.1 * (step + 1) / 391 for step in range(391)], rel=1e-12)
    assert rates[-1] == 0.1
