"""What keeps the code readable: short functions, few parameters, simple comprehensions, one module for one name."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import typer

import repro
from repro.cli import app

PACKAGE = Path(repro.__file__).parent
MOST_LINES = 60
MOST_PARAMETERS = 10
# These have the filter in them, or show a constant.
SHOWING = {"repro.cli.console", "repro.cli.output", "repro.cli.__init__", "repro.cli.cite"}
# Each backend is a folder with these two modules, found by their names; sweep/executor.py has the second's protocol.
IN_EVERY_BACKEND = {"backend", "executor"}
UNIT_OF_TIME = re.compile(r" ?(s|sec|seconds|min|minutes|h|hours|d|days)\b")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Offences = Iterator[tuple[int, str]]


def command_functions(group: typer.Typer = app) -> set[tuple[str, str]]:
    """Module and name of each function that is a command: its parameters are the command's options."""
    callbacks = [command.callback for command in group.registered_commands]
    found = {(callback.__module__, callback.__name__) for callback in callbacks if callback is not None}
    for below in group.registered_groups:
        assert below.typer_instance is not None
        found |= command_functions(below.typer_instance)
    return found


COMMANDS = command_functions()


def long_functions(tree: ast.Module, module: str) -> Offences:
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.end_lineno is not None:
            lines = node.end_lineno - node.lineno + 1
            if lines > MOST_LINES:
                yield node.lineno, f"{node.name} has {lines} lines, more than {MOST_LINES}: make a step a function"


def many_parameters(tree: ast.Module, module: str) -> Offences:
    for node in ast.walk(tree):
        if isinstance(node, Function) and (module, node.name) not in COMMANDS:
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([argument for argument in named if argument.arg not in ("self", "cls")])
            if count > MOST_PARAMETERS:
                yield node.lineno, f"{node.name} has {count} parameters, more than {MOST_PARAMETERS}: pass an object"


def nested_comprehensions(tree: ast.Module, module: str) -> Offences:
    for node in ast.walk(tree):
        if isinstance(node, COMPREHENSIONS):
            inner = [below for below in ast.walk(node) if isinstance(below, COMPREHENSIONS) and below is not node]
            if inner:
                yield node.lineno, "a comprehension inside a comprehension: name the inner one, or write a loop"


def raw_output(tree: ast.Module, module: str) -> Offences:
    """What commands show passes one filter, which keeps control codes and forged lines off the terminal."""
    if not module.startswith("repro.cli") or module in SHOWING:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in ("print", "Console") or called.endswith(("echo", "stdout.write", "stderr.write")):
                yield node.lineno, f"{called}: use say of repro.cli.console, or deliver of repro.cli.output"


def own_times(tree: ast.Module, module: str) -> Offences:
    """Numbers before a unit of time in an f-string: one function words every time that a person reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and module != "repro.wording":
            for value, after in pairwise(node.values):
                text = after.value if isinstance(after, ast.Constant) else ""
                if isinstance(value, ast.FormattedValue) and UNIT_OF_TIME.match(str(text)):
                    yield node.lineno, f"{ast.unparse(value)}{text[:10]}: use duration of repro.wording"


@pytest.mark.parametrize("rule", [long_functions, many_parameters, nested_comprehensions, raw_output, own_times])
def test_the_code_keeps(rule: Callable[[ast.Module, str], Offences]) -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        found += [f"{path.relative_to(PACKAGE.parent)}:{line}: {why}" for line, why in rule(tree, module)]
    assert not found, "\n" + "\n".join(found)


def test_no_two_modules_have_one_name() -> None:
    by_name = defaultdict(list)
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.stem not in ("__init__", "__main__", *IN_EVERY_BACKEND):
            by_name[path.stem].append(f"{path.relative_to(PACKAGE.parent)}:1")
    found = [f"{' and '.join(places)}: one module name in two parts" for places in by_name.values() if len(places) > 1]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (long_functions, "def f():\n" + "    pass\n" * MOST_LINES),
        (many_parameters, f"def f({', '.join(f'p{number}' for number in range(MOST_PARAMETERS + 1))}): pass"),
        (nested_comprehensions, "[[b for b in a] for a in c]"),
        (raw_output, "typer.echo(text)"),
        (own_times, "f'{seconds:.0f} s left'"),
    ],
)
def test_the_rules_can_be_broken(rule: Callable[[ast.Module, str], Offences], source: str) -> None:
    assert len(list(rule(ast.parse(source), "repro.cli.example"))) == 1


def test_commands_are_found() -> None:
    assert {("repro.cli.train", "train"), ("repro.cli.data", "fetch")} <= COMMANDS
