"""The learning rate at every step: a linear warm-up, then a step schedule or half a cosine."""

from __future__ import annotations

import math

from repro.experiment.schema import Recipe


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The learning rate of ``step`` (from 0, of ``steps``) in ``epoch`` (from 1).

    ``steps``: the rate is multiplied by ``decay_factor`` once ``decay_epochs`` epochs are complete, as PyTorch's
    MultiStepLR does. ``cosine``: it falls at every step after the warm-up, see ``_cosine``.
    In the warm-up it rises linearly by step, from 1/n of the full rate to the full rate at its n-th and last step.
    """
    complete = epoch - 1
    warmup_steps = recipe.warmup_epochs * steps
    done = complete * steps + step + 1
    if recipe.schedule == "cosine":
        full = _cosine(recipe, done - 1 - warmup_steps, recipe.epochs * steps - warmup_steps)
    else:
        decays = sum(complete >= milestone for milestone in recipe.decay_epochs)
        full = float(recipe.learning_rate * recipe.decay_factor**decays)
    return full * done / warmup_steps if done < warmup_steps else full


def _cosine(recipe: Recipe, step: int, steps: int) -> float:
    """f + (r - f) (1 + cos(pi t / T)) / 2 with full rate r and final rate f, at ``step`` t (from 0) of ``steps`` T.

    As PyTorch's CosineAnnealingLR, stepped after every batch; Loshchilov and Hutter, ICLR 2017, eq. 5. Before step 0
    it is the full rate.
    """
    if step <= 0:
        return recipe.learning_rate
    full, final = recipe.learning_rate, recipe.final_learning_rate
    return final + (full - final) * (1 + math.cos(math.pi * step / steps)) / 2
