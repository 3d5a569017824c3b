"""A hash of the code that determines a run's numbers: of what training reaches, with the run's own network and loss.

Starting from ``ROOTS`` and the run's network, loss and decoder, every top-level definition that is reached by name
within ``PARTS`` is hashed as a syntax tree. What changes no number is left out of the tree: comments, docstrings,
annotations of functions, the text of errors and messages. So are modules that only inform or move bytes. What cannot
be followed by name is included as a whole. So is a user's own file, with every file beside it that it imports, used by
name or not: importing one may register a loss.

Needs neither torch nor an import of what it reads, and gives the same hash under every supported version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from repro.experiment import catalog
from repro.experiment.catalog import DatasetFacts

PACKAGE = Path(__file__).resolve().parents[1]

# The parts of the package whose code is followed. A run's configuration has a hash of its own.
PARTS = ("repro.losses", "repro.models", "repro.engine", "repro.data")
ROOTS = ("repro.engine.training:train_run", "repro.data.cache:open_cache", "repro.data.cache:write_cache")
# These inform people, or move bytes that are verified on arrival.
INFORMING = {
    *("repro.engine.changes", "repro.engine.checkpoint", "repro.engine.code_hash", "repro.engine.faults"),
    *("repro.engine.energy", "repro.engine.final_weights", "repro.engine.provenance"),
    *("repro.engine.recording", "repro.engine.reporting"),
    *("repro.data.archives", "repro.data.download", "repro.data.node_copy", "repro.data.prepare"),
}
# Calls for their own sake that show something to people, and the keywords that hold a text for them.
_TELLING = {"listen", "say", "print", "report", "tell", "warn"}
_TEXTS = {"message", "hint"}
_SILENT_FIELDS = {"FunctionDef.returns", "arg.annotation", "Assert.msg", "Constant.kind"}
# A name that is used, as it stands in a syntax tree's text, and the attribute that is read of it.
_USE = re.compile(r"Name\(id='(\w+)', ctx=\w+\(\)\)(?:, attr='(\w+)')?")
# They may reach anything.
_LOADERS = {"import_module", "__import__", "globals", "eval", "exec"}
# A place in the code is a module and a name that it defines: "" for its other statements, WHOLE for all of it.
Place = tuple[str, str]
WHOLE = "*"


@cache
def code_hash(model: str, loss: str, dataset: str | DatasetFacts) -> str:
    """SHA-256 (hex) of the code that trains network ``model`` with ``loss`` on ``dataset``, a name or its facts."""
    facts = catalog.dataset_facts(dataset) if isinstance(dataset, str) else dataset
    network, chosen_loss = catalog.network(model), catalog.loss(loss)
    entries = (network.builder, chosen_loss.builder, facts.decoder)
    layouts = (network.cpu_memory_format, network.cuda_memory_format)
    choices = (*layouts, sorted(chosen_loss.arguments.items()), chosen_loss.weighted)
    shape = (facts.num_classes, facts.image_size)
    return hash_of(PACKAGE, (*ROOTS, *entries), repr((choices, shape)))


@cache
def shared_code_hash() -> str:
    """SHA-256 (hex) of the code that every run shares, whatever its network, loss and data set."""
    return hash_of(PACKAGE, ROOTS)


def hash_of(package: Path, roots: Iterable[str], choices: str = "") -> str:
    """SHA-256 (hex) of ``choices`` and all code that is reached from ``roots``, each as ``module:name``.

    ``package`` is the folder of this package. A root in another module is the user's own: that file is hashed whole,
    with the files beside it that it imports.
    """
    code = _Code(package.parent)
    return _hash(code, [code.root(*root.split(":")) for root in roots], choices)


def _hash(code: _Code, left: list[Place], choices: str = "") -> str:
    """SHA-256 (hex) of ``choices`` and all ``code`` that is reached from the places ``left``."""
    found: dict[Place, str] = {}
    while left:
        place = left.pop()
        if place not in found:
            found[place], reached = code.read(*place)
            left += reached
    digest = hashlib.sha256(f"{choices}\n".encode())
    for (module, name), text in sorted(found.items()):
        digest.update(f"{module}:{name}\n{text}\n".encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class OwnCode:
    """A file of the user's own with ``files``, those beside it that it imports; ``sha256`` is of their code.

    ``unfollowed`` is a folder of code beside them that is imported and not in it.
    """

    sha256: str
    files: tuple[Path, ...]
    unfollowed: str | None


def own_code(module: str) -> OwnCode:
    """The code of a user's own imported ``module``, without what it reaches of this package."""
    code = _Code(PACKAGE.parent, parts=())
    digest = _hash(code, [code.root(module, WHOLE)])
    return OwnCode(digest, tuple(code.own.values()), code.unfollowed)


def forget_files() -> None:
    """Read files again: a plugin may have changed."""
    _parsed.cache_clear()
    code_hash.cache_clear()


