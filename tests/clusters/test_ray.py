"""Sweeps on a real Ray: three raylets with declared GPUs on this machine; nothing is simulated but the devices."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray_cluster
from cluster_sweep import Sweep, fates
from commits import a_record
from killing import EXPERIMENT, without_times

from repro.experiment.config import load_table
from repro.results import RunFolder, load_records
from repro.results.ownership import SILENT_SECONDS, owner_of
from repro.results.record import to_bytes
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.driver import run_sweep
from repro.sweep.executor import Job
from repro.sweep.ray.backend import RayBackend, RayOptions
from repro.sweep.ray.cluster import LEAVE_SECONDS, TaskResources
from repro.sweep.registry import register, registered
from repro.sweep.selection import selected_runs

pytest.importorskip("ray", reason="ray is not installed")
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


# Of the declared GPUs: memory enough for one run, not for two.
RUN_MEMORY = [1300 * 2**20, 1300 * 2**20]
FAKE_DRIVER = Path(__file__).parents[1] / "fake_driver"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    gpus = [{"uuid": f"GPU-declared-{index}-{os.getpid()}", "memory": RUN_MEMORY} for index in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_NVML", json.dumps({"gpus": gpus}))
        patch.setenv("PYTHONPATH", str(FAKE_DRIVER), prepend=os.pathsep)
        patch.syspath_prepend(str(FAKE_DRIVER))
        with ray_cluster.cluster(3) as started:
            yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    return tmp_path


def wait_until(condition: Callable[[], bool], folder: Path, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, ray_cluster.said(folder)
        time.sleep(0.1)


def in_training(folder: Path) -> list[Path]:
    return list((folder / "results").glob("*/*/*/*/progress.json"))


def recorded(results: Path) -> dict[str, bytes]:
    """The records under ``results`` without times, and without that folder's name in the workers' command."""
    found = [one.record for one in load_records(results) if one.record is not None]
    return {record.id: without_times(record).replace(str(results).encode(), b"RESULTS") for record in found}


def test_a_raylet_is_killed_and_every_run_ends_once_as_on_one_machine(cluster: Any, folder: Path) -> None:
    sweep = ("sweep", folder / "tiny.yaml", "--seeds", 1, "--progress", "plain", "--root", folder / "data")
    options = (*ray_cluster.gpu_shaped(cluster.address), "--results", folder / "results")
    process = ray_cluster.begin(folder, *sweep, *options)
    wait_until(lambda: len(in_training(folder)) >= 2, folder)
    # The node that has most of the work is the first; its processes die with it, and so do its runs.
    for node in cluster.workers[:1]:
        cluster.remove_node(node, allow_graceful=False)
    del cluster.workers[:1]
    assert process.wait(150) == 0, ray_cluster.said(folder)
    there = recorded(folder / "results")
    local = ("--executor", "local", "--device", "cpu", "--threads", 1, "--jobs", 2, "--results", folder / "local")
    assert ray_cluster.say(folder, *sweep, *local)[0] == 0
    assert there == recorded(folder / "local")
    assert len(there) == 4
    # Each once here, once there; a run may outlive its raylet for a moment and end by itself.
    assert len(re.findall(r"^done( by another process)? +tiny", ray_cluster.said(folder), re.MULTILINE)) == 8


def test_a_driver_is_killed_and_the_next_sweep_goes_on(cluster: Any, folder: Path) -> None:
    sweep = ("sweep", folder / "tiny.yaml", "--seeds", 1, "--rows", "shufflenetv2", "--progress", "plain")
    options = (*ray_cluster.gpu_shaped(cluster.address), "--results", "results")
    process = ray_cluster.begin(folder, *sweep, *options, "--set", "recipe.epochs=30")
    wait_until(lambda: len(in_training(folder)) == 2, folder)
    process.kill()
    process.wait()
    code, said = ray_cluster.say(folder, *sweep, *options, "--set", "recipe.epochs=30", timeout=150)
    assert code == 0, said
    assert len(recorded(folder / "results")) == 2


def test_a_run_that_fails_for_reasons_of_its_own_is_shown_and_the_rest_goes_on(cluster: Any, folder: Path) -> None:
    in_the_way = folder / "results" / "tiny" / "shufflenetv2" / "ce" / "seed-0"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()  # a file where the run's folder should be
    sweep = ("sweep", folder / "tiny.yaml", "--seeds", 1, "--rows", "shufflenetv2", "--progress", "plain")
    code, said = ray_cluster.say(folder, *sweep, *ray_cluster.gpu_shaped(cluster.address), "--results", "results")
    assert code == 1, said
    assert "1 done, 1 failed" in said
    assert len(recorded(folder / "results")) == 1


def test_a_detached_sweep_is_followed_and_stopped_from_elsewhere(cluster: Any, folder: Path) -> None:
    sweep = ("sweep", folder / "tiny.yaml", "--seeds", 1, "--set", "recipe.epochs=200")
    options = (*ray_cluster.gpu_shaped(cluster.address), "--results", "results")
    code, said = ray_cluster.say(folder, *sweep, *options, "--detach")
    assert code == 0, said
    assert "4 runs left to ray" in said
    wait_until(lambda: len(in_training(folder)) >= 2, folder)
    code, said = ray_cluster.say(folder, "sweep", "--stop", "--results", "results")
    assert code == 0, said
    assert registered(folder / "results") == []
    assert in_training(folder) == []
    assert len(list((folder / "results").glob("*/*/*/*/checkpoint.pt"))) >= 2


def test_a_detached_sweep_whose_conductor_is_lost_with_its_node_is_conducted_from_another(folder: Path) -> None:
    sweep = ("sweep", folder / "tiny.yaml", "--seeds", 1, "--rows", "shufflenetv2", "--root", folder / "data")
    sweep = (*sweep, "--set", "recipe.epochs=15")
    results = folder / "results"
    with ray_cluster.cluster(2) as cluster:
        detached = (*ray_cluster.gpu_shaped(cluster.address), "--results", results, "--detach")
        while ray_cluster.say(folder, *sweep, *detached)[0] == 0:
            if (lost := ray_cluster.conductors_node(cluster)) is not cluster.head_node:
                break
            ray_cluster.say(folder, "sweep", "--stop", "--results", results)  # without its head a cluster is none
        wait_until(lambda: len(in_training(folder)) == 2, folder)
        cluster.remove_node(lost, allow_graceful=False)
        wait_until(lambda: ray_cluster.conductors_node(cluster) not in (None, lost), folder)
        wait_until(lambda: registered(results) == [], folder)
    there = recorded(results)
    assert len(there) == 2
    local = ("--executor", "local", "--device", "cpu", "--threads", 1, "--jobs", 2, "--results", folder / "local")
    assert ray_cluster.say(folder, *sweep, *local)[0] == 0
    assert there == recorded(folder / "local")


def test_a_head_that_is_not_there_is_one_message_in_time(folder: Path) -> None:
    began = time.monotonic()
    sweep = ("sweep", folder / "tiny.yaml", "--executor", "ray", "--address", "127.0.0.1:9", "--results", "results")
    code, said = ray_cluster.say(folder, *sweep)
    assert code == 1
    assert "Ray at 127.0.0.1:9 cannot be used: nothing accepts a connection there" in said
    assert "Traceback" not in said
    assert time.monotonic() - began < 30 + LEAVE_SECONDS
    assert registered(folder / "results") == []


IMPATIENT = """
import sys
from repro.sweep.ray import cluster as ray_cluster, executor as ray_executor
ray_cluster.HEAD_SECONDS = ray_executor.HEAD_SECONDS = 6.0
from repro.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.parametrize("what", ["the head", "all of it"])
def test_a_cluster_that_is_lost_later_is_one_message_and_another_executor_goes_on(what: str, folder: Path) -> None:
    sweep = ("sweep", folder / "tiny.yaml", "--seeds", 1, "--rows", "shufflenetv2", "--columns", "ce")
    sweep = (*sweep, "--set", "recipe.epochs=2000", "--progress", "plain", "--results", "results")
    with ray_cluster.cluster(1) as lost:
        process = ray_cluster.begin(folder, *sweep, *ray_cluster.gpu_shaped(lost.address), program=IMPATIENT)
        wait_until(lambda: len(in_training(folder)) == 1, folder)
        if what == "the head":
            lost.head_node.kill_gcs_server()
            assert process.wait(120) == 1
    assert process.wait(120) == 1
    said = ray_cluster.said(folder)
    assert said.count("error: ") == 1, said
    assert ("has not answered for 6 s" in said) or (what == "all of it" and "raylet on this machine is gone" in said)
    assert "the same command resumes them" in said
    assert "Traceback" not in said
    assert registered(folder / "results") == []
    (run,) = (RunFolder(path.parent) for path in (folder / "results").glob("*/*/*/*/run.log"))
    assert owner_of(run) is None
    if what == "all of it":  # Ray killed the run with the rest: it has what it committed last
        return
    assert in_training(folder) == []
    process = ray_cluster.begin(folder, *sweep, "--device", "cpu", "--threads", 1)
    wait_until(lambda: "resumed at epoch" in ray_cluster.said(folder), folder)
    process.terminate()
    assert process.wait(120) == 143, ray_cluster.said(folder)


