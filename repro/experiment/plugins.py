"""Names with a slash: ``my_study/tinynet`` is what the plugin ``my_study.py`` registers as ``tinynet``.

Such a name is taken by its form, so that a table can be read, and its records shown, without the file. What is built or
trained needs it. The networks of torchvision are named likewise, ``torchvision/mobilenet_v3_small``, and taken by their
form because looking one up imports PyTorch.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from repro.errors import ConfigError, nearest


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin: ``name`` is its file's without ``.py``.

    ``sha256`` is of its code and of that of ``files``: the file, and those beside it that it imports.
    """

    name: str
    file: Path
    sha256: str
    files: tuple[Path, ...] = ()


PLUGINS: dict[str, Plugin] = {}
BUILT_BY = "built_by_plugin"  # the attribute of a network or loss that is the name of its plugin

TORCHVISION = "torchvision"
PLUGIN_NAME = r"^([A-Za-z_][A-Za-z0-9_]{0,63})/[A-Za-z0-9_.-]{1,64}$"  # in JSON Schema too
_NAME = re.compile(PLUGIN_NAME)


def plugin_of(name: str) -> str | None:
    """The plugin that a name is of: ``my_study`` of ``my_study/tinynet``; None for any other name."""
    match = _NAME.fullmatch(name)
    return match[1] if match and match[1] != TORCHVISION else None


def is_torchvisions(name: str) -> bool:
    """Whether a name is of a network of torchvision, if there is one of that name."""
    match = _NAME.fullmatch(name)
    return match is not None and match[1] == TORCHVISION


def known_sources(names: Iterable[str]) -> dict[str, str | None]:
    """The plugins that ``names`` are of, with the hash of each; None for one that is not loaded."""
    plugins = sorted({plugin for name in names if (plugin := plugin_of(name)) is not None})
    return {plugin: PLUGINS[plugin].sha256 if plugin in PLUGINS else None for plugin in plugins}


def plugin_options() -> list[str]:
    """The options of the command line that load the plugins of this process again."""
    return [word for plugin in PLUGINS.values() for word in ("--plugin", str(plugin.file))]


def place_in_plugin(error: BaseException) -> str | None:
    """The file and line of a plugin that raised ``error``, or called what did; None if no plugin was involved.

    The file alone if no line of it ran: a network of torch's own layers fails in their code.
    """
    files = {str(file) for plugin in PLUGINS.values() for file in plugin.files}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if frames:
        return f"{frames[-1].filename}:{frames[-1].lineno}"
    called = [frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__)]
    names = [getattr(module, "__dict__", {}).get(BUILT_BY) for module in called]
    return next((str(PLUGINS[name].file) for name in names if name in PLUGINS), None)


def is_taken_by_form(kind: str, name: str) -> bool:
    """Whether a name of a ``kind`` ("network", "loss", "data set") is of a plugin, or of a network of torchvision."""
    return plugin_of(name) is not None or (kind == "network" and is_torchvisions(name))


def checked_name(kind: str, name: str, valid: Iterable[str]) -> str:
    """``name``, if it is one of ``valid`` or taken by its form. Raises ConfigError with the nearest for any other."""
    valid = list(valid)
    if name not in valid and not is_taken_by_form(kind, name):
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
