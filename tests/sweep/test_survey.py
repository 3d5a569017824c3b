from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_failure
from repro.results.ownership import own
from repro.results.store import records_without_epochs
from repro.results.weights_file import KeptWeights
from repro.sweep.selection import selected_runs
from repro.sweep.survey import Stage, state_of, survey


@pytest.fixture
def run(demo_runs: list[Run]) -> Run:
    return demo_runs[0]


@pytest.fixture
def folder(results: Path, run: Run) -> RunFolder:
    return RunFolder.of(results, run)


def test_nothing_there_is_to_do(folder: RunFolder, run: Run) -> None:
    assert state_of(folder, run).stage is Stage.MISSING


def test_a_record_of_the_same_configuration_is_done(folder: RunFolder, run: Run, finish: Callable[..., None]) -> None:
    finish(run)
    state = state_of(folder, run)
    assert state.stage is Stage.COMPLETED
    assert state.record is not None
    assert state.record.last_top1_percent == 90.0


def test_weights_are_kept_if_the_record_names_them_and_the_file_is_there(
    folder: RunFolder, run: Run, finish: Callable[..., None]
) -> None:
    finish(run, weights=KeptWeights.of(b"weights"))
    assert not state_of(folder, run).weights
    folder.weights.write_bytes(b"weights")
    assert state_of(folder, run).weights


def test_a_record_at_chance_level_says_so(folder: RunFolder, run: Run, finish: Callable[..., None]) -> None:
    finish(run, last_top1_percent=10.0)
    state = state_of(folder, run)
    assert (state.stage, state.detail) == (
        Stage.CHANCE,
        "10.00 % at the last epoch, and guessing reaches up to 14.78 %",
    )


def test_a_diverged_record_says_why(folder: RunFolder, run: Run, finish: Callable[..., None]) -> None:
    finish(run, status="diverged", reason="not finite at step 3")
    state = state_of(folder, run)
    assert (state.stage, state.detail) == (Stage.DIVERGED, "not finite at step 3")


def test_a_record_of_another_configuration_names_every_difference(
    folder: RunFolder, run: Run, finish: Callable[..., None]
) -> None:
    other = selected_runs(find_table("demo+recipe.batch_size=64+recipe.epochs=2"), (0,))[0]
    finish(run, configuration=other.configuration(), configuration_hash=other.hash)
    state = state_of(folder, run)
    assert (state.stage, state.detail) == (
        Stage.FOREIGN,
        f"recipe.batch_size is 64 there, 32 here; recipe.epochs is 2 there, {find_table('demo').recipe.epochs} here",
    )


@pytest.mark.parametrize("edit", [b"90.0", b"completed"])
def test_an_edited_record_is_damaged(folder: RunFolder, run: Run, finish: Callable[..., None], edit: bytes) -> None:
    finish(run)
    raw = folder.record.read_bytes()
    assert edit in raw
    folder.record.write_bytes(raw.replace(edit, b"9" * len(edit), 1))
    state = state_of(folder, run)
    assert state.stage is Stage.DAMAGED
    assert state.detail is not None
    assert "seal" in state.detail


def test_a_truncated_record_is_damaged(folder: RunFolder, run: Run, finish: Callable[..., None]) -> None:
    finish(run)
    folder.record.write_bytes(folder.record.read_bytes()[:-80])
    assert state_of(folder, run).stage is Stage.DAMAGED


def test_the_record_of_another_seed_is_damaged(
    results: Path, demo_runs: list[Run], finish: Callable[..., None]
) -> None:
    here, there = (RunFolder.of(results, run) for run in (demo_runs[0], demo_runs[4]))
    finish(demo_runs[4])
    shutil.copytree(there.path, here.path)
    state = state_of(here, demo_runs[0])
    assert state.stage is Stage.DAMAGED
    assert state.detail is not None
    assert demo_runs[4].id in state.detail


def test_a_failure_tells_its_cause(folder: RunFolder, run: Run) -> None:
    write_failure(folder, "the pixels ran out")
    state = state_of(folder, run)
    assert (state.stage, state.detail) == (Stage.FAILED, "the pixels ran out")


@pytest.mark.parametrize("name", ["checkpoint.pt", "checkpoint.previous.pt"])
def test_a_checkpoint_without_an_owner_is_interrupted(folder: RunFolder, run: Run, name: str) -> None:
    folder.path.mkdir(parents=True)
    (folder.path / name).touch()
    assert state_of(folder, run).stage is Stage.INTERRUPTED


def test_a_run_with_a_living_owner_is_running(folder: RunFolder, run: Run) -> None:
    write_failure(folder, "an earlier attempt")
    with own(folder):
        assert state_of(folder, run).stage is Stage.RUNNING
    assert state_of(folder, run).stage is Stage.FAILED


def test_a_run_of_another_machine_is_running_whatever_this_machine_s_clock_says(
    results: Path, folder: RunFolder, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with own(folder):
        monkeypatch.setattr("repro.results.ownership.this_place", lambda: "another machine")
        for minutes in (-3, 3):
            now = time.time() + 60 * minutes
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda now=now: now)
                assert survey(results, [run])[run.id].stage is Stage.RUNNING


def test_a_survey_has_a_state_for_every_run(results: Path, demo_runs: list[Run], finish: Callable[..., None]) -> None:
    finish(demo_runs[3])
    states = survey(results, demo_runs)
    assert [states[run.id].stage for run in demo_runs] == [
        Stage.COMPLETED if run is demo_runs[3] else Stage.MISSING for run in demo_runs
    ]


def test_whole_records_are_found_in_every_table(
    results: Path, demo_runs: list[Run], finish: Callable[..., None]
) -> None:
    other = selected_runs(find_table("table2"), (0,))[0]
    for run in (*demo_runs[:2], other):
        finish(run)
    RunFolder.of(results, demo_runs[1]).record.write_bytes(b"{}")
    assert {record.id for record in records_without_epochs(results)} == {demo_runs[0].id, other.id}


def test_a_survey_reads_each_record_once_and_keeps_none(
    results: Path, demo_runs: list[Run], finish: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for run in demo_runs[:5]:
        finish(run)
    read: Counter[Path] = Counter()
    read_bytes = Path.read_bytes

    def counting(path: Path) -> bytes:
        read[path] += 1
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counting)
    states = survey(results, demo_runs)
    records = [RunFolder.of(results, run).record for run in demo_runs]
    assert [read.pop(record, 0) for record in records] == [1] * 5 + [0] * (len(records) - 5)
    assert not read
    assert [state.record for state in states.values()] == [None] * len(demo_runs)