def test_without_an_address_a_ray_is_started_and_gone_afterwards(folder: Path) -> None:
    sweep = ("sweep", folder / "tiny.yaml", "--seeds", 1, "--rows", "shufflenetv2", "--columns", "ce")
    code, said = ray_cluster.say(folder, *sweep, "--executor", "ray", "--device", "cpu", "--results", "results")
    assert code == 0, said
    assert "1 run: 1 done" in said


def test_a_missing_ray_is_one_message_with_the_command_that_installs_it(folder: Path) -> None:
    script = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "ray" else find(name, *rest)
from repro.cli import run
sys.exit(run(["sweep", "tiny.yaml", "--executor", "ray", "--dry-run"]))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'biasrepro[ray]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_runs_that_do_nothing_cost_little_each(cluster: Any, tmp_path: Path) -> None:
    import ray_overhead

    ray_overhead.measure(cluster.address, tmp_path / "first", 30)
    cost = ray_overhead.measure(cluster.address, tmp_path / "second", 200)
    assert cost.seconds / cost.runs < 0.1, cost  # 20 ms on an idle machine; CI's are busy


def test_a_run_without_a_heartbeat_is_submitted_again(cluster: Any, folder: Path) -> None:
    sweep = Sweep(folder, runs=1, steps=40)
    sweep.command = (*(sweep.command or ()), "--elsewhere")
    (job,) = sweep.jobs()
    stopped: list[int] = []

    def fall_silent() -> None:
        if len(sweep.audit()) >= 5 and not stopped:
            stopped.append(sweep.audit()[0]["pid"])
            os.kill(stopped[0], signal.SIGSTOP)
            (owner,) = job.folder.path.glob("owner-*.json")
            os.utime(owner, (time.time() - SILENT_SECONDS,) * 2)

    state = sweep.on(RayBackend(RayOptions(address=cluster.address)), tick=fall_silent)
    assert fates(state) == ["completed"]
    assert len(stopped) == 1
    with contextlib.suppress(ProcessLookupError):  # where Ray did not end it with its task, it notices by itself
        os.kill(stopped[0], signal.SIGCONT)
    wait_until(lambda: not Path(f"/proc/{stopped[0]}").exists(), folder)
    assert (sweep.trained_once(40), sweep.lives()) == (True, 2)


