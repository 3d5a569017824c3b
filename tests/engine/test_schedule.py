"""The learning rate against PyTorch's own scheduler, and the warm-up by hand."""

from __future__ import annotations

import pytest
import torch

from repro.engine.schedule import learning_rate
from repro.experiment.config import find_table
from repro.experiment.schema import Recipe


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


@pytest.mark.parametrize(("warmup", "final"), [(0, 0.0), (2, 0.001), (6, 0.0)])
def test_cosine_is_pytorchs_after_every_batch(warmup: int, final: float) -> None:
    steps = 7
    recipe = Recipe(
        epochs=6, learning_rate=0.3, schedule="cosine", final_learning_rate=final, warmup_epochs=warmup, batch_size=8
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    n, falling = warmup * steps, (6 - warmup) * steps
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, falling), eta_min=final)
    scheduler: torch.optim.lr_scheduler.LRScheduler = cosine
    if warmup:
        rising = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / n, total_iters=n - 1)
        scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [rising, cosine], milestones=[n])
    rates = []
    for epoch in range(1, recipe.epochs + 1):
        for step in range(steps):
            rates.append(learning_rate(recipe, epoch, step, steps))
            assert rates[-1] == pytest.approx(scheduler.get_last_lr()[0], rel=1e-9)
            optimizer.step()
            scheduler.step()
    assert max(rates) == 0.3
    assert rates[n:] == sorted(rates[n:], reverse=True)


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
