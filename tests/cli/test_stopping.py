"""``sweep --stop`` and ``status --watch`` over registered sweeps whose cluster this machine may not have."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from repro.cli import watching
from repro.cli.sweep.request import SweepRequest
from repro.cli.sweep.steps import leave
from repro.cli.watching import show_sweeps
from repro.sweep.registry import FOLDER, Registration, forget_resumed, register, registered
from repro.sweep.slurm.backend import SlurmBackend, SlurmOptions

Say = Callable[..., Any]


def left(results: Path, *, executor: str = "slurm", detached: bool = True) -> Registration:
    """A sweep that nobody conducts any more, and whose work is on a cluster."""
    sweep = register(results, table="demo", executor=executor, command="biasrepro sweep demo", detached=detached)
    if not detached:
        fields = json.loads(sweep.path.read_text())
        sweep.path.write_text(json.dumps({**fields, "pid": 2**22 - 1, "process_start": "1"}) + "\n")
    if executor == "slurm":
        sweep.note_left({"slurm": "12"})
    hour_ago = time.time() - 3600
    os.utime(sweep.path, (hour_ago, hour_ago))
    return sweep


def plan(results: Path, sweep: str) -> str:
    """A batch that a sweep submitted; returns its id."""
    folder = results / FOLDER / "slurm" / secrets.token_hex(6)
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text(json.dumps({"sweep": sweep, "tasks": [["a run"]]}))
    return folder.name


def commands(folder: Path, monkeypatch: pytest.MonkeyPatch, *, queue: str, after: str) -> Path:
    """SLURM's commands; they note what they were told. The queue is empty once ``after`` was among them."""
    told = folder / "told"
    for name, says in (("squeue", queue), ("scancel", "")):
        then = f'grep -q {after} {told} || echo "{says}"'
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {told}\n{then}\n')
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return told


@pytest.mark.parametrize("detached", [True, False])
def test_what_slurm_has_of_a_sweep_is_stopped_though_its_conductor_was_killed(
    detached: bool, say: Say, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    sweep = left(results, detached=detached)
    batch = plan(results, sweep.id)
    told = commands(tmp_path, monkeypatch, queue=f"12|N/A|PENDING||Resources|biasrepro-{batch}", after="scancel")
    said = say("sweep", "--stop", "--results", results)
    assert (said.code, f"asked   sweep {sweep.id}" in said.out) == (0, True)
    assert "resume with  biasrepro sweep demo\n" in said.out
    assert "scancel --quiet --state=PENDING 12\n" in told.read_text()
    assert registered(results) == []


def test_only_jobs_that_bear_the_sweep_s_name_are_cancelled(
    say: Say, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    sweep = left(results)
    sweep.note_left({"slurm": "10,11,12,13"})
    plans = [plan(results, owner) for owner in ("f" * 12, sweep.id, sweep.id)]
    names = {10: "my-thesis"} | {11 + i: f"biasrepro-{batch}" for i, batch in enumerate(plans)}
    queue = "\n".join(f"{number}|N/A|PENDING||Resources|{name}" for number, name in names.items())
    told = commands(tmp_path, monkeypatch, queue=queue, after="scancel")
    for folder in (results / FOLDER / "slurm").iterdir():
        if folder.name in names[13]:
            folder.chmod(0o777)  # anybody may have written its plan
    assert say("sweep", "--stop", "--results", results).code == 0
    assert [line for line in told.read_text().splitlines() if "scancel" in line] == [
        "scancel --quiet --state=PENDING 12"
    ]
    assert SlurmBackend.queue_command({"slurm": "12; rm -rf x,13"}) == "squeue --jobs 13"


def test_every_sweep_is_asked_where_slurm_is_out_of_reach(
    say: Say, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    sweeps = [left(results), left(results)]
    said = say("sweep", "--stop", "--results", results)
    assert said.code == 0
    assert said.out.count("squeue cannot be run here") == 2
    assert all(one.stop for one in registered(results))
    assert len(registered(results)) == len(sweeps)
    assert "No sweep" not in said.out


def test_a_sweep_that_was_given_up_is_cleared_away(say: Say, results: Path) -> None:
    left(results, executor="ray").note_trouble("no room")
    (path,) = (results / FOLDER).glob("*.jsonl")
    os.utime(path, (1e9, 1e9))
    assert say("sweep", "--stop", "--results", results).out == "No sweep is running here.\n"
    assert registered(results) == []


def test_what_waits_in_slurm_s_queue_is_watched(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [0]

    def does_not_answer(left: Mapping[str, str]) -> bool:
        asked[0] += 1
        return False

    monkeypatch.setattr(SlurmBackend, "is_over", does_not_answer)
    monkeypatch.setattr(watching, "QUEUE_SECONDS", 1e9)
    sweep = left(results)
    assert show_sweeps(results, "demo")
    assert show_sweeps(results, "demo")
    assert asked == [1]  # the controller serves others, too
    sweep.remove()
    assert not show_sweeps(results, "demo")


def test_a_detached_sweep_one_of_whose_jobs_was_killed_is_over_with_the_others(
    say: Say, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmBackend, "is_over", lambda left: left == {"slurm": "12"})
    sweep = left(results)
    said = say("status", "demo", "--watch", "--results", results).out
    assert f"{sweep.id} of demo on slurm since {sweep.since}, over: none of its jobs is in the queue" in said
    assert "resume with  biasrepro sweep demo\n" in said
    assert said.endswith("Nothing is in training.\n")
    assert len(registered(results)) == 1  # its command is shown until it was given


@pytest.mark.parametrize("is_over", [True, False])
def test_a_detached_sweep_is_forgotten_when_its_table_is_swept_again_or_its_command_finds_nothing_to_do(
    results: Path, monkeypatch: pytest.MonkeyPatch, is_over: bool
) -> None:
    monkeypatch.setattr(SlurmBackend, "is_over", lambda left: is_over)
    sweep = left(results)
    forget_resumed(results, "biasrepro sweep demo --rows a")
    assert len(registered(results)) == 1
    forget_resumed(results, sweep.command)
    assert len(registered(results)) == (not is_over)
    sweep = left(results)
    new = register(results, table="demo", executor="local", command="biasrepro sweep demo")
    assert (sweep.id in {one.id for one in registered(results)}) == (not is_over)
    assert new.id in {one.id for one in registered(results)}


def test_a_sweep_that_is_in_the_queue_already_is_not_registered_twice(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SlurmBackend, "leave", lambda self, jobs, terms: {})
    leave(SweepRequest(table_name="demo", results=results, executor="slurm"), SlurmBackend(SlurmOptions()), [])
    assert "all runs are in slurm's queue already" in capsys.readouterr().out
    assert registered(results) == []
