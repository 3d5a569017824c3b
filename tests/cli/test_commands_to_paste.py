"""Commands that are printed to be pasted: a shell reads a path with a space in it as one word."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import find_cell
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record
from repro.results.files import permission_hint

Say = Callable[..., Any]
PLUGIN = ["--plugin", "/my lab/losses.py"]
LOOKS = ["--looks", "5,10,20", "--declare"]


@pytest.fixture
def here(tmp_path: Path, own_text: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a table whose name has a space."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my own.yaml").write_text(own_text)
    return tmp_path


@pytest.mark.parametrize(
    ("given", "before", "shown", "after"),
    [
        (["data", "info", "--root", "my data"], "one: ", ["data", "info", "cifar100", "--root", "my data"], "\n"),
        (["config", "demo", "-o", "my.yaml"], "then ", ["sweep", "my.yaml", "--dry-run", *PLUGIN], "\n"),
        (["config", "demo", "-o", "my x.yaml"], "then ", ["sweep", "my x.yaml", "--dry-run", *PLUGIN], "\n"),
        (["config", "my own.yaml"], "# From `", ["config", "my own.yaml"], "`. docs"),
        (["plan", "my own.yaml", "--declare"], "Such as: ", ["plan", "my own.yaml", *LOOKS, *PLUGIN], "\n"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_a_command_to_paste_is_quoted(
    given: list[str], before: str, shown: list[str], after: str, here: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.cli.references.plugin_options", lambda: PLUGIN)
    said = say(*given)
    command = (said.out + said.err).partition(before)[2].partition(after)[0]
    assert shlex.split(command) == ["biasrepro", *shown]


def test_what_follows_a_name_with_a_line_s_end_is_in_the_comment(here: Path, own_text: str, say: Say) -> None:
    Path("my\nown.yaml").write_text(own_text)
    assert "# From `biasrepro config $'my\\nown.yaml'`." in say("config", "my\nown.yaml").out


def test_a_folder_to_be_made_is_quoted(here: Path, say: Say) -> None:
    assert "Make it: mkdir -p 'my tables'\n" in say("table", "table1", "-o", "my tables/x.md").err


def test_a_run_to_be_evaluated_is_quoted(here: Path, say: Say, fake_runs: Any) -> None:
    results = here / "my results"
    run = Run(cell=find_cell("demo/shufflenetv2/ce"), seed=0)
    other = run.cell.recipe.model_copy(update={"momentum": 0.5})
    folder = RunFolder.of(results, run)
    write_record(folder, fake_runs.record(Run(cell=run.cell.model_copy(update={"recipe": other}), seed=0)))
    said = say("evaluate", run.cell.id, "--results", results, "--root", "my data")
    assert f"name its folder: biasrepro evaluate '{folder.path}' --root 'my data'\n" in said.err


def test_a_path_to_be_opened_to_its_owner_is_quoted(here: Path) -> None:
    assert permission_hint(here / "my own.yaml") == f"Fix its permissions (chmod u+rwX '{here}/my own.yaml')"
