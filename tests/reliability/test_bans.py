"""What would break the promises is not in the package: unpickling, unpacking, unsafe YAML, shells, unguarded writes."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "repro"

# Who may write files other than through repro.results.durable, and why that breaks no promise.
MAY_WRITE = {
    "engine/checkpoint.py": "torch.save writes into memory there, and durable.py the bytes",
    "results/files.py": "empty files, for the server's time and for locks",
    "results/durable.py": "it is how files are written",
    "data/cache.py": "a temporary file, committed by durable.py",
    "data/image_folder.py": "a file without a name, which is gone when it is closed",
    "data/node_copy.py": "a .part file, committed by durable.py once it is whole and verified",
    "data/download.py": "a .part file, which gets its name once its checksum is right",
    "data/web_answer.py": "opens addresses and no files",
    "sweep/local/worker.py": "the run's log, which is only added to",
    "sweep/local/gpu_memory.py": "the run's log, which is only added to",
    "sweep/registry.py": "a sweep's notes on itself, which are only added to",
    "cli/output.py": "a pipe or a terminal, which no rename may replace",
    "bench/child.py": "its own standard output",
    "cli/__init__.py": "the traceback of a bug, in the system's folder of temporary files",
}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle"}
UNSAFE_YAML = {"load", "load_all", "safe_load", "safe_load_all", "full_load", "full_load_all", "unsafe_load"}
UNSAFE_YAML |= {"unsafe_load_all"}
WRITERS = {"write_text", "write_bytes", "to_csv", "to_json", "to_html", "to_latex", "to_pickle", "tofile", "memmap"}
WRITERS |= {
    "save_file",
    "serialize_file",
    "savez",
    "savez_compressed",
    "savetxt",
    "copyfile",
    "copyfileobj",
    "copy2",
    "copytree",
    "truncate",
}
# Names too common to be banned but on these modules.
WRITERS_OF = {("numpy", "save"), ("np", "save"), ("shutil", "copy"), ("shutil", "move"), ("torch", "save")}


def offences(tree: ast.Module) -> Iterator[tuple[int, str, bool]]:
    """Line, what is wrong there, and whether it is a write, of every call that is banned."""
    imported = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield from ((node.lineno, *found) for found in _offences_of(node, imported))


def _imported(tree: ast.Module) -> dict[str, tuple[str | None, str]]:
    """What a name stands for that an import gave: a module, or something of one."""
    names: dict[str, tuple[str | None, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {one.asname: (None, one.name) for one in node.names if one.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {one.asname or one.name: (node.module.rpartition(".")[2], one.name) for one in node.names}
    return names


def _offences_of(call: ast.Call, imported: dict[str, tuple[str | None, str]]) -> Iterator[tuple[str, bool]]:
    module, name = _called(call)
    if module is None and name in imported:
        module, name = imported[name]
    elif module in imported:
        module = imported[module][1].rpartition(".")[2]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    if module in UNPICKLERS and name in ("load", "loads", "open", "Unpickler"):
        yield f"{module}.{name} runs what it reads", False
    if name == "read_pickle":
        yield "read_pickle runs what it reads", False
    if name == "load" and module == "torch" and not _is(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True runs what it reads", False
    if _is(keywords.get("weights_only"), False):
        yield "weights_only=False runs what it reads", False
    if _is(keywords.get("allow_pickle"), True):
        yield "allow_pickle=True runs what it reads", False
    if name in ("extractall", "unpack_archive") or (name == "extract" and module in ("tar", "archive", "zipfile")):
        yield f"{name} writes wherever the archive says", False
    if module == "yaml" and name in UNSAFE_YAML:
        yield f"yaml.{name} is not strict, and may run what it reads", False
    if _is(keywords.get("shell"), True) or (module == "os" and name in ("system", "popen")):
        yield "a shell reads names as commands", False
    if module is None and name in ("eval", "exec"):
        yield f"{name} runs what it reads", False
    if (
        name in WRITERS
        and (call.args or name == "memmap")
        and not (name == "memmap" and _reads_only(keywords.get("mode")))
    ):
        yield f"{name} leaves half a file where it is interrupted", True
    if (module, name) in WRITERS_OF:
        yield f"{module}.{name} leaves half a file where it is interrupted", True
    if (mode := _mode(call, module, name, keywords)) and set(mode) & set("wax+"):
        yield f"open(…, {mode!r}) leaves half a file where it is interrupted", True
    opens = (module == "os" and name == "open") or name == "open_plain"
    if name == "open_log" or (opens and any(flag in ast.dump(call) for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))):
        yield f"{name} for writing", True


def _called(call: ast.Call) -> tuple[str | None, str]:
    """The name before the dot, where there is one, and the name called."""
    if isinstance(call.func, ast.Attribute):
        value = call.func.value
        if ast.unparse(value) == "safetensors.torch":  # it reads and makes bytes, and has no code in them
            return "safetensors.torch", call.func.attr
        before = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
        return before, call.func.attr
    return None, call.func.id if isinstance(call.func, ast.Name) else ""


def _mode(call: ast.Call, module: str | None, name: str, keywords: dict[str | None, ast.expr]) -> str | None:
    """The mode of an open(): of the builtin and io.open the second argument, of a path's the first."""
    if name not in ("open", "fdopen") or (module == "os" and name == "open"):
        return None
    place = 1 if module in (None, "io", "os", "gzip", "lzma", "bz2", "tarfile", "Image") else 0
    value = keywords.get("mode") or (call.args[place] if len(call.args) > place else None)
    if module == "tarfile" or value is None:
        return None
    if isinstance(value, ast.IfExp):
        return "".join(str(one.value) for one in (value.body, value.orelse) if isinstance(one, ast.Constant))
    return str(value.value) if isinstance(value, ast.Constant) else "w"  # what cannot be told is taken for the worst


