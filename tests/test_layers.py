"""Imports have one direction: a part of the package knows those before it in this list, and none after it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import repro

PACKAGE = Path(repro.__file__).parent

LAYERS = (
    *("errors", "progress", "interruption", "environment", "machine", "wording"),
    *("experiment", "results", "analysis", "tables", "figures", "report"),
    *("data", "losses", "models", "engine"),
    *("api", "plugin_files", "bench"),
    *("sweep", "cli", "__main__"),
)
# What may be imported without PyTorch: whatever answers without training, the command line first of all.
WITH_TORCH = ("data", "losses", "models", "engine", "bench")
# What `biasrepro --help` has no time for.
SLOW_TO_IMPORT = ("torch", "torchvision", "pandas", "scipy", "matplotlib", "pydantic")


def parts() -> list[str]:
    return sorted(
        {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in PACKAGE.rglob("*.py")} - {"__init__"}
    )


def modules(part: str) -> list[str]:
    files = PACKAGE.glob(f"{part}.py") if (PACKAGE / f"{part}.py").exists() else (PACKAGE / part).rglob("*.py")
    names = (".".join(("repro", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in sorted(files))
    return [name.removesuffix(".__init__") for name in names]


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every module of this package that ``file`` imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: write imports from the top of the package"
            names = [f"repro.{alias.name}" for alias in node.names] if node.module == "repro" else [node.module or ""]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.startswith("repro."))


def newly_imported(names: list[str], watched: tuple[str, ...]) -> dict[str, list[str]]:
    """Which of the watched packages each module brings in, imported in this order by a fresh interpreter."""
    program = f"""
import importlib, json, sys
found = {{}}
for name in {names!r}:
    before = set(sys.modules)
    importlib.import_module(name)
    if brought := [package for package in {watched!r} if package in sys.modules and package not in before]:
        found[name] = brought
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def test_every_part_has_its_place() -> None:
    assert set(parts()) <= set(LAYERS), "a new part of the package: say where it belongs, and in docs/architecture.md"


@pytest.mark.parametrize("part", parts())
def test_no_part_imports_one_above_it(part: str) -> None:
    may_import = {part, *LAYERS[: LAYERS.index(part)]}
    files = [PACKAGE / f"{part}.py", *(PACKAGE / part).rglob("*.py")]
    upward = [
        f"{file.relative_to(PACKAGE)}:{line} imports {name}"
        for file in files
        if file.exists()
        for line, name in imported(file)
        if name.split(".")[1] in LAYERS and name.split(".")[1] not in may_import
    ]
    assert upward == []


def test_what_answers_without_training_never_imports_torch() -> None:
    names = [name for part in parts() if part not in (*WITH_TORCH, "__main__") for name in modules(part)]
    assert newly_imported(names, ("torch", "torchvision")) == {}


@pytest.mark.skipif(not (PACKAGE / "cli").exists(), reason="no command line yet")
def test_the_command_line_starts_without_anything_slow() -> None:
    assert newly_imported(["repro.cli"], SLOW_TO_IMPORT) == {}


def test_the_watch_for_torch_can_see_it() -> None:
    assert newly_imported(["repro.losses"], ("torch", "torchvision")) == {"repro.losses": ["torch"]}