class _Code:
    """The code that is followed: ``parts`` of this package in ``folder``, and files of the user's own."""

    def __init__(self, folder: Path, parts: tuple[str, ...] = PARTS) -> None:
        self._folder = folder
        self._parts = parts
        self.own: dict[str, Path] = {}
        self.unfollowed: str | None = None

    def root(self, module: str, name: str) -> Place:
        """The place of an entry, which may be in a file of the user's own."""
        if not module.startswith("repro.") and (spec := find_spec(module)) is not None and spec.origin is not None:
            self.own[module] = Path(spec.origin)
        return module, name

    def read(self, module: str, name: str) -> tuple[str, list[Place]]:
        """What ``name`` stands for in ``module`` as text, and the places that it reaches."""
        path = self._file(module)
        assert path is not None
        texts, imports, imported = _parsed(path)
        reached: list[Place | None] = [(module, "")]
        if module in self.own:
            reached += [self._beside(first, module) for first in sorted(imported)]
            stars = [target for target in imports.get(WHOLE, ()) if target.startswith("repro.")]
            reached += [self._place(star, module) for star in stars]
        if module in self.own or (name not in texts and name not in imports):
            reached += [(module, defined) for defined in texts]
        text = texts.get(name, "")
        lines = {text}
        for used, attribute in _USE.findall(text) if text else [(name, "")]:
            if used in texts:
                reached.append((module, used))
            if used in _LOADERS:
                files = [path.relative_to(self._folder) for path in self._folder.glob("repro/**/*.py")]
                reached += [self._place(".".join(file.with_suffix("").parts), module) for file in files]
            for target in imports.get(used, ()):
                reached.append(self._place(f"{target}.{attribute}".rstrip("."), module))
                if not target.startswith("repro."):
                    lines.add(f"{used} = {target}")
        return "\n".join(sorted(lines)), [place for place in reached if place is not None]

    def _place(self, dotted: str, user: str) -> Place | None:
        """The place of a dotted name that is used in module ``user``; None where its code is not followed."""
        if user in self.own:
            self._beside(dotted.partition(".")[0], user)
        module, name = dotted, WHOLE
        while module and module not in INFORMING:
            if self._file(module) is not None:
                return module, name
            module, _, name = module.rpartition(".")
        return None

    def _beside(self, first: str, user: str) -> Place | None:
        """Where to begin in file ``first`` beside the user's own module ``user``, which is followed from now on."""
        beside = self.own[user].with_name(f"{first}.py")
        if first != "repro" and beside.exists():
            self.own.setdefault(first, beside)
            return first, ""
        folder = beside.with_suffix("")
        # An installed package takes precedence over a folder of its name, such as the one that wandb writes.
        if first != "repro" and _is_imported(folder) and any(folder.rglob("*.py")):
            self.unfollowed = first
        return None

    def _file(self, module: str) -> Path | None:
        """The file of a module that is followed; None for any other."""
        if not module.startswith(self._parts):
            return self.own.get(module)
        base = self._folder / module.replace(".", "/")
        return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.exists()), None)


def _is_imported(folder: Path) -> bool:
    """Whether ``folder`` is what importing its name gives."""
    if not folder.is_dir():
        return False
    spec = find_spec(folder.name)
    places = (spec and spec.submodule_search_locations) or ()
    return folder.resolve() in [Path(place).resolve() for place in places]


@cache
def _parsed(path: Path) -> tuple[dict[str, str], dict[str, set[str]], set[str]]:
    """A file's top-level statements as text, by the name that they define, and what imported names stand for.

    Third, the modules that running it imports, each without what follows a dot.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    statements: dict[str, list[ast.stmt]] = {"": []}
    for statement in tree.body:
        for name in _defined(statement) or [""]:
            statements.setdefault(name, []).append(statement)
    imports: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            package = f"{node.module}." if isinstance(node, ast.ImportFrom) and node.module else ""
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                imports.setdefault(name, set()).add(f"{package}{alias.name}")
    return {name: _text(defining) for name, defining in statements.items()}, imports, _imported(tree)


def _imported(tree: ast.Module) -> set[str]:
    """The modules that a file imports anywhere in it, except for type checkers, without what follows a dot."""
    found: set[str] = set()
    left: list[ast.AST] = [tree]
    while left:
        match left.pop():
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=otherwise):
                left += otherwise
            case ast.Import(names=names):
                found |= {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module), level=0):
                found.add(module.partition(".")[0])
            case node:
                left += ast.iter_child_nodes(node)
    return found


def _defined(statement: ast.stmt) -> list[str]:
    """The names that a top-level statement defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return [statement.name]
    if not isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        return []
    targets = ast.Tuple(statement.targets) if isinstance(statement, ast.Assign) else statement.target
    return [node.id for node in ast.walk(targets) if isinstance(node, ast.Name)]


def _text(node: Any) -> str:
    """A syntax tree as text, without what changes no number, or differs between versions of Python."""
    if isinstance(node, list):
        return f"[{', '.join(_text(item) for item in node if not _changes_nothing(item))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
        node = ast.Raise(node.exc.func, node.cause)  # without the error's text
    kept = []
    if isinstance(node, ast.AnnAssign):
        node = ast.Assign([node.target], node.value or node.target)
    elif isinstance(node, ast.ClassDef):  # where annotations count: a dataclass reads them
        kept = [_text(field.annotation) for field in node.body if isinstance(field, ast.AnnAssign)]
    kind = type(node).__name__
    for name, value in ast.iter_fields(node):
        if value not in (None, []) and f"{kind}.{name}" not in _SILENT_FIELDS:
            kept.append(f"{name}={_text(value)}")
    return f"{kind}({', '.join(kept)})"


def _changes_nothing(node: Any) -> bool:
    """Whether a statement or keyword argument changes no number. An import does by the names that are used of it."""
    match node:
        case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom():
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return True
        case ast.Expr(value=ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name))):
            return name in _TELLING
        case ast.keyword(arg=name):
            return name in _TEXTS
    return False
