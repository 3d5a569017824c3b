"""README and docs against the program: keys, commands, options and targets that they name are there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

import repro
from repro.cli import app
from repro.experiment import schema
from repro.experiment.config import builtin_names, find_table

TOP = Path(repro.__file__).parent.parent
DOCUMENTS = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
pytestmark = pytest.mark.skipif(not (TOP / "docs").is_dir(), reason="installed, not checked out")

SECTIONS = (
    *(schema.Table, schema.DatasetChoice, schema.Recipe, schema.Augmentation, schema.Weighting, schema.Execution),
    *(schema.Column, schema.Row, schema.ModelOptions, schema.Published),
)
NOT_KEYS = {"origin", "overrides"}


def commands(document: Path) -> list[list[str]]:
    """The words of every ``biasrepro`` command in a document, in lines of their own and between backticks."""
    text = document.read_text()
    lines = re.findall(r"^ *(biasrepro .+?) *(?:#.*)?$", text, flags=re.MULTILINE)
    inline = re.findall(r"`(biasrepro [^`]+)`", re.sub(r"\s*\n\s*", " ", text))
    parts = [part.strip() for one in (*lines, *inline) for part in one.split("&&")]
    return [shlex.split(part) for part in parts]


def parameters(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_is_documented(section: type[BaseModel]) -> None:
    text = (TOP / "docs" / "experiments.md").read_text()
    assert [key for key in section.model_fields if key not in NOT_KEYS and f"`{key}`" not in text] == []


def test_every_documented_default_is_the_schemas() -> None:
    text = (TOP / "docs" / "experiments.md").read_text()
    shown = {"True": "true", "False": "false", "0.0": "0"}
    for section in (schema.Recipe, schema.Augmentation, schema.Weighting, schema.Execution, schema.ModelOptions):
        for key, field in section.model_fields.items():
            if isinstance(field.default, (bool, int, float, str)):
                default = shown.get(str(field.default), str(field.default))
                rows = re.findall(rf"^\| `{key}` \|.*$", text, flags=re.MULTILINE)
                cells = [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]
                assert any(default in documented[1:3] for documented in cells), f"{key} is {default}: {rows}"


def test_every_built_in_experiment_is_documented_with_its_cells() -> None:
    text = (TOP / "docs" / "experiments.md").read_text()
    for name in builtin_names():
        [row] = re.findall(rf"^\| [^|]*`{name}`[^|]* \|[^|]*\| [\d, ]+ \|$", text, flags=re.MULTILINE)
        assert str(len(find_table(name).cells)) in re.findall(r"\d+", row.rsplit("|", 2)[1]), row


def test_the_documented_example_is_an_experiment(tmp_path: Path) -> None:
    [example] = re.findall(r"```yaml\n(.*?)```", (TOP / "docs" / "experiments.md").read_text(), flags=re.DOTALL)
    file = tmp_path / "own.yaml"
    file.write_text(example)
    assert [cell.id for cell in find_table(str(file)).cells] == ["mine/squeezenet/ce", "mine/squeezenet/bias"]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_that_is_shown_exists(document: Path) -> None:
    group: Any = typer.main.get_command(app)
    for words in commands(document):
        command, arguments = group, words[1:]
        while arguments and arguments[0] in getattr(command, "commands", {}):
            command, arguments = command.commands[arguments[0]], arguments[1:]
        assert command is not group or arguments[:1] in ([], ["--help"], ["--version"]), shlex.join(words)
        options = {word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
        assert options <= parameters(command) | {"--help"}, shlex.join(words)


def test_the_layers_of_the_package_have_every_folder() -> None:
    text = (TOP / "docs" / "architecture.md").read_text()
    folders = {path.parent.name for path in (TOP / "repro").glob("*/__init__.py")}
    assert len(folders) > 8
    assert sorted(folder for folder in folders if f"`{folder}/`" not in text) == []


def test_the_watch_sees_commands() -> None:
    seen = [words[1] for document in DOCUMENTS for words in commands(document)]
    assert {"data", "sweep", "table", "train", "status", "models", "doctor", "cite"} <= set(seen)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_path_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert target.startswith("http") or (document.parent / target).exists(), target
    for path in re.findall(r"`((?:docs|tests|experiments|repro)/[\w./]+)`", text):
        assert (TOP / path).exists(), path
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", text):
        if not target.startswith("http"):
            assert anchor in anchors(document.parent / (target or document.name)), f"{target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """The anchors that a forge makes of a document's headings, outside of its blocks of code."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_index_which_the_readme_links() -> None:
    linked = set(re.findall(r"\]\((\S+?\.md)\)", (TOP / "docs" / "README.md").read_text()))
    pages = {page.name for page in (TOP / "docs").glob("*.md")} - {"README.md"}
    assert sorted(pages - linked) == []
    assert "](docs/README.md)" in (TOP / "README.md").read_text()


