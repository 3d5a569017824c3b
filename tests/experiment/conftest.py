"""No plugin of one test is loaded in the next."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from repro.engine.code_hash import forget_files
from repro.experiment.catalog import DATASETS, LOSSES, NETWORKS
from repro.experiment.plugins import PLUGINS, plugin_of


@pytest.fixture
def forget() -> Callable[[], None]:
    """A function that unloads all plugins."""

    def forget_plugins() -> None:
        for catalog in (NETWORKS, LOSSES, DATASETS):
            for name in [name for name in catalog if plugin_of(name)]:
                del catalog[name]
        PLUGINS.clear()
        forget_files()

    return forget_plugins


@pytest.fixture
def no_plugin_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forget: Callable[[], None]) -> Iterator[None]:
    """A test in the folder ``tmp_path``, after which no plugin is loaded, and no module from this folder."""
    monkeypatch.chdir(tmp_path)
    path, before = list(sys.path), set(sys.modules)
    yield
    forget()
    sys.path[:] = path
    for name in [name for name in set(sys.modules) - before if is_from(sys.modules[name], tmp_path)]:
        del sys.modules[name]


def is_from(module: ModuleType, folder: Path) -> bool:
    """Whether a module is of a file or a folder below ``folder``."""
    spec = getattr(module, "__spec__", None)
    place = spec and (spec.origin or next(iter(spec.submodule_search_locations or ()), None))
    return place is not None and Path(place).is_relative_to(folder)
