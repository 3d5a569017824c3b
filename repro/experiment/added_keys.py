"""Keys that were added after the first records, and how those records stay valid.

A run is identified by a hash of its configuration, defaults included, so a new key would change the hash of every
recorded run. List it here with its neutral value, the one at which a run computes what it computed before the key
existed. At this value it is left out of configurations and hashes; at any other value it is in both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# Section of the configuration ("" for a new section), key, neutral value as JSON data. Append; never change a line.
ADDED_KEYS: list[tuple[str, str, Any]] = [
    ("options", "initialization", "network"),
    ("", "sources", {}),
    ("recipe", "schedule", "steps"),
    ("recipe", "final_learning_rate", 0.0),
    ("recipe", "optimizer", "sgd"),
    ("recipe", "betas", [0.9, 0.999]),
    ("recipe", "epsilon", 1e-8),
    ("recipe", "label_smoothing", 0.0),
    ("options", "features", None),
    ("dataset", "image_size", None),
]


def without_neutral(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration (``Cell.determinants``) without the added keys at their neutral value."""
    kept = copy.deepcopy(dict(configuration))
    for section, key, neutral in reversed(ADDED_KEYS):  # a new section can be left out once the keys added to it are
        place = _section(kept, section)
        if place is not None and key in place and place[key] == neutral:
            del place[key]
    return kept


def with_neutral(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with every added key, to compare two of them key by key."""
    full = copy.deepcopy(dict(configuration))
    for section, key, neutral in ADDED_KEYS:
        place = _section(full, section)
        if place is not None:
            place.setdefault(key, copy.deepcopy(neutral))
    return full


def _section(configuration: dict[str, Any], section: str) -> dict[str, Any] | None:
    """The mapping at a dotted path; None if there is none, such as the weighting of cross-entropy."""
    place: Any = configuration
    for part in section.split(".") if section else ():
        place = place.get(part) if isinstance(place, dict) else None
    return place if isinstance(place, dict) else None


def all_differences(first: Any, second: Any, *, names: Sequence[str] = ("there", "here")) -> str:
    """Every key whose value differs, readable: ``recipe.batch_size is 64 there, 128 here; recipe.epochs is ...``."""
    return "; ".join(_differences(first, second, "", names))


def _differences(first: Any, second: Any, key: str, names: Sequence[str]) -> Iterator[str]:
    if not (isinstance(first, dict) and isinstance(second, dict)):
        yield f"{key or 'the configuration'} is {first!r} {names[0]}, {second!r} {names[1]}"
        return
    for name in sorted(first.keys() | second.keys()):
        if first.get(name) != second.get(name):
            yield from _differences(first.get(name), second.get(name), f"{key}.{name}" if key else name, names)
