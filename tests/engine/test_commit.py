from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import repro
from repro.engine.provenance import environment_facts

CPU = torch.device("cpu")


def commit(folder: Path, text: str) -> str:
    """A repository in ``folder`` with one commit; returns its name."""
    (folder / "repro").mkdir(parents=True)
    (folder / "repro" / "__init__.py").write_text(text)
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "init.defaultBranch=main")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", text)):
        subprocess.run(["git", *who, "-C", folder, *words], check=True)
    done = subprocess.run(["git", "-C", folder, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """A checkout that this package seems to be imported from, and its commit."""
    folder = tmp_path / "ours"
    name = commit(folder, "ours")
    monkeypatch.setattr(repro, "__file__", str(folder / "repro" / "__init__.py"))
    return folder, name


def test_the_commit_is_that_of_this_code_whatever_git_is_told(
    checkout: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, name = checkout
    other = tmp_path / "other"
    commit(other, "other")
    told = {"GIT_DIR": other / ".git", "GIT_WORK_TREE": other, "GIT_INDEX_FILE": other / ".git" / "index"}
    for variable, value in told.items():
        monkeypatch.setenv(variable, str(value))
    facts = environment_facts(CPU)
    assert (facts["git_commit"], facts["git_dirty"]) == (name, False)
    (folder / "repro" / "__init__.py").write_text("changed")
    assert environment_facts(CPU)["git_dirty"] is True


@pytest.mark.parametrize("error", [subprocess.TimeoutExpired("git", 10), subprocess.CalledProcessError(128, "git")])
def test_a_status_that_fails_is_unknown_and_never_clean(
    error: Exception, checkout: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Callable[..., Any] = subprocess.run

    def fail(command: list[str], **how: Any) -> Any:
        if "status" in command:
            raise error
        return run(command, **how)

    monkeypatch.setattr(subprocess, "run", fail)
    facts = environment_facts(CPU)
    assert (facts["git_commit"], facts["git_dirty"]) == (checkout[1], None)


def test_a_checkout_of_another_user_is_read_and_not_written_to(
    checkout: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git = tmp_path / "git"
    git.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"  *--no-optional-locks*safe.directory={checkout[0]}*rev-parse*) echo {checkout[1]};;\n"
        f"  *--no-optional-locks*safe.directory={checkout[0]}*status*) ;;\n"
        "  *) echo fatal: detected dubious ownership in repository >&2; exit 128;;\n"
        "esac\n"
    )
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    facts = environment_facts(CPU)
    assert (facts["git_commit"], facts["git_dirty"]) == (checkout[1], False)
