"""Contradictions between the keys of a recipe, and the keys that its optimizer or schedule does not have."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from repro.experiment.catalog import LOSSES
from repro.experiment.diagnosis import Problem
from repro.experiment.schema import Recipe

# The keys that only one optimizer or schedule has.
_OWN_KEYS: dict[str, dict[str, tuple[str, ...]]] = {
    "optimizer": {"sgd": ("momentum", "nesterov"), "adamw": ("betas", "epsilon")},
    "schedule": {"steps": ("decay_epochs", "decay_factor"), "cosine": ("final_learning_rate",)},
}


def leave_out_idle_keys(recipe: dict[str, Any], overridden: Collection[str]) -> None:
    """Leave out of ``recipe``, raw data, the file's keys that an overriding optimizer or schedule does not have.

    ``overridden`` are the keys of the recipe that are set on the command line, which stay.
    """
    for choice in _OWN_KEYS:
        if choice in overridden:
            for key in _keys_of_others(choice, recipe[choice]):
                if key not in overridden:
                    recipe.pop(key, None)


def recipe_problems(recipe: Recipe, train_count: int | None, losses: Iterable[str]) -> Iterator[Problem]:
    """The contradictions in ``recipe`` for so many training images, None if unknown, and these losses."""
    if recipe.drop_last and train_count is not None and recipe.batch_size > train_count:
        reason = f"{train_count:,} images are less than a batch of {recipe.batch_size:,}, and drop_last is true"
        yield Problem(("recipe", "batch_size"), reason)
    if list(recipe.decay_epochs) != sorted(set(recipe.decay_epochs)):
        yield Problem(("recipe", "decay_epochs"), "the epochs must increase")
    if recipe.warmup_epochs > recipe.epochs:
        reason = f"{recipe.warmup_epochs} epochs of warm-up are more than the {recipe.epochs} epochs of training"
        yield Problem(("recipe", "warmup_epochs"), reason)
    if recipe.schedule == "cosine" and recipe.final_learning_rate > recipe.learning_rate:
        reason = f"{recipe.final_learning_rate} is above the learning rate, {recipe.learning_rate}"
        yield Problem(("recipe", "final_learning_rate"), reason)
    if recipe.optimizer == "sgd" and recipe.nesterov and not recipe.momentum:
        yield Problem(("recipe", "nesterov"), "Nesterov's momentum needs a momentum above 0")
    unsmoothed = [loss for loss in losses if loss in LOSSES and not LOSSES[loss].label_smoothing]
    if recipe.label_smoothing and unsmoothed:
        reason = f"the loss '{unsmoothed[0]}' has no label smoothing"
        yield Problem(("recipe", "label_smoothing"), reason, "Leave it out, or take the columns without it out.")
    for choice, own in _OWN_KEYS.items():
        chosen = getattr(recipe, choice)
        for key in _keys_of_others(choice, chosen):
            if key in recipe.model_fields_set:
                reason = f"{choice} '{chosen}' has no '{key}'"
                yield Problem(
                    ("recipe", key), reason, f"Leave it out. Keys of '{chosen}': {', '.join(own[chosen])}.", True
                )


def recipe_warnings(recipe: Recipe, overridden: Collection[str]) -> Iterator[Problem]:
    """What is perhaps not meant in a valid ``recipe``; ``overridden`` are its keys that the command line sets."""
    if late := [epoch for epoch in recipe.decay_epochs if epoch >= recipe.epochs]:
        key = "epochs" if "epochs" in overridden and "decay_epochs" not in overridden else "decay_epochs"
        epochs = f"epoch{'s' if len(late) > 1 else ''} {', '.join(map(str, late))}"
        reason = f"the decay after {epochs} is never reached: training ends with epoch {recipe.epochs}"
        yield Problem(("recipe", key), reason, "Decay earlier (recipe.decay_epochs), or leave these epochs out.")


def _keys_of_others(choice: str, chosen: Any) -> list[str]:
    """The keys that other values of ``choice`` have and ``chosen`` does not; none for an unknown value."""
    own = _OWN_KEYS[choice]
    if chosen not in list(own):  # a list: the value may be of any type
        return []
    others = [keys for name, keys in own.items() if name != chosen]
    return [key for keys in others for key in keys]
