"""A hash of the code that determines a run's numbers: what training reaches, of networks and losses only the run's own.

Starting from ``ROOTS`` and the run's own network, loss and decoder, every top-level definition that is reached by name
within ``PARTS`` is hashed as a syntax tree. What changes no number is left out of the tree: comments, docstrings,
annotations of functions, the text of errors and messages. So are modules that only inform or move bytes. What cannot
be followed by name is included as a whole.

Needs neither torch nor an import of what it reads, and gives the same hash under every supported version of Python.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from repro.experiment.catalog import LOSSES, NETWORKS, dataset_facts

PACKAGE = Path(__file__).resolve().parents[1]

# The parts of the package whose code is followed. A run's configuration has a hash of its own.
PARTS = ("repro.losses", "repro.models", "repro.engine", "repro.data")
ROOTS = ("repro.engine.training:train_run", "repro.data.cache:open_cache", "repro.data.cache:write_cache")
# These tell people how a run does, or move bytes that are verified where they arrive.
INFORMING = {
    *("repro.engine.changes", "repro.engine.checkpoint", "repro.engine.code_hash", "repro.engine.faults"),
    *("repro.engine.provenance", "repro.engine.reporting"),
    *("repro.data.archives", "repro.data.download", "repro.data.node_copy", "repro.data.prepare"),
}
# Calls for their own sake that tell somebody something, and the keywords that hold a text for people.
_TELLING = {"listen", "say", "print", "report", "tell", "warn"}
_TEXTS = {"message", "hint"}
# Fields of a syntax tree that say nothing, or not in all versions of Python.
_NEVER = {"ctx", "kind", "simple", "type_comment"}
_LOADERS = {"import_module", "__import__", "globals", "eval", "exec"}


@cache
def code_hash(model: str, loss: str, dataset: str) -> str:
    """SHA-256 (hex) of the code that trains network ``model`` with ``loss`` on ``dataset``."""
    network, chosen_loss = NETWORKS[model], LOSSES[loss]
    entries = (network.builder, chosen_loss.builder, dataset_facts(dataset).decoder)
    choices = (network.cpu_memory_format, sorted(chosen_loss.arguments.items()), chosen_loss.weighted)
    return hash_of(PACKAGE, (*ROOTS, *entries), repr(choices))


def hash_of(package: Path, roots: Iterable[str], choices: str = "") -> str:
    """SHA-256 (hex) of ``choices`` and all code that is reached from ``roots``, each as ``module:name``.

    ``package`` is the folder of this package. A root in another module is the user's own: that file is hashed whole.
    """
    reached = _Closure(package)
    for root in roots:
        module, _, name = root.partition(":")
        reached.add_root(module, name)
    digest = hashlib.sha256(f"{choices}\n".encode())
    for (module, name), text in sorted(reached.found.items()):
        digest.update(f"{module}:{name}\n{text}\n".encode())
    return digest.hexdigest()


class _Closure:
    """The definitions reached so far as text, by module and name; without a name, a module's other statements."""

    def __init__(self, package: Path) -> None:
        self._folder = package.parent
        self._files: dict[str, Path] = {}  # modules of the user's own
        self.found: dict[tuple[str, str], str] = {}

    def add_root(self, module: str, name: str) -> None:
        """Add an entry point, which may lie in a module of the user's own."""
        if module.split(".")[0] != "repro" and (spec := find_spec(module)) is not None and spec.origin is not None:
            self._files[module] = Path(spec.origin)
        self.add(module, name)

    def add(self, module: str, name: str) -> None:
        """Add what ``name`` stands for in ``module``, and all that it reaches; without a name, the whole module."""
        ours = module.startswith(PARTS) and module not in INFORMING
        path = self._path(module) if ours or module in self._files else None
        if path is None or (module, name) in self.found:
            return
        source = _parsed(path)
        whole = name in ("", "*") or module in self._files
        if not whole and name not in source.definitions and self._path(f"{module}.{name}"):
            self.add(f"{module}.{name}", "")  # a module, imported from its package
            return
        for reached in ("", *source.definitions) if whole else ("", name):
            if (module, reached) not in self.found and reached in source.definitions:
                self._add_definition(module, reached, source)
            for target in sorted(source.imports.get(reached, ())):
                self.add(*target)

    def _add_definition(self, module: str, name: str, source: _Module) -> None:
        text, names, imports = source.read(name)
        elsewhere: set[str] = set()
        self.found[module, name] = ""  # whatever is reached from here need not come back
        for used, attribute in sorted(names):
            if used in _LOADERS:  # it may reach anything
                self._add_all_parts()
            if used in source.definitions:
                self.add(module, used)
            for target, member in sorted(imports.get(used, set()) | source.imports.get(used, set())):
                if target.split(".")[0] != "repro":
                    elsewhere.add(f"{used} = {target}:{member}")
                    self._add_neighbour(module, target)
                elif attribute and self._path(f"{target}.{member}".rstrip(".")):
                    self.add(f"{target}.{member}".rstrip("."), attribute)
                else:
                    self.add(target, member)
        self.found[module, name] = "\n".join([*sorted(elsewhere), text])

    def _add_neighbour(self, module: str, target: str) -> None:
        """Add the module ``target`` that lies beside a user's own file, where that imports it."""
        if module in self._files and target not in self._files:
            beside = self._files[module].with_name(f"{target}.py")
            if beside.exists():
                self._files[target] = beside
                self.add(target, "")

    def _add_all_parts(self) -> None:
        for part in PARTS:
            base = self._folder.joinpath(*part.split("."))
            for path in sorted([base.with_suffix(".py")] if not base.is_dir() else base.rglob("*.py")):
                name = ".".join(path.relative_to(self._folder).with_suffix("").parts)
                self.add(name.removesuffix(".__init__"), "")

    def _path(self, module: str) -> Path | None:
        if module in self._files:
            return self._files[module]
        base = self._folder.joinpath(*module.split("."))
        candidates = (base / "__init__.py", base.with_name(f"{base.name}.py"))
        return next((path for path in candidates if path.exists()), None)


