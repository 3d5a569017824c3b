"""What changed between two halves of a run: readable, and sorted by whether a run can go on at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repro.errors import ConfigError
from repro.experiment.added_keys import with_neutral
from repro.experiment.schema import Run

# Another network, other images, another order of them: no half of this run can be continued with these.
_ANOTHER_RUN = ("seed", "model", "options", "dataset", "loss", "recipe.batch_size", "recipe.drop_last")


def check_changes(
    saved: Mapping[str, Any], run: Run, fingerprint: Mapping[str, str], *, accepted: bool, where: str
) -> list[str]:
    """The differences between a saved state and what would continue it, a line each.

    Raises ConfigError naming them, where there are any and they are not ``accepted``, or no run could accept them.
    """
    configuration = differences(with_neutral(saved["configuration"]), with_neutral(run.configuration()))
    epochs = run.cell.recipe.epochs
    final = [line for key, line in configuration.items() if _is_in(key, _ANOTHER_RUN)]
    if saved["epoch"] > epochs:
        final.append(f"recipe.epochs: {epochs}, and the run has come to epoch {saved['epoch']}")
    if final:
        raise ConfigError(
            "the run that was begun here is another one:\n  " + "\n  ".join(final),
            where=where,
            hint="Restore what changed, give another --results folder, or delete the checkpoints to begin again.",
        )
    changes = [*configuration.values(), *differences(saved["fingerprint"], fingerprint).values()]
    if changes and not accepted:
        raise ConfigError(
            "the first half of this run was made otherwise:\n  " + "\n  ".join(changes),
            where=where,
            hint="Restore what changed, accept it with --allow-changed (the record will say so), "
            "or delete the checkpoints to begin again.",
        )
    return changes


def differences(before: Any, now: Any, key: str = "") -> dict[str, str]:
    """By dotted key, ``key: was this, is that`` for every value that differs between two nested mappings."""
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


def _is_in(key: str, groups: tuple[str, ...]) -> bool:
    return any(key == group or key.startswith(f"{group}.") for group in groups)
