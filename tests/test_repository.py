"""What stands beside the package: the lock, the citation, the licence, the commands that the README promises."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import repro

TOP = Path(repro.__file__).parent.parent
pytestmark = pytest.mark.skipif(not (TOP / "pyproject.toml").exists(), reason="installed, not checked out")

ADDRESS = re.compile(r"index-url|find-links|trusted-host|\"resolved\": *\"http|https?://\S+\.(whl|tgz|deb)\b")


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((TOP / "pyproject.toml").read_text())


def tracked() -> list[Path]:
    if shutil.which("git") is None or not (TOP / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=True).stdout
    return [TOP / name for name in listed.split("\0") if name and (TOP / name).exists()]


def locked() -> dict[str, str]:
    text = (TOP / "requirements.lock").read_text().replace(" \\\n", "")
    pins = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin = re.fullmatch(r"([\w.-]+)==([\w.]+)( ; [^#]*?)?((    --hash=sha256:[0-9a-f]{64})+)", line)
            assert pin, f"not name==version, perhaps a marker, hashes: {line}"
            pins[pin[1]] = pin[2]
    return pins


def name_of(requirement: str) -> str:
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def test_git_never_converts_a_line_ending() -> None:
    names = "\0".join(str(path.relative_to(TOP)) for path in tracked())
    command = ["git", "-c", "core.autocrlf=true", "check-attr", "-z", "--stdin", "text"]
    said = subprocess.run(command, cwd=TOP, input=names, capture_output=True, text=True, check=True).stdout
    assert set(said.split("\0")[2::3]) == {"unset"}


def test_the_citation_is_valid() -> None:
    pytest.importorskip("cffconvert", reason="cffconvert is not installed")
    # In a process of its own: cffconvert's dependencies are old and warn.
    command = [sys.executable, "-W", "ignore", "-c", "from cffconvert.cli.cli import cli; cli()"]
    done = subprocess.run([*command, "--validate"], cwd=TOP, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "valid" in done.stdout + done.stderr


def test_the_citation_has_what_readers_and_indexes_ask_for() -> None:
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    asked = {"abstract", "authors", "date-released", "keywords", "license", "message", "title", "type", "version"}
    assert asked <= citation.keys()


def test_version_and_licence_agree_everywhere() -> None:
    citation = yaml.safe_load((TOP / "CITATION.cff").read_text())
    assert citation["version"] == repro.__version__
    assert f"year    = {{{citation['date-released'][:4]}}}" in (TOP / "repro/cli/cite.py").read_text()
    assert citation["license"] == pyproject()["project"]["license"] == "MIT"
    assert (TOP / "LICENSE").read_text().startswith("MIT License")


def test_the_lock_holds_all_that_the_project_asks_for() -> None:
    project = pyproject()["project"]
    asked = [
        *project["dependencies"],
        *project["optional-dependencies"]["dev"],
        *pyproject()["build-system"]["requires"],
    ]
    assert {name_of(requirement) for requirement in asked} <= locked().keys()


def test_make_installs_no_file_that_the_lock_does_not_have() -> None:
    installs = [line for line in (TOP / "Makefile").read_text().splitlines() if "$(PIP) install" in line]
    assert ["--require-hashes" in line or "--no-deps -e ." in line for line in installs] == [True, True]


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
@pytest.mark.parametrize("code", [0, 3])
def test_what_pip_prints_goes_to_a_log_and_is_shown_if_it_fails(tmp_path: Path, code: int) -> None:
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(TOP / name, tmp_path / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(
        f'#!/bin/sh\n[ "$3" = install ] || exit 0\necho "Collecting one"; echo "a line" >&2; exit {code}\n'
    )
    python.chmod(0o755)
    done = subprocess.run(["make", "install"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    installs = 2 if code == 0 else 1  # the lock, then the checkout
    log = (tmp_path / ".venv" / "install.log").read_text()
    assert log == "Collecting one\na line\n" * installs + f"exit code {code}\n"
    assert (done.returncode == 0) == (code == 0)
    assert ("a line" in done.stdout) == (code != 0)
    assert ("All that pip printed is in .venv/install.log" in done.stdout) == (code != 0)
    assert any(tmp_path.glob(".venv/installed-*")) == (code == 0)


def test_the_lock_without_its_part_for_tests_installs_and_runs_the_checkout() -> None:
    """By the command of Dockerfile and docs/install.md, and by what the installed packages say that they need."""
    [command] = set(re.findall(r"sed '(/\^# to [^']+)' requirements.lock", (TOP / "Dockerfile").read_text()))
    assert f"sed '{command}' requirements.lock > run.txt" in (TOP / "docs" / "install.md").read_text()
    kept = subprocess.run(["sed", command, "requirements.lock"], cwd=TOP, capture_output=True, text=True, check=True)
    names = {name_of(line) for line in kept.stdout.splitlines() if re.match(r"[\w.-]+==", line)}
    assert "pytest" not in names
    asked = [*pyproject()["project"]["dependencies"], *pyproject()["build-system"]["requires"]]
    for name in names:
        with suppress(metadata.PackageNotFoundError):  # of another platform
            asked += metadata.requires(name) or []
    needed = [Requirement(text) for text in asked]
    here = [need for need in needed if need.marker is None or need.marker.evaluate({"extra": ""})]
    assert sorted({name_of(need.name) for need in here} - names) == []


def test_an_image_has_no_user_root_and_all_that_the_build_reads() -> None:
    text = (TOP / "Dockerfile").read_text()
    assert re.findall(r"^USER (.*)$", text, flags=re.MULTILINE) == ["1000:1000"]
    sent = {line[1:] for line in (TOP / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert [name for name in sent if not (TOP / name).exists()] == []
    project, build = pyproject()["project"], pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]
    read = {project["readme"], *project["license-files"], *build["packages"], *build["force-include"], "pyproject.toml"}
    assert {name.split("/")[0] for name in read} <= sent


def test_the_lock_pins_a_matching_pair_and_marks_what_only_linux_has() -> None:
    pins = locked()
    # torch 2.N comes with torchvision 0.(N + 14 or 15); the pair of this lock was installed and imported.
    assert (pins["torch"], pins["torchvision"]) == ("2.15.0", "0.29.2")
    for line in (TOP / "requirements.lock").read_text().splitlines():
        if re.match(r"nvidia-(?!ml-py)|cuda-|triton", line):
            assert line.endswith('; sys_platform == "linux" and platform_machine == "x86_64" \\'), line


def test_no_file_names_a_registry() -> None:
    for path in tracked():
        if path.resolve() != Path(__file__).resolve():
            assert not ADDRESS.search(path.read_text(encoding="utf-8", errors="ignore")), path


def test_no_large_file_is_tracked() -> None:
    assert [path for path in tracked() if path.stat().st_size > 1_000_000] == []


def test_every_marker_in_use_is_declared_and_every_declared_one_in_use() -> None:
    declared = {line.split(":")[0] for line in pyproject()["tool"]["pytest"]["ini_options"]["markers"]}
    builtin = {"parametrize", "skipif", "skip", "xfail", "usefixtures", "filterwarnings", "timeout"}
    used = set()
    for path in (TOP / "tests").rglob("*.py"):
        used |= set(re.findall(r"pytest\.mark\.(\w+)", path.read_text()))
    assert used <= declared | builtin
    assert declared - {"cuda", "real_data", "tex"} <= used


def test_ci_calls_the_test_command_and_nothing_that_repairs() -> None:
    script = (TOP / ".ci" / "run").read_text()
    assert "\nmake test" in script
    recipes = (TOP / "Makefile").read_text()
    assert "ruff format --check" in recipes
    assert "--fix" not in script + recipes
    assert (TOP / ".ci" / "run").stat().st_mode & 0o111