class _Module:
    """A parsed file: its top-level statements by the name they define ("" for none), and what its imports stand for."""

    def __init__(self, text: str) -> None:
        self.definitions: dict[str, list[ast.stmt]] = {"": []}
        self.imports: dict[str, set[tuple[str, str]]] = {}
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.Import | ast.ImportFrom | ast.If | ast.Try):
                for node in ast.walk(statement):
                    _note_imports(node, self.imports)
            for name in list(_defined(statement)) or [""]:
                self.definitions.setdefault(name, []).append(statement)

    def read(self, name: str) -> tuple[str, set[tuple[str, str]], dict[str, set[tuple[str, str]]]]:
        """A definition as text, the names it uses (with the attribute read of each, or ""), and its own imports."""
        reader = _Reader()
        text = reader.text(self.definitions[name])
        return text, reader.names, reader.imports


@cache
def _parsed(path: Path) -> _Module:
    return _Module(path.read_text(encoding="utf-8"))


def _note_imports(node: ast.AST, imports: dict[str, set[tuple[str, str]]]) -> None:
    """Note the names that an import gives, and for each the module and what of it ("": the module itself)."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            imports.setdefault(alias.asname or alias.name.split(".")[0], set()).add((alias.name, ""))
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            imports.setdefault(alias.asname or alias.name, set()).add((node.module or "", alias.name))


def _defined(statement: ast.stmt) -> Iterator[str]:
    """The names that a top-level statement defines or changes."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


class _Reader:
    """Writes syntax trees as text that is the same in all versions of Python, and notes names and imports on the way.

    The methods that are named like a kind of node say what is left out of it.
    """

    def __init__(self) -> None:
        self.names: set[tuple[str, str]] = set()
        self.imports: dict[str, set[tuple[str, str]]] = {}

    def text(self, node: object) -> str:
        """The text of a node, a list of nodes or a value; empty for what changes no number."""
        if isinstance(node, list):
            return f"[{', '.join(filter(None, map(self.text, node)))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        special = getattr(self, type(node).__name__, self._all_but)
        return str(special(node))

    def _all_but(self, node: ast.AST, *without: str) -> str:
        """The text of a node without positions, fields that are empty, and those named."""
        fields = []
        for name in node._fields:
            value = getattr(node, name, None)
            if value is not None and value != [] and name not in _NEVER and name not in without:
                fields.append(f"{name}={self.text(value)}")
        return f"{type(node).__name__}({', '.join(fields)})"

    def Constant(self, node: ast.Constant) -> str:
        return repr(node.value)

    def Name(self, node: ast.Name) -> str:
        self.names.add((node.id, ""))
        return node.id

    def Attribute(self, node: ast.Attribute) -> str:
        if isinstance(node.value, ast.Name):
            self.names.add((node.value.id, node.attr))
            return f"{node.value.id}.{node.attr}"
        return f"{self.text(node.value)}.{node.attr}"

    def Expr(self, node: ast.Expr) -> str:
        """Docstrings, and calls that only tell somebody something, are left out."""
        value = node.value
        is_text = isinstance(value, ast.Constant) and isinstance(value.value, str)
        is_told = isinstance(value, ast.Call) and _called(value) in _TELLING
        return "" if is_text or is_told else self.text(value)

    def Call(self, node: ast.Call) -> str:
        """The text of an error, and keywords that hold a text, are left out."""
        if _called(node).endswith("Error"):
            return self.text(node.func)
        keywords = [keyword for keyword in node.keywords if keyword.arg not in _TEXTS]
        return f"Call({self.text(node.func)}, {self.text(node.args)}, {self.text(keywords)})"

    def Raise(self, node: ast.Raise) -> str:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return f"Raise({self.text(raised)})"

    def Assert(self, node: ast.Assert) -> str:
        return self._all_but(node, "msg")

    def If(self, node: ast.If) -> str:
        """What only a type checker reads is left out."""
        is_typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return "" if is_typing else self._all_but(node)

    def FunctionDef(self, node: ast.FunctionDef) -> str:
        return self._all_but(node, "returns")

    def arg(self, node: ast.arg) -> str:
        return node.arg

    def ClassDef(self, node: ast.ClassDef) -> str:
        """Annotations of fields count: a class may read them."""
        body = []
        for statement in node.body:
            is_field = isinstance(statement, ast.AnnAssign)
            body.append(self._all_but(statement) if is_field else self.text(statement))
        return f"{self._all_but(node, 'body')}[{', '.join(filter(None, body))}]"

    def AnnAssign(self, node: ast.AnnAssign) -> str:
        """Elsewhere an annotated assignment is an assignment."""
        if node.value is None:
            return ""
        return self.text(ast.Assign(targets=[node.target], value=node.value))

    def JoinedStr(self, node: ast.JoinedStr) -> str:
        """How the texts of an f-string are split differs between versions: they are put together."""
        pieces = [""]
        for value in node.values:
            if isinstance(value, ast.Constant):
                pieces[-1] += str(value.value)
            else:
                pieces += [self.text(value), ""]
        return f"JoinedStr({pieces})"

    def Import(self, node: ast.Import | ast.ImportFrom) -> str:
        """An import counts by the names that are used of it."""
        _note_imports(node, self.imports)
        return ""

    ImportFrom = Import

    def Pass(self, node: ast.Pass) -> str:
        return ""


def _called(call: ast.Call) -> str:
    """The last name of what is called."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""
