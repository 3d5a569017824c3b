from __future__ import annotations

import os
import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro.cli.references import find_target
from repro.cli.sweep.request import SweepRequest
from repro.cli.sweep.steps import job_of, say_without_weights
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.machine import Gpu
from repro.results import RunFolder, read_failure, write_failure, write_record
from repro.results.ownership import own
from repro.results.weights_file import KeptWeights
from repro.sweep.devices.slots import VISIBLE
from repro.sweep.registry import register, registered
from repro.sweep.selection import selected_runs

pytestmark = pytest.mark.usefixtures("fake_training")

Say = Callable[..., Any]
Behave = Callable[[dict[str, str]], None]
Started = Callable[[], list[dict[str, Any]]]

SEED_0 = [f"demo/shufflenetv2/{column}/seed-0" for column in ("ce", "inverse_bias", "mean_bias", "bias")]


@pytest.fixture
def runs() -> list[Run]:
    return selected_runs(find_table("demo"), (0,))


def test_a_sweep_trains_all_cells_and_seeds_and_says_what_is_next(say: Say, results: Path, started: Started) -> None:
    said = say("sweep", "demo", "--seeds", "2", "--results", results)
    assert said.code == 0
    assert said.err == ""
    ids = [*SEED_0, *(run.replace("seed-0", "seed-1") for run in SEED_0)]
    assert sorted(note["run"] for note in started()) == sorted(ids)
    assert "demo: 8 runs to train; 2 at a time on cpu" in said.out
    for run in ids:
        assert f"start  {run} on cpu" in said.out
        assert re.search(rf"^done   {run}  90.0 % in (under )?\d+ s$", said.out, re.MULTILINE)
    assert "8 runs: 8 done" in said.out
    assert f"next    biasrepro table demo --results {results}" in said.out
    assert "\x1b" not in said.out


def test_deterministic_is_declared_for_every_run(say: Say, results: Path, fake_worker: ModuleType) -> None:
    declared = find_table("demo+execution.deterministic=true")
    fake_worker.prepare(results, selected_runs(declared, (0,)))
    said = say("sweep", "demo", "--seeds", "1", "--columns", "ce", "--deterministic", "--results", results)
    assert said.code == 0
    assert "done   demo+execution.deterministic=true/shufflenetv2/ce/seed-0" in said.out
    assert "biasrepro table demo+execution.deterministic=true" in said.out


def test_an_option_of_the_dry_run_trains_nothing_without_it(say: Say, results: Path, started: Started) -> None:
    said = say("sweep", "demo", "--no-measure", "--results", results)
    assert (said.code, started()) == (2, [])
    assert "--no-measure is for --dry-run" in said.err


def test_finished_runs_are_skipped(say: Say, results: Path, started: Started) -> None:
    say("sweep", "demo", "--seeds", "1", "--results", results)
    said = say("sweep", "demo", "--seeds", "0,1", "--columns", "ce", "--results", results)
    assert len(started()) == 5
    assert "1 run to train, 1 finished before" in said.out
    again = say("sweep", "demo", "--seeds", "1", "--results", results)
    assert len(started()) == 5
    assert again.code == 0
    assert "All 4 runs are finished." in again.out
    assert "biasrepro table demo" in again.out
    dry = say("sweep", "demo", "--seeds", "1", "--dry-run", "--results", results)
    assert dry.out.endswith("0 to train, 4 finished; 2 runs at a time on cpu, 1 thread each\nNothing was started.\n")


def test_overrides_go_to_the_workers_and_into_a_folder_of_their_own(
    say: Say, results: Path, started: Started, fake_worker: ModuleType
) -> None:
    table = "demo+execution.precision=bf16+recipe.decay_epochs=[1]+recipe.epochs=2"
    fake_worker.prepare(results, selected_runs(find_table(table), (0,)))
    setting = ["--set", "recipe.epochs=2", "--set", "recipe.decay_epochs=[1]", "--set", "execution.precision=bf16"]
    options = ["--seeds", "1", "--columns", "bias", "--allow-changed", "--anonymous", "--keep-weights"]
    said = say("sweep", "demo", *options, *setting, "--results", results)
    assert said.code == 1  # fake workers keep no weights
    assert f"{table}/shufflenetv2/bias/seed-0: trained elsewhere, and recorded without weights" in said.out
    assert [note["run"] for note in started()] == [f"{table}/shufflenetv2/bias/seed-0"]
    assert [started()[0][option] for option in ("allow_changed", "anonymous", "keep_weights")] == [True, True, True]
    assert (results / table / "shufflenetv2/bias/seed-0/run.json").exists()


