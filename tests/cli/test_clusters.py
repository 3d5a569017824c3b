"""What ``biasrepro sweep --executor ...`` says before anything is submitted."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro.experiment.config import find_table
from repro.sweep.selection import selected_runs

Say = Callable[..., Any]
ENGINES = {"ray": ["--executor", "ray", "--address", "auto"], "slurm": ["--executor", "slurm", "--partition", "gpu"]}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_dry_run_says_which_images_the_nodes_open(
    engine: str, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray" if engine == "ray" else "submitit")
    monkeypatch.chdir(tmp_path)
    sweep = ("sweep", "table2", "--seeds", 5, *ENGINES[engine], "--dry-run", "--root", "shared")
    shared = tmp_path / "shared" / "cifar100" / "decoded-v1.bin"
    said = say(*sweep)
    assert (said.code, said.err) == (0, "there is no folder results yet: no run is recorded\n")
    assert "runs   100 to train, 0 finished" in said.out
    assert f"data   each node opens {shared}, read-only" in said.out
    assert "biasrepro data fetch cifar100 --root shared" in said.out
    said = say(*sweep, "--node-data", "$TMPDIR/images")
    assert f"data   each node copies {shared} once to $TMPDIR/images, and opens the copy" in said.out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_says_what_the_runs_cost_as_far_as_records_tell(
    say: Say, results: Path, finish: Callable[..., None], fake_worker: ModuleType
) -> None:
    pytest.importorskip("submitit")
    sweep = ("sweep", "demo", *ENGINES["slurm"], "--dry-run", "--results", results, "--root", "shared")
    said = say(*sweep, "--gpus-per-job", 1)
    assert "time   unknown: no record of such runs on a GPU; on a node, biasrepro sweep demo --dry-run" in said.out
    assert f"--results {results} --root {Path('shared').absolute()} measures it" in said.out
    assert "disk   up to 172.9 MB under" in said.out
    run = selected_runs(find_table("demo"), [0])[0]
    made = fake_worker.record_of(run).provenance.model_copy(update={"device": "cuda", "duration_seconds": 3600.0})
    finish(run, provenance=made)
    said = say(*sweep, "--gpus-per-job", 1)
    assert "time   about 11.0 GPU-hours, from records of such runs on a GPU" in said.out
    assert "time   unknown: no record of such runs on a CPU" in say(*sweep).out


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_that_is_not_installed_is_one_message(engine: str, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    package, find = {"ray": "ray", "slurm": "submitit"}[engine], importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest))
    said = say("sweep", "demo", *ENGINES[engine])
    assert (said.code, said.out) == (2, "")
    assert f"--executor {engine} needs {package}, which is not installed here" in said.err
    assert f"pip install 'biasrepro[{engine}]'" in said.err


@pytest.mark.parametrize(
    ("gpus", "reserved"),
    [
        (("--gpus-per-job", "1.5"), None),
        (("--gpus-per-job", "3", "--jobs-per-gpu", "2"), None),
        (("--gpus-per-job", "0.5"), "0.5 GPU"),
        (("--gpus-per-job", "6", "--jobs-per-gpu", "2"), "3 GPU"),
        (("--jobs-per-gpu", "3"), "0.333333 GPU"),
    ],
)
def test_ray_is_asked_for_a_part_of_a_gpu_or_whole_ones(
    gpus: tuple[str, ...], reserved: str | None, say: Say, results: Path
) -> None:
    pytest.importorskip("ray")
    said = say("sweep", "demo", *ENGINES["ray"], *gpus, "--dry-run", "--results", results)
    if reserved is not None:
        assert (said.code, said.err) == (0, "")
        assert f"each reserves {reserved}" in said.out
    else:
        assert (said.code, said.out) == (2, "")
        assert "each run would reserve 1.5 GPUs, and Ray reserves a part of one GPU, or whole ones" in said.err


def test_a_sweep_is_not_looked_for_in_a_folder_that_is_not_there(say: Say, tmp_path: Path) -> None:
    said = say("sweep", "--stop", "--results", tmp_path / "mistyped")
    assert said.code == 2
    assert f"{tmp_path}/mistyped: there is no such results folder" in said.err
    said = say("sweep", "demo", "--stop", "--results", tmp_path)
    assert (said.code, said.out) == (0, "No sweep of demo is running here.\n")


def test_a_folder_of_nodes_is_a_cluster_s_and_a_whole_path(say: Say) -> None:
    said = say("sweep", "demo", "--node-data", "/scratch")
    assert said.code == 2
    assert "--node-data is for --executor ray or --executor slurm" in said.err
    said = say("sweep", "demo", *ENGINES["slurm"], "--node-data", "scratch")
    assert said.code == 2
    assert "a node has another working folder" in said.err


@pytest.mark.parametrize(
    ("setting", "hint"), [("array=3", "--array N sets how many jobs run at a time"), ("job-name=mine", "Leave it out")]
)
def test_what_jobs_are_found_by_is_not_to_be_set(setting: str, hint: str, say: Say) -> None:
    pytest.importorskip("submitit")
    said = say("sweep", "demo", *ENGINES["slurm"], "--sbatch", setting, "--dry-run")
    assert said.code == 2
    assert f"--sbatch {setting}: biasrepro sets {setting.partition('=')[0]} itself" in said.err
    assert hint in said.err
