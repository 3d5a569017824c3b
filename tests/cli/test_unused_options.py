"""An option that would change nothing is refused, by whichever command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Say = Callable[..., Any]
SWEEP = ["sweep", "demo"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "--every", "60"], "--every is for --watch"),
        (["status", "--set", "recipe.epochs=2"], "--set needs a table"),
        ([*SWEEP, "--device", "cpu", "--jobs-per-gpu", "2"], "--jobs-per-gpu and --device cpu exclude each other"),
        ([*SWEEP, "--gpus-per-job", "0"], "--gpus-per-job is for --executor ray or --executor slurm"),
        ([*SWEEP, "--no-measure"], "--no-measure is for --dry-run"),
        ([*SWEEP, "--stop", "--rows", "shufflenetv2"], "--rows and --stop exclude each other"),
        ([*SWEEP, "--stop", "--dry-run"], "--dry-run and --stop exclude each other"),
        (["sweep", "--stop", "--seeds", "3"], "--seeds and --stop exclude each other"),
        (["sweep", "--stop", "--set", "recipe.epochs=2"], "--set is for a TABLE: without one, all sweeps are stopped"),
        (
            [*SWEEP, "--executor", "slurm", "--jobs-per-gpu", "2", "--dry-run"],
            "--jobs-per-gpu is for jobs that reserve GPUs",
        ),
        ([*SWEEP, "--detach", "--fail-fast", "--executor", "slurm"], "--fail-fast and --detach exclude each other"),
        ([*SWEEP, "--detach", "--until-decided", "--executor", "slurm"], "--until-decided and --detach"),
        (["plan", "--spending", "pocock"], "--spending is for --looks"),
        (["plan", "table2", "--unseen"], "--unseen is for --declare"),
        (
            ["plan", "table2", "--looks", "5,10", "--declare", "--at", "5", "--power", "0.9"],
            "--power and --at and --declare exclude each other",
        ),
        (["table", "demo", "--compact", "--format", "csv"], "compact is for markdown, latex and html"),
        (["table", "demo", "--bold-best", "--format", "json"], "bold-best is for markdown, latex and html"),
        (["figure", "1", "table2"], "TABLE has no effect: figure 1 shows no runs"),
        (["figure", "curves", "demo", "--metric", "best"], "--metric has no effect: figure curves shows every epoch"),
        (["export", "demo", "--format", "schema"], "TABLE has no effect on the schema"),
        (["export", "--format", "schema", "--level", "runs"], "--level has no effect on the schema"),
        (["data", "fetch", "digits", "--from", "."], "--from has no effect"),
        (["bench", "--device", "cpu", "--arms", "augment,format", "--workers", "2"], "--workers is for the arm plain"),
        (["bench", "--device", "cpu", "--arms", "plain,augment", "--precision", "bf16"], "--precision is for format"),
        (["bench", "squeezenet", "--device", "cpu", "--recompute"], "--recompute is for DenseNets"),
        (
            ["bench", "densenet100_k12", "--device", "cpu", "--recompute", "--arms", "format,compile"],
            "torch cannot compile a network with --recompute",
        ),
    ],
)
def test_an_option_without_effect_is_refused(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir(exist_ok=True)
    said = say(*arguments)
    assert (said.code, said.out) == (2, "")
    assert says in said.err
    assert [path for path in tmp_path.rglob("*") if path.name != "results"] == []


def test_on_a_cluster_what_a_run_reserves_is_not_what_it_trains_on(say: Say, results: Path) -> None:
    slots = ("--executor", "ray", "--device", "cpu", "--gpus-per-job", "1", "--jobs-per-gpu", "2")
    said = say(*SWEEP, *slots, "--dry-run", "--no-measure", "--results", results)
    assert (said.code, said.err) == (0, "")
    assert "each reserves 0.5 GPU" in said.out


@pytest.mark.usefixtures("fake_training")
@pytest.mark.parametrize("number", ["2", "auto"])
def test_a_script_for_machines_with_gpus_runs_without_one_and_says_so(say: Say, results: Path, number: str) -> None:
    said = say(*SWEEP, "--jobs-per-gpu", number, "--dry-run", "--no-measure", "--results", results)
    assert said.code == 0
    assert said.err == f"--jobs-per-gpu {number} has no effect: no GPU is visible, runs use the CPU\n"
    assert say(*SWEEP, "--dry-run", "--no-measure", "--results", results).err == ""