def test_runs_recorded_without_weights_are_not_said_to_be_done_if_weights_are_asked_for(
    say: Say, results: Path, runs: list[Run], finish: Callable[..., None], started: Started
) -> None:
    finish(runs[0])
    finish(runs[1], status="diverged", reason="not finite at step 3")
    finish(runs[2], weights=KeptWeights.of(b"weights"))
    RunFolder.of(results, runs[2]).weights.write_bytes(b"weights")
    said = say("sweep", "demo", "--seeds", "1", "--keep-weights", "--results", results)
    assert (said.code, started()) == (2, [])
    assert f"error: --keep-weights: 1 run is recorded without weights:\n  {SEED_0[0]}\n" in said.err
    assert "Nothing was started. Move these run.json files away to train the runs again" in said.err
    assert say("sweep", "demo", "--seeds", "1", "--results", results).code == 0
    said = say("sweep", "demo", "--seeds", "1", "--columns", "mean_bias", "--keep-weights", "--results", results)
    assert (said.code, "All 1 runs are finished" in said.out) == (0, True)


def test_runs_that_others_record_without_weights_are_named_at_the_end(
    results: Path, runs: list[Run], finish: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    finish(runs[0])
    for keep_weights in (False, True):
        request = SweepRequest(table_name="demo", results=results, keep_weights=keep_weights)
        assert say_without_weights(request, runs[:2]) == keep_weights
    assert capsys.readouterr().out == f"{SEED_0[0]}: trained elsewhere, and recorded without weights\n"


def test_a_file_of_the_user_s_own_is_swept_by_its_path(
    say: Say, results: Path, own: Path, started: Started, fake_worker: ModuleType
) -> None:
    fake_worker.prepare(results, selected_runs(find_table(str(own)), (0,)), reference=str(own))
    said = say("sweep", own, "--seeds", "1", "--results", results)
    assert said.code == 0
    assert {note["run"] for note in started()} == {"mine/squeezenet/ce/seed-0", "mine/squeezenet/bias/seed-0"}
    assert f"biasrepro table {own}" in said.out


@pytest.mark.parametrize("reference", ["demo", "demo+recipe.decay_epochs=[1]+recipe.epochs=2", None])
def test_train_finds_the_very_run_that_a_sweep_hands_it(results: Path, own: Path, reference: str | None) -> None:
    request = SweepRequest(table_name=reference or f"{own}+execution.precision=bf16", results=results)
    for run in selected_runs(request.table, (0,)):
        command, target, *_ = job_of(request, run).arguments
        assert command == "train"
        assert find_target(target, [])[0] == run.cell


@pytest.mark.parametrize("name", ["own+v2.yaml", "runs+recipe.epochs=2/own.yaml"])
def test_a_node_is_given_the_absolute_path_of_a_file_whatever_its_name(
    own: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    own.rename(name)
    request = SweepRequest(table_name=name, settings=["recipe.epochs=7"], executor="ray")
    assert request.table.reference == f"{tmp_path / name}+recipe.epochs=7"


def test_a_failure_is_shown_at_once_and_the_rest_goes_on(
    say: Say, results: Path, runs: list[Run], behave: Behave
) -> None:
    behave({SEED_0[0]: "fail", SEED_0[1]: "diverge", SEED_0[2]: "SIGKILL"})
    said = say("sweep", "demo", "--seeds", "1", "--jobs", "1", "--results", results)
    assert said.code == 1
    log = RunFolder.of(results, runs[0]).log
    shown = said.out.index(f"failed {SEED_0[0]}")
    assert shown < said.out.index(f"start  {SEED_0[1]}")
    assert f"    the pixels ran out\n      Buy more pixels.\n    log: {log}\n" in said.out
    assert f"diverged {SEED_0[1]}" in said.out
    assert "killed by SIGKILL" in said.out
    assert "4 runs: 1 done, 1 diverged, 2 failed" in said.out
    summary = said.out[said.out.index("4 runs: ") :]
    assert f"failed  {SEED_0[0]}: the pixels ran out\n" in summary
    assert f"diverged  {SEED_0[1]}: not finite at step 3\n" in summary
    failure = read_failure(RunFolder.of(results, runs[0]))
    assert failure is not None
    assert failure.cause.startswith("the pixels ran out")


def test_failed_runs_are_tried_again_alone(say: Say, results: Path, behave: Behave, started: Started) -> None:
    behave({SEED_0[0]: "fail"})
    say("sweep", "demo", "--seeds", "1", "--columns", "ce,bias", "--results", results)
    behave({})
    said = say("sweep", "demo", "--seeds", "1", "--only", "failed", "--results", results)
    assert said.code == 0
    assert [note["run"] for note in started()].count(SEED_0[0]) == 2
    assert len(started()) == 3
    none_left = say("sweep", "demo", "--seeds", "1", "--only", "failed", "--results", results)
    assert "No run is left to train under --only failed, which leaves out 2 other unfinished runs." in none_left.out
    missing = say("sweep", "demo", "--seeds", "1", "--only", "missing", "--results", results)
    assert missing.code == 0
    assert len(started()) == 5


def test_fail_fast_stops_the_sweep(say: Say, results: Path, behave: Behave, started: Started) -> None:
    behave({SEED_0[0]: "fail beside another", SEED_0[1]: "wait"})
    said = say("sweep", "demo", "--fail-fast", "--results", results)
    assert said.code == 1
    assert len(started()) <= 3
    assert f"stop   {SEED_0[0]} failed, and --fail-fast was given" in said.out
    assert (results / SEED_0[1] / "checkpoint.pt").exists()
    assert "not started" in said.out
    assert "resume with  biasrepro sweep demo --fail-fast" in said.out


def test_a_record_of_another_configuration_stops_everything(
    say: Say, results: Path, runs: list[Run], finish: Callable[..., None], started: Started
) -> None:
    other = selected_runs(find_table("demo+recipe.epochs=2"), (0,))[0]
    finish(runs[0], configuration=other.configuration(), configuration_hash=other.hash)
    finish(runs[1])
    RunFolder.of(results, runs[1]).record.write_bytes(b"{}")
    said = say("sweep", "demo", "--results", results)
    assert said.code == 2
    assert started() == []
    assert f"{SEED_0[0]}: other configuration: recipe.epochs is 2 there, {runs[0].cell.recipe.epochs} here" in said.err
    assert f"{SEED_0[1]}: damaged: " in said.err


def test_a_run_in_other_hands_is_left_there_and_waited_for(
    say: Say,
    results: Path,
    runs: list[Run],
    started: Started,
    fake_worker: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("repro.sweep.driver.RECHECK_SECONDS", 0.05)
    folder = RunFolder.of(results, runs[0])
    begun, deadline = threading.Event(), time.monotonic() + 30

    def train_elsewhere() -> None:
        with own(folder) as ownership:
            begun.set()
            while len(started()) < 3 and time.monotonic() < deadline:
                time.sleep(0.02)
            write_record(folder, fake_worker.record_of(runs[0]), ownership.write)

    elsewhere = threading.Thread(target=train_elsewhere)
    elsewhere.start()
    assert begun.wait(30)
    said = say("sweep", "demo", "--seeds", "1", "--results", results)
    elsewhere.join()
    assert said.code == 0
    assert sorted(note["run"] for note in started()) == sorted(SEED_0[1:])
    assert "3 runs to train, 1 in training elsewhere" in said.out
    assert f"later  {SEED_0[0]}: in training by process {os.getpid()} on" in said.out
    assert "       4 of 4 done  1 of them by another process\n" in said.out
    assert "3 done, 1 done by another process" in said.out


@pytest.mark.parametrize(
    ("inherited", "options", "places"),
    [
        (None, [], {("GPU-aaaa", "2"), ("GPU-bbbb", "2")}),
        (None, ["--gpus", "1"], {("GPU-bbbb", "4")}),
        ("1,GPU-aaaa", ["--gpus", "1"], {("GPU-aaaa", "4")}),
        ("1", ["--jobs-per-gpu", "2", "--threads", "3"], {("1", "3")}),
    ],
)
def test_workers_get_the_gpus_that_this_process_was_given(
    say: Say,
    results: Path,
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
    inherited: str | None,
    options: list[str],
    places: set[tuple[str, str]],
) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    if inherited is not None:
        monkeypatch.setenv(VISIBLE, inherited)
    gpus = (Gpu(0, "GPU-aaaa", "NVIDIA H100"), Gpu(1, "GPU-bbbb", "NVIDIA H100"))
    monkeypatch.setattr("repro.machine.find_gpus", lambda: gpus)
    monkeypatch.setattr("repro.machine.usable_cores", lambda: 4)
    assert say("sweep", "demo", "--seeds", "1", *options, "--results", results).code == 0
    assert {(note["gpu"], note["threads"]) for note in started()} == places
    assert {note["device"] for note in started()} == {"cuda"}


def test_gpus_that_are_not_there_are_refused(say: Say, results: Path) -> None:
    for options in (["--gpus", "0"], ["--device", "cuda"]):
        said = say("sweep", "demo", *options, "--results", results)
        assert said.code == 2
        assert "no GPU is visible here" in said.err


def test_missing_data_are_one_message_before_anything_starts(
    say: Say, results: Path, tmp_path: Path, started: Started
) -> None:
    said = say("sweep", "table2", "--seeds", "1", "--root", tmp_path / "data", "--results", results)
    assert said.code == 2
    assert f"biasrepro data fetch cifar100 --root {tmp_path / 'data'}" in said.err
    assert started() == []


def test_a_results_folder_that_is_a_file_is_refused(say: Say, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        said = say("sweep", "demo", "--results", folder)
        assert said.code == 2
        assert str(folder) in said.err
        assert (folder.name == "file") or "cannot write to the results folder" in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_results_folder_without_permission_is_refused(say: Say, results: Path) -> None:
    results.chmod(0o500)
    said = say("sweep", "demo", "--results", results / "below")
    assert said.code == 2
    assert "cannot write to the results folder: Permission denied" in said.err


def test_a_dry_run_lists_runs_time_and_disk_and_starts_nothing(
    say: Say,
    results: Path,
    runs: list[Run],
    finish: Callable[..., None],
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("repro.cli.sweep.dry_run.device_name", lambda kind: "a processor")
    finish(runs[0])
    before = sorted(results.rglob("*"))
    said = say("sweep", "demo", "--seeds", "3", "--dry-run", "--results", results)
    assert said.code == 0
    assert started() == []
    assert sorted(results.rglob("*")) == before
    lines = said.out.splitlines()
    epochs = str(runs[0].cell.recipe.epochs)
    assert re.split(" {2,}", lines[1]) == ["demo/shufflenetv2/ce", "1-2", "1", epochs, "1 min", "records"]
    assert re.split(" {2,}", lines[2]) == ["demo/shufflenetv2/inverse_bias", "0-2", "0", epochs, "1 min", "records"]
    assert "11 to train, 1 finished; 2 runs at a time on cpu, 1 thread each" in said.out
    assert "about 0.18 core-hours, 5 min 30 s here" in said.out
    assert "disk   up to 48.1 MB" in said.out
    assert "Nothing was started." in said.out


def test_a_dry_run_measures_what_no_record_tells(say: Say, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.sweep.cost.estimate import Cost

    asked = []

    def measure(cells: list[Any], slot: Any, seconds: float) -> list[Cost]:
        asked.append(([cell.id for cell in cells], slot.device, slot.threads))
        return [Cost(36.0 * (index + 1), 1_000_000, "measured") for index in range(len(cells))]

    monkeypatch.setattr("repro.cli.sweep.dry_run.measure", measure)
    options = ["--seeds", "0,2,3", "--rows", "shufflenetv2,squeezenet", "--columns", "ce,bias"]
    said = say("sweep", "table2", *options, "--dry-run", "--results", results, "--root", results / "none")
    assert said.code == 0
    assert asked == [(["table2/shufflenetv2/ce", "table2/squeezenet/ce"], "cpu", 1)]
    assert "table2/shufflenetv2/bias  0, 2-3                 0     200           2 h  measured" in said.out
    assert "about 36.0 core-hours, 18 h here" in said.out
    assert "CIFAR-100 is not here: biasrepro data fetch cifar100" in said.out
    assert "168.5 MB to download" in said.out
    assert "too long" not in said.out


def test_a_dry_run_of_months_says_what_could_be_done(say: Say, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.sweep.cost.estimate import Cost

    monkeypatch.setattr(
        "repro.cli.sweep.dry_run.measure", lambda cells, *_: [Cost(14_000.0, 1_000_000, "measured") for _ in cells]
    )
    said = say("sweep", "table2", "--dry-run", "--results", results, "--root", results / "none")
    assert "1,620 d here" in said.out
    hint = next(line for line in said.out.splitlines() if "too long for this machine (over 30 d)" in line)
    for way_out in ("a GPU", "--executor", "--rows", "--seeds", "--set recipe.epochs=N"):
        assert way_out in hint


def test_a_dry_run_says_why_a_cell_cannot_be_measured(say: Say, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.sweep.cost.estimate import Cost

    problem = "the GPU's memory ran out"
    monkeypatch.setattr("repro.cli.sweep.dry_run.measure", lambda *_: [Cost(None, None, "unknown", problem)])
    said = say("sweep", "demo", "--seeds", "1", "--dry-run", "--results", results)
    assert said.code == 0
    assert "demo/shufflenetv2/ce cannot be measured: the GPU's memory ran out" in said.err
    assert "time   unknown" in said.out


def test_a_dry_run_without_measuring_says_that_time_is_unknown(say: Say, results: Path) -> None:
    said = say("sweep", "table2", "--seeds", "1", "--dry-run", "--no-measure", "--results", results)
    assert said.code == 0
    assert "time   unknown" in said.out
    assert said.err == ""


def test_a_dry_run_without_measuring_counts_the_checkpoints_and_says_when_the_disk_is_too_small(
    say: Say, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dry_run = ("sweep", "demo", "--seeds", "1", "--jobs", "1", "--dry-run", "--no-measure", "--results", results)
    said = say(*dry_run)
    assert "disk   up to 14.4 MB" in said.out  # three checkpoints of 600,000 weights and momenta, and four records
    assert "too little" not in said.out
    assert "disk   up to 24.6 MB" in say(*dry_run, "--keep-weights").out  # and four times 600,000 weights
    monkeypatch.setattr("repro.cli.sweep.dry_run.free_bytes", lambda folder: 14_000_000)
    said = say(*dry_run)
    assert said.code == 0
    assert "14.0 MB free" in said.out
    assert "too little: free some space" in said.out


def test_a_dry_run_says_what_stands_in_the_way(
    say: Say, results: Path, runs: list[Run], finish: Callable[..., None]
) -> None:
    finish(runs[0])
    RunFolder.of(results, runs[0]).record.write_bytes(b"{}")
    said = say("sweep", "demo", "--dry-run", "--no-measure", "--results", results)
    assert said.code == 2
    assert "damaged" in said.err


def test_a_failure_of_long_ago_does_not_fail_a_sweep_that_leaves_it_out(
    say: Say, results: Path, runs: list[Run]
) -> None:
    write_failure(RunFolder.of(results, runs[0]), "of long ago")
    assert say("sweep", "demo", "--seeds", "1", "--only", "missing", "--results", results).code == 0


def test_a_killed_sweep_is_forgotten_once_its_command_came_to_its_end(say: Say, results: Path) -> None:
    sweep = ("sweep", "demo", "--seeds", "1", "--results", str(results))
    for command in (shlex.join(["biasrepro", *sweep]), "biasrepro sweep demo"):
        killed = register(results, table="demo", executor="slurm", command=command)
        killed.note_left({"slurm": "7"})
        killed.path.write_text(killed.path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
    assert say(*sweep).code == 0
    assert [one.command for one in registered(results)] == ["biasrepro sweep demo"]
