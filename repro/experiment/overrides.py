"""Overrides of an experiment file, of `--set recipe.epochs=2` and of a reference, `table2+recipe.epochs=2`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from repro.errors import ConfigError, nearest
from repro.experiment.diagnosis import key_model
from repro.experiment.recipe_checks import leave_out_idle_keys
from repro.experiment.schema import Table
from repro.experiment.strict_yaml import parse, quoted

# The sections that `--set` may change. Rows and columns are lists: to change those, write your own table.
OVERRIDABLE = ("dataset", "recipe", "weighting", "execution")


def with_overrides(data: dict[str, Any], overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The file's data with the overrides applied, and the overrides by key; of two for one key, the last one counts."""
    data = copy.deepcopy(data)
    applied: dict[str, Any] = {}
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(
                f"{quoted(text)} is not an override", hint="Write --set key=value, such as recipe.epochs=2."
            )
        parts = key.split(".")
        _require_overridable(key, parts)
        place: Any = data
        for part in parts[:-1]:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        applied[key] = parse(value, source=f"--set {key}").data
        _require_one_folder(key, applied[key])
        if isinstance(place, dict):  # else the file is wrong there, and the validation says so
            place[parts[-1]] = applied[key]
    if isinstance(data.get("recipe"), dict):
        leave_out_idle_keys(data["recipe"], [key.removeprefix("recipe.") for key in applied])
    return data, applied


def settable_keys() -> list[str]:
    """Every key that ``--set`` takes: ``recipe.epochs``."""
    keys = list(OVERRIDABLE)
    while groups := [key for key in keys if _keys_below(key)]:
        for group in groups:
            place = keys.index(group)
            keys[place : place + 1] = [f"{group}.{name}" for name in _keys_below(group)]
    return [key for key in keys if key != "dataset.path"]


def _keys_below(key: str) -> list[str]:
    """The keys in the group that a dotted key names; none if it has a value."""
    model: type[BaseModel] | None = Table
    for part in key.split("."):
        model = key_model(model, part) if model is not None else None
    return list(model.model_fields) if model is not None else []


def _require_one_folder(key: str, value: object) -> None:
    """Raise ConfigError for a value whose slash would put the results one folder deeper, where no record is read."""
    if isinstance(value, str) and "/" in value:
        raise ConfigError(
            f"{quoted(value)} has a slash, and an override is part of the name of the results folder",
            where=_where(key),
            hint="Put it into a YAML file of your own; `biasrepro config TABLE -o mine.yaml` begins one.",
        )


def _where(key: str) -> str:
    return f"--set {key if len(key) <= 80 else key[:77] + '...'}"


def _require_overridable(key: str, parts: list[str]) -> None:
    """Raise ConfigError unless ``key`` names a single value in a section that may be overridden."""
    where = _where(key)
    if parts[0] not in OVERRIDABLE:
        raise ConfigError(
            f"{quoted(parts[0])} cannot be set from the command line",
            where=where,
            hint=f"{nearest(parts[0], OVERRIDABLE)} To change rows or columns, write your own YAML file.",
        )
    if key == "dataset.path":
        hint = "Edit the file: a path is in no hash, so recorded runs stay valid."
        raise ConfigError("'dataset.path' cannot be set from the command line", where=where, hint=hint)
    model: type[BaseModel] | None = Table
    for depth, part in enumerate(parts):
        if model is None:
            raise ConfigError(f"'{'.'.join(parts[:depth])}' is a value, without keys", where=where)
        if part not in model.model_fields:
            raise ConfigError(f"unknown key {quoted(part)}", where=where, hint=nearest(part, model.model_fields))
        model = key_model(model, part)
    if model is not None:
        keys = ", ".join(f"{key}.{name}" for name in model.model_fields)
        raise ConfigError(f"'{key}' is a group of keys", where=where, hint=f"Set them one by one: {keys}.")