def _is(value: ast.expr | None, constant: bool) -> bool:
    return isinstance(value, ast.Constant) and value.value is constant


def _reads_only(mode: ast.expr | None) -> bool:
    return isinstance(mode, ast.Constant) and mode.value in ("r", "c")


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nothing_banned_is_in_the_package(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    found = list(offences(ast.parse(path.read_text())))
    assert not [f"{name}:{line}: {what}" for line, what, is_write in found if not (is_write and name in MAY_WRITE)]
    if name in MAY_WRITE:
        assert any(is_write for _, _, is_write in found), f"{name} writes nothing any more: take it off the list"


def test_the_list_of_those_who_may_write_names_files_that_are_there() -> None:
    assert set(MAY_WRITE) <= {path.relative_to(PACKAGE).as_posix() for path in SOURCES}


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "pickle.loads(raw)",
        "pickle.Unpickler(file).load()",
        "import pickle as p; p.load(file)",
        "from pickle import loads; loads(raw)",
        "from joblib import load as read; read(path)",
        "pandas.read_pickle(path)",
        "from torch import load; load(path)",
        "yaml.safe_load(text)",
        "from yaml import load; load(text, SafeLoader)",
        "from shutil import unpack_archive as unpack; unpack(path)",
        "torch.save(state, path)",
        "safetensors.torch.save_file(tensors, path)",
        "numpy.save(path, array)",
        "import numpy as n; n.save(path, array)",
        "shutil.copy(one, other)",
        "from shutil import move; move(one, other)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "model(weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.unsafe_load(text)",
        "subprocess.run(command, shell=True)",
        "os.system(command)",
        "eval(text)",
        "exec(text)",
        "open(path, 'w')",
        "open(path, mode='ab')",
        "open(path, mode)",
        "path.open('w')",
        "path.open('xb')",
        "io.open(path, 'r+')",
        "os.fdopen(descriptor, 'w')",
        "path.write_text(text)",
        "path.write_bytes(raw)",
        "frame.to_csv(path)",
        "array.tofile(path)",
        "numpy.memmap(path, mode='r+')",
        "os.open(path, os.O_WRONLY | os.O_CREAT)",
    ],
)
def test_the_ban_knows_what_it_bans(line: str) -> None:
    assert list(offences(ast.parse(line)))


@pytest.mark.parametrize(
    "line",
    [
        "json.load(file)",
        "torch.load(buffer, weights_only=True)",
        "safetensors.torch.load(raw)",
        "safetensors.torch.save(tensors)",
        "open(path)",
        "path.open('rb')",
        "path.open()",
        "tarfile.open(fileobj=stream, mode='r|')",
        "os.open(folder, os.O_RDONLY)",
        "tar.extractfile(member)",
        "yaml.parse(text, Loader=yaml.SafeLoader)",
        "numpy.memmap(path, mode='c')",
        "os.write(descriptor, data)",
    ],
)
def test_the_ban_leaves_the_rest_alone(line: str) -> None:
    assert not list(offences(ast.parse(line)))


def test_the_linter_says_so_where_it_is_typed() -> None:
    lines = [
        *("import marshal, os, pickle, shelve, shutil, subprocess, tarfile, joblib, numpy, torch, yaml",),
        *("pickle.load(file)", "pickle.loads(raw)", "joblib.load(path)", "marshal.loads(raw)", "shelve.open(path)"),
        *("torch.load(path, weights_only=False)", "torch.load(path)", "torch.save(state, path)"),
        *("numpy.save(path, array)", "yaml.load(text, yaml.Loader)", "yaml.safe_load(text)", "yaml.unsafe_load(text)"),
        *("tarfile.open(path).extractall(folder)", "shutil.unpack_archive(path)"),
        *("os.system(command)", "subprocess.run(command, shell=True)"),
    ]
    text = "from __future__ import annotations\n" + "".join(f"{line}\n" for line in lines)
    command = [sys.executable, "-m", "ruff", "check", "--output-format", "json", "--no-cache"]
    done = subprocess.run(
        [*command, "--stdin-filename", str(PACKAGE / "results" / "typed.py"), "-"],
        input=text,
        capture_output=True,
        text=True,
        cwd=PACKAGE.parent,
        check=False,
    )
    bans = [found for found in json.loads(done.stdout) if re.fullmatch(r"S\d+|TID251", found["code"])]
    told = {found["location"]["row"] for found in bans}
    assert [line for number, line in enumerate(lines[1:], start=3) if number not in told] == []