def test_the_watch_sees_anchors() -> None:
    assert "a-minimal-file-of-your-own" in anchors(TOP / "docs" / "experiments.md")
    assert "nothing" not in anchors(TOP / "docs" / "experiments.md")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_picture_is_the_one_that_its_command_makes(document: Path, tmp_path: Path) -> None:
    text = document.read_text()
    made = dict(re.findall(r"<!-- made by: (biasrepro [^\n]*-o (\S+)) -->", text))
    made = {path: command for command, path in made.items()}
    pictures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert sorted(made) == sorted(os.path.relpath(document.parent / picture, TOP) for picture in pictures)
    for path, command in made.items():
        words = shlex.split(command)[1:]
        words[words.index(path)] = str(tmp_path / Path(path).name)
        done = subprocess.run([sys.executable, "-m", "repro", *words], cwd=TOP, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / Path(path).name).read_bytes() == (TOP / path).read_bytes(), command


def test_no_page_is_longer_than_250_lines_and_each_begins_with_what_it_is_for() -> None:
    for document in DOCUMENTS:
        lines = document.read_text().splitlines()
        assert len(lines) <= 250, document.name
        assert lines[0].startswith("# "), document.name
        if document != TOP / "README.md":
            assert re.match(r"[A-Z`]", lines[2]), f"{document.name}: {lines[2]}"


def readme_example() -> str:
    [example] = re.findall(r"```python\n(.*?)```", (TOP / "README.md").read_text(), flags=re.DOTALL)
    return str(example)


def test_the_example_of_the_readme_trains() -> None:
    import torch

    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 6, 5))
    parameters = [*backbone.parameters(), *head.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    names = {
        "backbone": backbone,
        "head": head,
        "loader": [(torch.rand(6, 3, 8, 8), torch.arange(6) % 5) for _ in range(2)],
        "optimizer": torch.optim.SGD(parameters, lr=0.1),
    }
    exec(readme_example(), names)
    assert not any(torch.equal(*pair) for pair in zip(before, parameters, strict=True))
    assert names["weights"].shape == (6,)


@pytest.mark.slow
def test_the_example_of_the_readme_has_types(tmp_path: Path) -> None:
    """By mypy as a user runs it, strictly, and what it makes of the results."""
    assert (TOP / "repro" / "py.typed").is_file()
    given = "import torch\nfrom torch import nn\nfrom torch.utils.data import DataLoader\n\n"
    given += "loader: DataLoader[tuple[torch.Tensor, torch.Tensor]]\n"
    given += "backbone: nn.Module\nhead: nn.Module\noptimizer: torch.optim.Optimizer\n"
    shown = "reveal_type(loss)\nreveal_type(losses)\nbuild_loss(3)\n"
    (tmp_path / "mine.py").write_text(given + readme_example() + shown)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--untyped-calls-exclude=torch",
            "--follow-imports=silent",
            "mine.py",
        ],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(TOP)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = re.sub(r"mine.py:\d+: ", "", done.stdout)
    assert 'Revealed type is "torch.nn.modules.module.Module"' in said
    assert 'Revealed type is "torch._tensor.Tensor"' in said
    assert 'Argument 1 to "build_loss" has incompatible type "int"; expected "str"' in said
    assert said.count("error: ") == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_the_make_targets_of_the_readme_exist() -> None:
    promised = set(re.findall(r"(?:`|^)make ([a-z]+)", (TOP / "README.md").read_text(), flags=re.MULTILINE))
    assert {"demo", "test", "quick"} <= promised
    for target in promised:
        done = subprocess.run(["make", "-n", target], cwd=TOP, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
