"""What changed since a checkpoint was saved, and whether the run can resume from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repro.errors import ConfigError
from repro.experiment.added_keys import with_neutral
from repro.experiment.schema import Run

# Another network, optimizer, other images or another order of them: the checkpoint is of no use to such a run.
_ANOTHER_RUN = (
    *("seed.", "model.", "options.", "dataset.", "loss."),
    *("recipe.batch_size.", "recipe.drop_last.", "recipe.optimizer."),
)
# Checkpoints of older versions lack these parts of the fingerprint: what they were is unknown, not changed.
_ADDED = {"processor", "images"}


def check_changes(
    saved: Mapping[str, Any], run: Run, fingerprint: Mapping[str, str], *, accepted: bool, where: str
) -> list[str]:
    """The differences between a saved state and the run that would resume from it, one line each.

    Raises ConfigError for differences that are not ``accepted``, and for those that no run can accept.
    """
    configuration = differences(with_neutral(saved["configuration"]), with_neutral(run.configuration()))
    epochs = run.cell.recipe.epochs
    final = [line for key, line in configuration.items() if f"{key}.".startswith(_ANOTHER_RUN)]
    if saved["epoch"] > epochs:
        final.append(f"recipe.epochs: {epochs}, but the checkpoint is at epoch {saved['epoch']}")
    if final:
        raise ConfigError(
            "the checkpoint belongs to another run:\n  " + "\n  ".join(final),
            where=where,
            hint="Restore what changed, use another --results folder, or delete the checkpoints to start over.",
        )
    before = saved["fingerprint"]
    now = {key: value for key, value in fingerprint.items() if key in before or key not in _ADDED}
    changes = [*configuration.values(), *differences(before, now).values()]
    if changes and not accepted:
        raise ConfigError(
            "the checkpoint was written with different settings:\n  " + "\n  ".join(changes),
            where=where,
            hint="Restore what changed, resume with --allow-changed (the record lists the changes), or delete the "
            "checkpoints to start over.",
        )
    return changes


def differences(before: Any, now: Any, key: str = "") -> dict[str, str]:
    """For every value that differs between two nested mappings, by dotted key: ``key: was this, is that``."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        found: dict[str, str] = {}
        for name in [*before, *(name for name in now if name not in before)]:
            found |= differences(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
        return found
    return {} if before == now else {key: f"{key}: was {_shown(before)}, is {_shown(now)}"}


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "absent" if value is None else str(value)
