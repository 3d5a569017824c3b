from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.schema import Run
from repro.sweep import cluster_node as remote
from repro.sweep.cluster_node import NodeSettings, NotShared, RemoteJob, run_on_node, slots_here
from repro.sweep.devices.slots import VISIBLE
from repro.sweep.executor import Job
from repro.sweep.local import watchdog as silence
from repro.sweep.registry import Registration, register

Behave = Callable[[dict[str, str]], None]


@pytest.fixture
def sweep(results: Path) -> Registration:
    return register(results, table="demo", executor="ray", command="biasrepro sweep demo")


@pytest.fixture
def terms(sweep: Registration, results: Path, worker_command: tuple[str, ...]) -> NodeSettings:
    return NodeSettings(sweep.id, str(results), device="cpu", threads=1, jobs=2, command=worker_command)


@pytest.fixture
def jobs(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> list[RemoteJob]:
    return [RemoteJob.of(make_job(run)) for run in demo_runs[:3]]


def test_a_node_trains_its_jobs_and_says_what_became_of_each(
    jobs: list[RemoteJob], terms: NodeSettings, behave: Behave
) -> None:
    behave({jobs[1].id: "fail", jobs[2].id: "diverge"})
    ends = run_on_node(jobs, terms)
    assert [end.id for end in ends] == [job.id for job in jobs]
    assert [end.fate for end in ends] == ["completed", "failed", "diverged"]
    assert ends[1].cause == "the pixels ran out\n  Buy more pixels."
    assert ends[0].last is not None
    assert ends[0].last.phase == "completed"


@pytest.mark.parametrize(("does", "fate", "attempts"), [("hang once", "completed", 2), ("hang", "failed", 3)])
def test_a_worker_without_a_heartbeat_is_ended_and_its_run_tried_again(
    does: str,
    fate: str,
    attempts: int,
    jobs: list[RemoteJob],
    terms: NodeSettings,
    behave: Behave,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(silence, "CHECK_SECONDS", 0.02)
    monkeypatch.setattr(silence, "SILENT_CHECKS", 3)
    behave({jobs[0].id: does})
    (end,) = run_on_node(jobs[:1], terms)
    assert (end.fate, end.attempts) == (fate, attempts)
    if fate == "failed":
        assert "sent no heartbeat for 10 min, and was killed" in str(end.cause)


def test_a_run_that_fails_is_tried_three_times_at_most_and_not_again_by_the_driver(
    jobs: list[RemoteJob], terms: NodeSettings, behave: Behave, demo_runs: list[Run], make_job: Callable[[Run], Job]
) -> None:
    from repro.sweep.retries import retry_job

    behave({jobs[0].id: "SIGKILL"})
    (end,) = run_on_node(jobs[:1], terms)
    assert (end.fate, end.attempts, end.returncode) == ("failed", 3, -signal.SIGKILL)
    ended = end.ended(make_job(demo_runs[0]))
    assert retry_job(ended, ended.attempts) is None


@pytest.mark.parametrize("how", ["signal", "register"])
def test_runs_commit_and_are_interrupted_when_the_node_is_told_to_stop(
    how: str, jobs: list[RemoteJob], terms: NodeSettings, behave: Behave, sweep: Registration, results: Path
) -> None:
    behave({job.id: "wait" for job in jobs})

    def tell() -> None:
        deadline = time.monotonic() + 20
        while not all((results / job.id / "ready").exists() for job in jobs[:2]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if how == "register":
            sweep.ask_to_stop()
        else:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # engines repeat themselves

    teller = threading.Thread(target=tell)
    teller.start()
    ends = run_on_node(jobs, terms)
    teller.join()
    assert [end.fate for end in ends] == ["interrupted"] * 3
    assert [end.attempts for end in ends] == [1, 1, 0]
    assert all((results / job.id / "checkpoint.pt").exists() for job in jobs[:2])


def test_a_folder_that_is_not_the_sweep_s_is_refused_and_nothing_written(
    jobs: list[RemoteJob], terms: NodeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.find_registration, "__kwdefaults__", {"seconds": 0.1})
    other = tmp_path / "other"
    with pytest.raises(NotShared, match="not the results folder"):
        run_on_node(jobs, NodeSettings(terms.sweep, str(other), device="cpu", command=terms.command))
    assert not other.exists()


@pytest.mark.parametrize(
    ("inherited", "device", "expected"),
    [
        ("3", "auto", [("cuda", "3"), ("cuda", "3")]),
        ("GPU-aa,GPU-bb", "cuda", [("cuda", "GPU-aa"), ("cuda", "GPU-bb")] * 2),
        ("", "auto", [("cpu", None)]),
        ("0", "cpu", [("cpu", None)]),
    ],
)
def test_the_engine_s_devices_are_taken_as_they_are(
    inherited: str, device: Any, expected: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, inherited)
    slots = slots_here(NodeSettings("0" * 12, "/results", device=device, threads=1, jobs=1, jobs_per_gpu=2))
    assert [(slot.device, slot.environment.get(VISIBLE)) for slot in slots] == expected
