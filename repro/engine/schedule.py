"""The learning rate at every step: a linear warm-up, then a step schedule."""

from __future__ import annotations

from repro.experiment.schema import Recipe


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The learning rate of ``step`` (from 0, of ``steps``) in ``epoch`` (from 1).

    The rate is multiplied by ``decay_factor`` once ``decay_epochs`` epochs are complete, as PyTorch's MultiStepLR does.
    In the warm-up it rises linearly by step, from 1/n of the full rate to the full rate at its n-th and last step.
    """
    complete = epoch - 1
    decays = sum(complete >= milestone for milestone in recipe.decay_epochs)
    full = float(recipe.learning_rate * recipe.decay_factor**decays)
    warmup_steps = recipe.warmup_epochs * steps
    done = complete * steps + step + 1
    return full * done / warmup_steps if done < warmup_steps else full
