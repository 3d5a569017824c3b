"""Names of plugins: ``my_study/tinynet`` is what the file ``my_study.py`` registers as ``tinynet``.

Such a name is taken by its form, so that a table can be read, and its records shown, without the file. What is built or
trained needs it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from repro.errors import ConfigError, nearest


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: ``name`` is its file's without ``.py``, ``sha256`` of its code and of the files it imports."""

    name: str
    file: Path
    sha256: str


PLUGINS: dict[str, Plugin] = {}

_NAME = re.compile(r"([A-Za-z_]\w{0,63})/[\w.-]{1,64}", re.ASCII)


def plugin_of(name: str) -> str | None:
    """The plugin that a name is of: ``my_study`` of ``my_study/tinynet``; None for a name of the catalog."""
    match = _NAME.fullmatch(name)
    return match[1] if match else None


def known_sources(names: Iterable[str]) -> dict[str, str | None]:
    """The plugins that ``names`` are of, with the hash of each; None for one that is not loaded."""
    plugins = sorted({plugin for name in names if (plugin := plugin_of(name)) is not None})
    return {plugin: PLUGINS[plugin].sha256 if plugin in PLUGINS else None for plugin in plugins}


def checked_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """``name``, if it is one of ``valid`` or of a plugin. Raises ConfigError with the nearest name for any other."""
    valid = list(valid)
    if name not in valid and plugin_of(name) is None:
        raise ConfigError(f"unknown {kind} {name!r}", hint=nearest(name, valid))
    return name


def missing(kind: str, name: str, registered: Iterable[str]) -> ConfigError:
    """The error for a name of a plugin that is not loaded, or that registers no such name."""
    plugin, _, own_name = name.partition("/")
    if plugin not in PLUGINS:
        return ConfigError(f"the {kind} {name} comes from a plugin", hint=f"Give its file: --plugin {plugin}.py")
    own = [known.partition("/")[2] for known in registered if plugin_of(known) == plugin]
    what = f"the plugin {plugin} registers no {kind} {own_name!r}"
    return ConfigError(what, where=str(PLUGINS[plugin].file), hint=nearest(own_name, own))