def test_two_runs_have_halves_of_a_gpu_and_memory_for_one(cluster: Any, folder: Path) -> None:
    (folder / "results").mkdir()
    runs = selected_runs(load_table(folder / "tiny.yaml"), [0])[:2]
    jobs = []
    for number, run in enumerate(runs):
        record, place = folder / f"{number}.json", RunFolder.of(folder / "results", run)
        record.write_bytes(to_bytes(a_record(run)))
        jobs.append(Job(run, place, ("train", str(record), str(place.record))))
    # Long enough for the other one to begin meanwhile, whatever the machine does besides.
    audited = f"echo begins >> {folder}/audit; sleep 5; echo ends >> {folder}/audit"
    worker = ("sh", "-c", f'{audited}; install -D "$1" "$2"')
    with register(folder / "results", table="tiny", executor="ray", command="biasrepro sweep tiny").kept() as sweep:
        terms = NodeSettings(sweep.id, str(folder / "results"), device="cuda", threads=1, command=worker)
        state = run_sweep(jobs, RayBackend(RayOptions(address=cluster.address, jobs_per_gpu=2)).connect(terms))
    assert [run.fate for run in state.finished] == ["completed"] * 2
    assert (folder / "audit").read_text().split() == ["begins", "ends"] * 2
    logs = [job.folder.log.read_text() for job in jobs]
    assert sum("waiting for GPU memory: this run needs up to" in log for log in logs) == 1, logs


@pytest.mark.parametrize(
    ("gpus", "node", "slots"),
    [
        (0.5, {"GPU": 2, "CPU": 8}, 4),
        (1 / 3, {"GPU": 1, "CPU": 8}, 3),
        (2, {"GPU": 5, "CPU": 8}, 2),
        (1, {"GPU": 8, "CPU": 3}, 3),
        (0, {"CPU": 3}, 3),
        (1, {"CPU": 3}, 0),
    ],
)
def test_slots_of_a_node(gpus: float, node: dict[str, float], slots: int) -> None:
    assert TaskResources(gpus, 1, None).slots(node) == slots
