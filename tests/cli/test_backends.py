"""A third backend is a folder: the command line sweeps on the toy in ``backends/toy``, and nothing else names it."""

from __future__ import annotations

import ast
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import repro
from repro.sweep.backends import THIS_MACHINE, backends
from repro.sweep.registry import registered

PACKAGE = Path(repro.__file__).parent
PROGRAM = Path(__file__).with_name("sweep_with_toy.py")
TOY = ("--executor", "toy", "--lane", "fast")
SEED_0 = [f"demo/shufflenetv2/{column}/seed-0" for column in ("ce", "inverse_bias", "mean_bias", "bias")]
PATIENCE_SECONDS = 60.0

Toy = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def toy(results: Path) -> Toy:
    """Runs ``biasrepro`` where the toy's folder is one of the backends'."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PROGRAM), *arguments, "--results", str(results)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)

    return run


def test_backends_are_the_folders_that_have_one() -> None:
    assert list(backends()) == ["ray", "slurm"]


def test_no_backend_is_named_outside_its_folder() -> None:
    names = {THIS_MACHINE, *backends()}
    found = []
    for path in PACKAGE.rglob("*.py"):
        place = path.relative_to(PACKAGE)
        if names.isdisjoint(place.parts):
            constants = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            found += [(str(place), node.value) for node in constants if node.value in names]
    assert found == [("sweep/backends.py", THIS_MACHINE)]


def test_a_sweep_trains_on_it(toy: Toy, results: Path) -> None:
    said = toy("sweep", "demo", "--seeds", "1", *TOY)
    assert (said.returncode, said.stderr) == (0, "")
    assert "demo: 4 runs to train; on toy" in said.stdout
    assert "4 runs: 4 done" in said.stdout
    assert all((results / run / "run.json").exists() for run in SEED_0)


def test_a_dry_run_shows_what_it_would_submit(toy: Toy, results: Path) -> None:
    said = toy("sweep", "demo", "--seeds", "1", *TOY, "--laps", "2", "--dry-run")
    assert said.returncode == 0
    assert "lane   fast, 4 jobs, 2 laps\n" in said.stdout
    assert said.stdout.endswith("Nothing was started.\n")
    assert not (results / ".sweeps").exists()


def wait_until(condition: Callable[[], object], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_what_is_left_to_it_goes_on_alone(toy: Toy, results: Path) -> None:
    said = toy("sweep", "demo", "--seeds", "1", *TOY, "--detach")
    assert (said.returncode, said.stderr) == (0, "")
    (queue,) = (results / ".toy").iterdir()
    assert f"demo: 4 runs left to toy, as sweep {queue.name}\n" in said.stdout
    assert f"queue   ls {queue}\n" in said.stdout
    wait_until(lambda: not registered(results), queue / "log")
    assert all((results / run / "run.json").exists() for run in SEED_0)


def test_what_is_left_to_it_is_watched_and_stopped(toy: Toy, results: Path, behave: Any) -> None:
    behave(dict.fromkeys(SEED_0, "wait"))
    assert toy("sweep", "demo", "--seeds", "1", *TOY, "--detach").returncode == 0
    (sweep,) = registered(results)
    queue = results / ".toy" / sweep.id
    wait_until(lambda: all((results / run / "ready").exists() for run in SEED_0[:2]), queue / "log")
    watch = [sys.executable, str(PROGRAM), "status", "demo", "--watch", "--every", "0.5", "--results", str(results)]
    shown = results / "shown"
    with shown.open("w") as file, subprocess.Popen(watch, stdout=file, stderr=file) as watching:
        wait_until(lambda: f"sweep    {sweep.id} of demo on toy" in shown.read_text(), shown)
        said = toy("sweep", "demo", "--stop")
        assert watching.wait(PATIENCE_SECONDS) == 0
    assert shown.read_text().endswith("Nothing is in training.\n")
    assert (said.returncode, said.stderr) == (0, "")
    assert f"asked   sweep {sweep.id} of demo on toy" in said.stdout
    assert (queue / "dropped").exists()
    assert [(results / run / "checkpoint.pt").exists() for run in SEED_0] == [True, True, False, False]
    assert registered(results) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lane", "fast"], "--lane is for --executor toy"),
        (["--executor", "ray", "--laps", "3"], "--laps is for --executor toy"),
        ([*TOY, "--partition", "gpu"], "--partition is for --executor slurm"),
        (["--detach"], "--detach is for --executor ray or --executor slurm or --executor toy"),
        (["--executor", "toy"], "--executor toy needs a lane"),
        ([*TOY, "--laps", "0"], "Invalid value for '--laps'"),
        (["--executor", "nowhere"], "'nowhere' is not one of 'local', 'ray', 'slurm', 'toy'"),
    ],
)
def test_options_belong_to_their_backend(toy: Toy, arguments: list[str], message: str) -> None:
    said = toy("sweep", "demo", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert message in said.stderr
