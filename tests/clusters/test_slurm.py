"""Sweeps on a real SLURM: two nodes, three daemons and munge, on this machine."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from cluster_sweep import PLAIN, Once, Sweep, bare, fates, queue
from slurm_cluster import NODES, SlurmCluster, slurm_cluster, wait_for, why_not

from repro.cli.sweep.stop import stop_sweeps
from repro.results import load_records
from repro.results.ownership import owner_of
from repro.sweep import driver as conducting
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.registry import register, registered
from repro.sweep.slurm import executor as slurm_executor
from repro.sweep.slurm.backend import SlurmBackend, SlurmOptions
from repro.sweep.slurm.queue import SlurmError, queued_tasks

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(why_not() is not None, reason=f"no SLURM can be started: {why_not()}"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    before = dict(os.environ)
    with slurm_cluster() as running:
        os.environ.update(running.environment)
        try:
            yield running
        finally:
            os.environ.clear()
            os.environ.update(before)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_executor, "LAST_POLL_SECONDS", 1.0)
    monkeypatch.setattr(slurm_executor, "RESULT_SECONDS", 2.0)
    monkeypatch.setattr(conducting, "RECHECK_SECONDS", 0.5)
    monkeypatch.setattr(slurm_executor, "LEAVING_SECONDS", 120.0)  # a busy machine takes long to end a task


def test_the_cluster_listens_to_this_machine_alone(cluster: SlurmCluster) -> None:
    listening = cluster.listening()
    assert len(listening) == 1 + len(NODES)
    assert {address.rpartition(":")[0] for address in listening} == {"127.0.0.1"}


@pytest.mark.slow
def test_records_are_those_of_this_machine(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path)
    assert fates(sweep.on_slurm()) == ["completed"] * 4
    sweep.here()
    assert bare(sweep.results) == bare(tmp_path / "here")
    assert len(bare(sweep.results)) == 4
    assert list((sweep.results / ".sweeps" / "slurm").iterdir()) == []


@pytest.mark.slow
def test_a_task_trains_several_runs_at_a_time(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, steps=15)
    assert fates(sweep.on_slurm(SlurmOptions(cpus_per_job=2), jobs=2)) == ["completed"] * 4
    assert sweep.trained_once(15)
    tasks = {event["task"] for event in sweep.audit()}
    assert len(tasks) == 2
    for task in tasks:
        runs = [event["run"] for event in sweep.audit() if event["task"] == task]
        assert sum(one != other for one, other in pairwise(runs)) > 2


@pytest.mark.slow
def test_a_higher_job_displaces_ours_which_goes_on_later(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=1, steps=30)
    higher = ["sbatch", "--partition=high", "--nodes=2", "--ntasks=8", "--output=/dev/null", "--wrap=sleep 1"]
    once = Once(sweep, 5, lambda: cluster.run(*higher))
    assert fates(sweep.on_slurm(tick=once)) == ["completed"]
    assert (sweep.trained_once(30), sweep.lives()) == (True, 2)
    assert len({event["task"] for event in sweep.audit()}) == 1  # SLURM put it back itself


@pytest.mark.slow
def test_the_walltime_is_survived_as_often_as_it_takes(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=1, steps=15)
    assert sweep.command is not None
    sweep.command = (*sweep.command, "--steps-a-life", "5")
    cut: set[int] = set()

    def cut_short() -> None:
        # However long a life takes to begin, its time is up once it trained its steps: SLURM looks twice a minute.
        task, state, used = (queue("%i|%T|%M").strip() or "||").split("|")
        steps = len(sweep.audit())
        if state == "PENDING":
            cluster.run("scontrol", "update", f"jobid={task}", "TimeLimit=60", check=False)
        elif state == "RUNNING" and steps in (5, 10) and steps not in cut:
            cut.add(steps)
            cluster.run("scontrol", "update", f"jobid={task}", f"TimeLimit={int(used.split(':')[-2]) + 2}")

    options = SlurmOptions(time_minutes=60, extra=(("signal", "B:USR2@100"),))
    state = sweep.on_slurm(options, tick=cut_short)
    assert fates(state) == ["completed"], state.finished[0].cause
    assert sweep.trained_once(15)
    assert sweep.lives() == 3
    assert len({event["task"] for event in sweep.audit()}) == 1


@pytest.mark.slow
def test_a_time_too_short_to_get_anywhere_is_said(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=1, steps=1000)
    assert sweep.command is not None
    sweep.command = (*sweep.command, "--commits-nothing")
    began: list[float] = []

    def signal_once() -> None:
        if not began and owner_of(sweep.jobs()[0].folder) is not None:
            began.append(time.monotonic())
            cluster.run("scancel", "--batch", "--signal=USR2", queue("%i").split()[0])

    state = sweep.on_slurm(tick=signal_once)
    assert fates(state) == ["failed"]
    assert "longer --time" in str(state.finished[0].cause)


@pytest.mark.slow
def test_a_killed_job_is_submitted_again(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=2, steps=20)

    def kill_one() -> None:
        ours = f"submitit.core._submit {sweep.results}"
        pids = subprocess.run(["pgrep", "-f", ours], capture_output=True, text=True, check=True)
        os.kill(int(pids.stdout.split()[0]), signal.SIGKILL)

    assert fates(sweep.on_slurm(tick=Once(sweep, 6, kill_one))) == ["completed"] * 2
    assert sweep.trained_once(20)
    assert sweep.lives() == 3


@pytest.mark.slow
def test_a_job_that_somebody_cancels_is_not_submitted_again(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=1, steps=1000)
    once = Once(sweep, 3, lambda: cluster.run("scancel", queue("%i").split()[0]))
    state = sweep.on_slurm(tick=once)
    assert fates(state) == ["failed"]
    assert "was cancelled" in str(state.finished[0].cause)


DRIVER = """
import sys
sys.path[:0] = {path!r}
from pathlib import Path
from cluster_sweep import Sweep
sweep = Sweep(Path({folder!r}), steps={steps})
print(sweep.on_slurm().finished)
"""


@pytest.mark.slow
def test_the_work_outlives_its_driver_and_is_taken_up_by_the_next(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, steps=40)
    path = [str(Path(__file__).parent), *sys.path]
    program = DRIVER.format(path=path, folder=str(tmp_path), steps=40)
    with subprocess.Popen([sys.executable, "-c", program]) as driver:
        wait_for(lambda: len(sweep.audit()) > 6, "the first steps")
        driver.kill()
    names = set(queue("%j").split())
    assert len(names) == 1
    state = sweep.on_slurm(tick=lambda: names.update(queue("%j").split()))
    assert set(fates(state)) <= {"completed", "elsewhere"}
    assert len(load_records(sweep.results)) == 4
    assert len(names) == 1  # nothing was submitted a second time
    assert (sweep.trained_once(40), sweep.lives()) == (True, 4)


@pytest.mark.slow
def test_what_a_killed_driver_left_in_the_queue_is_stopped_cleanly(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=2, steps=1000)
    path = [str(Path(__file__).parent), *sys.path]
    with subprocess.Popen([sys.executable, "-c", DRIVER.format(path=path, folder=str(tmp_path), steps=1000)]) as driver:
        wait_for(lambda: len(sweep.audit()) > 2, "the first steps")
        driver.kill()
    assert stop_sweeps(sweep.results, None)
    assert (registered(sweep.results), dict(queued_tasks())) == ([], {})
    assert all(owner_of(job.folder) is None for job in sweep.jobs())


@pytest.mark.slow
def test_what_was_left_to_slurm_is_stopped_cleanly(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, steps=1000)
    registration = register(sweep.results, table="tiny", executor="slurm", command="biasrepro", detached=True)
    engine = SlurmBackend(SlurmOptions(array=2))
    terms = sweep.terms(registration.id)
    registration.note_left(engine.leave(sweep.jobs(), terms))
    assert engine.leave(sweep.jobs(), terms) == {}  # all of it is in the queue already
    wait_for(lambda: len({event["run"] for event in sweep.audit()}) == 2, "two runs to begin")
    assert stop_sweeps(sweep.results, None)
    assert registered(sweep.results) == []
    assert not queued_tasks()
    begun = {event["run"] for event in sweep.audit()}
    assert len(begun) == 2
    assert all(
        job.folder.checkpoint.exists() and owner_of(job.folder) is None for job in sweep.jobs() if job.id in begun
    )


@pytest.mark.slow
def test_what_was_left_to_slurm_is_over_with_its_last_run(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=2, steps=10)
    registration = register(sweep.results, table="tiny", executor="slurm", command="biasrepro", detached=True)
    SlurmBackend(SlurmOptions(array=1)).leave(sweep.jobs(), sweep.terms(registration.id))
    assert len(registered(sweep.results)) == 1
    wait_for(lambda: registered(sweep.results) == [], "the sweep to be over")
    assert len(load_records(sweep.results)) == 2


@pytest.mark.slow
def test_a_node_whose_daemon_dies_is_done_without(cluster: SlurmCluster, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, runs=2, steps=60)
    once = Once(sweep, 6, lambda: cluster.kill("n1"))
    try:
        state = sweep.on_slurm(SlurmOptions(cpus_per_job=3), tick=once)
    finally:
        cluster.start("n1")
    assert set(fates(state)) <= {"completed", "elsewhere"}
    assert sweep.trained_once(60)
    wait_for(lambda: cluster.idle() == set(NODES), "both nodes to be idle")


@pytest.mark.slow
def test_the_controller_may_be_away_for_a_while(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, runs=2, steps=60)
    state = Path(cluster.environment["SLURM_CONF"]).parent / "state" / "job_state"
    killed, unanswered = [], []

    def looking() -> Any:
        try:
            return queued_tasks()
        except SlurmError:
            unanswered.append(len(sweep.audit()))
            raise

    monkeypatch.setattr(slurm_executor, "queued_tasks", looking)

    def answers() -> bool:
        try:
            queued_tasks()
        except SlurmError:
            return False
        return True  # the queue may be empty by then

    def kill_and_restart() -> None:
        if not killed and queue("%T").split() == ["RUNNING"] * 2 and len(sweep.audit()) >= 6:
            if time.time() - state.stat().st_mtime > 1:  # what the controller knows is on its disk
                cluster.kill("slurmctld")
                killed.append(len(sweep.audit()))
        elif killed and unanswered and "slurmctld" not in cluster.running():
            cluster.start("slurmctld")
            wait_for(answers, "the controller to be back")

    state = sweep.on_slurm(tick=kill_and_restart)
    assert unanswered[0] > killed[0]  # runs went on meanwhile
    assert fates(state) == ["completed"] * 2
    assert (sweep.trained_once(60), sweep.lives()) == (True, 2)


@pytest.mark.slow
def test_a_job_that_could_not_be_launched_is_not_waited_for(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(tmp_path, runs=1, steps=10)
    held: list[str] = []

    def looking() -> Any:
        """The queue, where the first task of the sweep waits for a person to release it."""
        found = dict(queued_tasks())
        held.extend(task.id for task in found.values() if not held)
        return {
            key: replace(task, state="PENDING", reason="launch failed requeued held") if task.id in held else task
            for key, task in found.items()
        }

    monkeypatch.setattr(slurm_executor, "queued_tasks", looking)
    assert fates(sweep.on_slurm()) == ["completed"]
    assert (len(held), sweep.trained_once(10)) == (1, True)
    assert sweep.audit()[-1]["task"] != held[0]


@pytest.mark.slow
def test_a_job_that_hangs_is_cancelled_and_its_runs_are_submitted_again(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor, "HUNG_SECONDS", 13.0)  # longer than between two heartbeats
    sweep = Sweep(tmp_path, runs=1, steps=20)
    once = Once(sweep, 5, lambda: os.kill(sweep.audit()[0]["pid"], signal.SIGSTOP))
    assert fates(sweep.on_slurm(tick=once)) == ["completed"]
    assert (sweep.trained_once(20), sweep.lives()) == (True, 2)
    assert len({event["task"] for event in sweep.audit()}) == 2


@pytest.mark.slow
def test_neither_the_environment_nor_a_percent_sign_changes_what_is_submitted(
    cluster: SlurmCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"SBATCH_PARTITION": "nowhere", "SBATCH_NO_REQUEUE": "1", "SQUEUE_STATES": "FAILED", "SCANCEL_NAME": "none"}
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "acc50%user").mkdir()
    sweep = Sweep(tmp_path / "acc50%user", runs=2, steps=5)
    jobs: list[str] = []
    logs: list[Path] = []

    def look() -> None:
        jobs.append(cluster.run("scontrol", "show", "job"))
        logs.extend((sweep.results / ".sweeps" / "slurm").glob("*/*_0_log.out"))

    assert fates(sweep.on_slurm(tick=Once(sweep, 2, look))) == ["completed"] * 2
    assert "Requeue=1" in jobs[0]
    assert "Requeue=0" not in jobs[0]
    assert logs


def test_a_stop_leaves_jobs_of_another_name_alone(cluster: SlurmCluster, tmp_path: Path) -> None:
    other = ["sbatch", "--hold", "--output=/dev/null", "--job-name", f"biasrepro-{'0' * 12}", "--wrap=sleep 1"]
    number = cluster.run(*other).split()[-1]
    registration = register(tmp_path, table="tiny", executor="slurm", command="biasrepro sweep tiny", detached=True)
    registration.note_left({"slurm": number})
    try:
        assert stop_sweeps(tmp_path, None)
        assert number in queue("%i").split()
    finally:
        cluster.run("scancel", number)
    assert registered(tmp_path) == []


def test_a_partition_that_is_not_there_is_named(cluster: SlurmCluster, tmp_path: Path) -> None:
    before = set(queued_tasks())  # a former test's task may be about to leave
    with pytest.raises(SlurmError, match="invalid partition"):
        Sweep(tmp_path, steps=1).on_slurm(SlurmOptions(partition="nowhere"))
    assert set(queued_tasks()) <= before


def test_slurm_out_of_reach_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlurmError, match="squeue cannot be run here"):
        SlurmBackend(PLAIN).connect(NodeSettings("0" * 12, str(tmp_path)))


def test_what_would_be_submitted_can_be_read(tmp_path: Path) -> None:
    options = SlurmOptions(partition="gpu", time_minutes=240, gpus_per_job=1, array=64, setup=("module load cuda",))
    sweep = Sweep(tmp_path)
    text = SlurmBackend(options).submission(sweep.jobs(), NodeSettings("0" * 12, str(tmp_path), jobs_per_gpu=2))
    lines = text.splitlines()
    for line in ("--partition=gpu", "--time=240", "--gpus-per-node=1", "--array=0-1%2", "--requeue"):
        assert f"#SBATCH {line}" in lines
    assert {"#SBATCH --signal=B:USR2@120", "module load cuda"} <= set(lines)
    assert re.search(r"^exec \S+python\S* -P -u -m submitit", text, re.MULTILINE)
    assert not (tmp_path / ".sweeps").exists()
