"""The scripts for a GPU that is at hand for some minutes: their way from preparing to unpacking, and their commands.

Nothing is measured: a stand-in for Python notes what it is called with. A misspelt command would waste minutes there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from repro import cli
from repro.bench.configurations import choose_arms

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "benchmarks" / "borrowed_gpu"
# Notes its arguments; a test that passed is what the first call looks for.
STAND_IN = """\
#!/usr/bin/env bash
printf '%s\\037' "$@" >> "$CALLS"
echo >> "$CALLS"
[[ " $* " != *" pytest "* ]] || echo "9 passed"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with the scripts, and what they carry made in it."""
    if shutil.which("git") is None:
        pytest.skip("no git here")
    checkout = tmp_path / "project"
    shutil.copytree(SCRIPTS, checkout / "benchmarks" / "borrowed_gpu", ignore=shutil.ignore_patterns("__pycache__"))
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "all"]):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "typer-1-py3-none-any.whl").touch()
    (tmp_path / "archive").write_bytes(bytes(range(100)))
    run(checkout / "benchmarks" / "borrowed_gpu" / "prepare.sh", tmp_path / "archive", WHEELS=str(tmp_path / "wheels"))
    return checkout


def run(script: Path, *arguments: str | Path, **environment: str) -> str:
    command = ["bash", script, *arguments]
    variables = {**os.environ, **environment}
    # Elsewhere than in the project, as whoever calls may be: OUT is given relative to it.
    done = subprocess.run(
        command, env=variables, cwd=environment.get("CALLER"), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def called(project: Path, call: int, device: str) -> list[list[str]]:
    """The commands of a call, the home of the machine outlasting it."""
    there = project.parent
    stand_in = there / "stand-in"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    (there / "calls").write_text("")
    for name in ("nvidia-smi", "nvidia-cuda-mps-control"):
        tool = there / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text("#!/bin/sh\n")
        tool.chmod(0o755)
    places = {"OUT": f"out{call}", "CALLER": str(there), "KIT_HOME": f"{there}/home", "CALLS": f"{there}/calls"}
    places["PATH"] = f"{there}/bin{os.pathsep}{os.environ['PATH']}"
    told = run(
        project / ".borrowed_gpu" / "kit" / f"call{call}.sh", KIT_DEVICE=device, KIT_PYTHON=str(stand_in), **places
    )
    assert f"== call {call} took" in told
    steps = [line.split("\t") for line in (there / f"out{call}" / "steps.tsv").read_text().splitlines()]
    assert {code for _name, code, _seconds in steps} - {"0"} == set(), steps
    return [line.split("\037")[:-1] for line in (there / "calls").read_text().splitlines()]


def parameters(words: list[str]) -> dict[str, Any]:
    """What the command line makes of ``words``; it ends the test where they are none of its."""
    group: Any = typer.main.get_command(cli.app)
    while words[0] in getattr(group, "commands", {}):
        name, *words = words
        group = group.commands[name]
        if not hasattr(group, "commands"):
            break
    return dict(group.make_context(name, list(words)).params)


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_every_command_of_the_calls_can_be_given(
    project: Path, device: str, load_file: Callable[[Path], ModuleType]
) -> None:
    choices = load_file(ROOT / "benchmarks" / "choices.py")
    outputs: list[str] = []
    seen: set[str] = set()
    for call in (1, 2, 3):
        for words in called(project, call, device):
            if words[:2] == ["-m", "repro"]:
                seen.add(words[2])
                given = parameters(words[2:])
                if words[2] == "bench":
                    assert len(choose_arms(given["arms"], device)) >= 2
                    outputs.append(given["output"])
            elif words[0] == "benchmarks/choices.py":
                given = vars(choices.options().parse_args(words[1:]))
                assert list(choices.cells(given["cells"]))
                outputs.append(given["output"])
            elif words[0].endswith(".py"):
                seen.add(Path(words[0]).name)
                assert (ROOT / words[0]).exists()
    assert len(outputs) == len(set(outputs)) >= 5  # none overwrites another
    assert any(Path(output).name == "at-once-mps.json" for output in outputs) == (device == "cuda")
    assert seen == {"sweep", "bench", "data", "status", "kernels.py", "choose_jobs.py"}
    # What comes home: the records, and the whole archive was put together on the way.
    folder = project.parent / "unpacked"
    run(
        SCRIPTS / "home.sh", project.parent / "out3", folder, PYTHON=str(project.parent / "stand-in"), CALLS="/dev/null"
    )
    assert {"results", "measured", "log.txt", "steps.tsv"} <= {path.name for path in folder.iterdir()}
    archive = project.parent / "home" / "data" / "tiny-imagenet-200.tar.xz"
    assert archive.read_bytes() == (project.parent / "archive").read_bytes()


def test_a_checkpoint_comes_home_and_a_finished_run_s_does_not(project: Path) -> None:
    for seed, names in (("seed-0", ["run.json", "checkpoint.pt"]), ("seed-1", ["checkpoint.pt"])):
        folder = project.parent / "home" / "results" / "table1" / "row" / "ce" / seed
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).touch()
    for call in (1, 2, 3):  # the archive is whole after the third
        called(project, call, "cpu")
    stand_in = str(project.parent / "stand-in")
    run(SCRIPTS / "home.sh", project.parent / "out3", project.parent / "unpacked", PYTHON=stand_in, CALLS="/dev/null")
    found = (project.parent / "unpacked").rglob("*")
    names = {str(path.relative_to(project.parent / "unpacked" / "results")) for path in found if path.suffix == ".pt"}
    assert names == {"table1/row/ce/seed-1/checkpoint.pt"}


def chosen(tmp_path: Path, seconds: int, **speeds: dict[str, float]) -> tuple[str, str]:
    """The first and the last line of choose_jobs.py for images per second by record and way."""
    for name, ways in speeds.items():
        times = {"start_seconds": 8.0, "warm_up_seconds": 2.0}
        told = {way: {"images_per_second": speed, "runs": int(way.split()[0]), **times} for way, speed in ways.items()}
        record = {"cells": {"table1/shufflenetv2": told}}
        (tmp_path / f"{name.replace('_', '-')}.json").write_text(json.dumps(record))
    command = [sys.executable, SCRIPTS / "choose_jobs.py", str(seconds), tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, *reasons = done.stdout.splitlines()
    return first, reasons[-1]


def test_as_many_runs_at_a_time_as_complete_most(tmp_path: Path) -> None:
    alone, at_once = {"1 run": 50_000.0}, {"2 processes": 70_000.0, "4 processes": 150_000.0, "4 streams": 900_000.0}
    # A run alone takes 226 s. Four at a time take 298 s: four runs, two seeds of both losses.
    assert chosen(tmp_path, 350, alone=alone, at_once=at_once)[0] == "4 2 0"
    only_alone = chosen(tmp_path, 250, at_once={})
    assert only_alone == ("1 1 0", "1 at a time: 50,000 images/s, 226 s each, 1 complete")
    assert chosen(tmp_path, 230) == ("1 1 0", "one at a time: none would be complete")  # with a margin
    assert chosen(tmp_path, 350, at_once_mps={"4 processes": 600_000.0})[0] == "4 4 1"


def test_without_figures_one_at_a_time(tmp_path: Path) -> None:
    assert chosen(tmp_path, 350) == ("1 1 0", "one at a time: nothing was measured")


@pytest.mark.slow
@pytest.mark.parametrize("command", [["diagnose.py", "cpu", "10"], ["kernels.py", "table1/shufflenetv2/bias", "cpu"]])
def test_what_looks_into_a_step_runs_on_a_cpu(command: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, SCRIPTS / command[0], *command[1:]],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "FAIL" not in done.stdout
    assert ("PASS totals" in done.stdout) == (command[0] == "diagnose.py")
