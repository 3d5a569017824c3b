"""Load the plugins that ``--plugin`` gives. A plugin is code that is run: load only files that you trust."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from repro import api
from repro.engine.code_hash import forget_files, own_code
from repro.errors import ConfigError, UserError
from repro.experiment.catalog import DATASETS, LOSSES, NETWORKS
from repro.experiment.plugins import PLUGINS, TORCHVISION, Plugin, plugin_of

# Names of other sources in a configuration.
RESERVED = (TORCHVISION, "images")


def load_plugins(files: Iterable[Path]) -> None:
    """Load each file, in this order. Raises ConfigError for one that cannot be a plugin, and for two of one name."""
    files = [Path(file).absolute() for file in files]
    for file in files:
        twins = [other for other in files if other.stem == file.stem]
        if len(twins) > 1:
            what = f"two plugins are called {file.stem}"
            raise ConfigError(what, where=str(file), hint="Give each once. Two files need two names.")
    for file in files:
        load_plugin(file)


def load_plugin(file: Path) -> Plugin:
    """Run a file and register what it decorates; replaces an earlier plugin of that name. Raises ConfigError.

    Every file beside it that it imports has to be in its hash, and what is hashed has to be what runs.
    """
    name = _checked_name(file)
    for catalog in (NETWORKS, LOSSES, DATASETS):
        for entry in [entry for entry in catalog if plugin_of(entry) == name]:
            del catalog[entry]
    PLUGINS.pop(name, None)
    forget_files()
    before = set(sys.modules)
    _run(file, name)
    if not any(plugin_of(entry) == name for entry in (*NETWORKS, *LOSSES, *DATASETS)):
        hint = "Decorate what it adds: from repro.api import network, loss, dataset. docs/your-own.md has an example."
        raise ConfigError("this file registers nothing", where=str(file), hint=hint)
    code = own_code(name)
    if (folder := code.unfollowed) is not None:
        what = f"it imports the folder {folder}, whose files would not be part of the run's identity"
        raise ConfigError(what, where=str(file), hint="Import single files that lie beside the plugin.")
    for followed in code.files:
        _require_that_it_runs(followed, file)
    for module in set(sys.modules) - before:
        _require_that_it_is_hashed(module, code.files, file)
    PLUGINS[name] = Plugin(name, file, code.sha256, code.files)
    return PLUGINS[name]


def _checked_name(file: Path) -> str:
    """The name of a plugin. Raises ConfigError if the file is missing, or its name cannot be a plugin's."""
    where, name = str(file), file.stem
    if not file.is_file():
        raise ConfigError("no such file" if not file.exists() else "this is not a file", where=where)
    if file.suffix != ".py":
        raise ConfigError("a plugin is a Python file, NAME.py", where=where)
    if not (name.isidentifier() and name.isascii()) or len(name) > 60:
        raise ConfigError(f"'{name}' cannot be the name of a plugin", where=where, hint="Such as my_study.py.")
    taken = name in RESERVED or name in sys.stdlib_module_names
    if not taken and name not in PLUGINS:
        spec = find_spec(name)
        taken = spec is not None and (spec.origin is None or Path(spec.origin).resolve() != file.resolve())
    if taken:
        raise ConfigError(f"'{name}' is the name of another module", where=where, hint="Rename the file: my_study.py.")
    return name


def _run(file: Path, name: str) -> None:
    """Run the file as module ``name``. Raises ConfigError, with the line of the file, for what it raises."""
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # last: files beside it replace no module
    spec = spec_from_file_location(name, file, loader=_Uncached(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with api.loading(name):
            spec.loader.exec_module(module)
    except UserError:
        raise
    except SyntaxError as error:
        where = f"{error.filename or file}:{error.lineno}"
        raise ConfigError(f"not Python: {error.msg}", where=where) from error
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_beside(frame.filename, file)]
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(file)
        raised = traceback.format_exception_only(error)[-1].strip()
        raise ConfigError(f"the plugin cannot be loaded: {raised}", where=where) from error


def _require_that_it_runs(followed: Path, plugin: Path) -> None:
    """Raises ConfigError if importing a ``followed`` file's name gives another: the hash would be of other code."""
    runs = _file_of(followed.stem)
    if followed.stem in sys.builtin_module_names or (runs is not None and runs.resolve() != followed.resolve()):
        what = f"`import {followed.stem}` runs {runs or 'a module of Python itself'}, not the file beside the plugin"
        hint = f"Rename {followed}, and its name where it is imported."
        raise ConfigError(what, where=str(plugin), hint=hint)


def _require_that_it_is_hashed(module: str, followed: Iterable[Path], plugin: Path) -> None:
    """Raises ConfigError if a loaded ``module`` beside the plugin is not one of the files whose code is hashed."""
    runs = _file_of(module)
    if runs is not None and _is_beside(str(runs), plugin) and runs not in followed:
        what = f"it imports {runs}, which would not be part of the run's identity"
        raise ConfigError(what, where=str(plugin), hint="Import a Python file, by name: import NAME.")


def _file_of(module: str) -> Path | None:
    """The file that importing ``module`` runs, or has run; None without one, and where it is not known."""
    if (loaded := sys.modules.get(module)) is not None:
        # Not getattr: a module that loads its parts when they are asked for would begin to.
        origin = vars(loaded).get("__file__") if isinstance(loaded, ModuleType) else None
    else:
        spec = find_spec(module)
        origin = spec.origin if spec is not None and spec.has_location else None
    return None if origin is None else Path(origin)


class _Uncached(SourceFileLoader):
    """Compiles the file itself: a cached version may be that of a file that changed within the same second."""

    def get_code(self, fullname: str) -> CodeType:
        source: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return source


def _is_beside(path: str, file: Path) -> bool:
    return Path(path).parent == file.parent
