"""Room on a GPU that runs share, with numbers in place of a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.errors import UserError
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run
from repro.machine import GpuMemory
from repro.models import build_model
from repro.results.files import file_lock
from repro.results.process import process_start, this_place
from repro.sweep import cluster_node as remote
from repro.sweep.cluster_node import NodeSettings, RemoteJob, run_on_node
from repro.sweep.cost import memory_estimate as needs
from repro.sweep.devices.packing import CONTEXT_BYTES, has_room_for
from repro.sweep.devices.slots import VISIBLE, Slot
from repro.sweep.executor import Job
from repro.sweep.local.gpu_memory import GpuMemoryReservations, slot_memory
from repro.sweep.registry import register

GB = 10**9
SLOT = Slot("cuda:0", "cuda", 1, {VISIBLE: "0"})


@pytest.mark.parametrize(
    ("needed", "free", "promised", "may"),
    [
        (30, 80, (), True),
        (300, 80, (), True),  # alone, it is tried
        (None, 80, (), True),
        (30, 50, (30,), True),
        (30, 79, (30,), True),  # a neighbour that has taken nothing yet
        (30, 79, (50,), False),  # and one that will have taken more than is free now
        (30, 31, (30,), False),  # a process that is none of ours has taken some
        (22, 80, (51,), True),
        (23, 80, (51,), False),  # some is held back
        (None, 80, (1,), False),
    ],
)
def test_a_run_begins_where_memory_holds_it_beside_what_was_promised(
    needed: int | None, free: int, promised: tuple[int, ...], may: bool
) -> None:
    assert has_room_for(needed, GpuMemory("GPU-a", 80, free), promised) is may


class Gpu:
    """A GPU of so many bytes, in place of one; runs of the bias loss take more."""

    def __init__(self, folder: Path, *, total: int = 80 * GB) -> None:
        self.folder = folder
        self.memory: GpuMemory | None = GpuMemory("GPU-a", total, total)
        self.now = 0.0

    def room(self) -> GpuMemoryReservations:
        return GpuMemoryReservations(lambda slot: self.memory, self.needed, self.folder, lambda: self.now)

    def needed(self, cell: Cell, plugins: Sequence[str]) -> int:
        return (30 if cell.column.id == "ce" else 50) * GB


@pytest.fixture
def gpu(tmp_path: Path) -> Gpu:
    return Gpu(tmp_path / "promises")


@pytest.fixture
def jobs(demo_runs: list[Run], make_job: Callable[[Run], Job]) -> list[Job]:
    """Two jobs of cross-entropy and one of the bias loss."""
    of_ce = [run for run in demo_runs if run.cell.column.id == "ce"]
    of_bias = [run for run in demo_runs if run.cell.column.id == "bias"]
    return [make_job(run) for run in (*of_ce[:2], of_bias[0])]


def test_promises_of_all_processes_count_until_they_end(gpu: Gpu, jobs: list[Job]) -> None:
    here, elsewhere = gpu.room(), gpu.room()
    assert here.reserve(jobs[0], SLOT)
    assert not elsewhere.reserve(jobs[2], SLOT)
    assert "waiting for GPU memory: this run needs up to 50.0 GB" in jobs[2].folder.log.read_text()
    assert elsewhere.reserve(jobs[1], SLOT)
    here.release(jobs[0])
    assert not elsewhere.reserve(jobs[2], SLOT)  # it was looked at a moment ago
    elsewhere.release(jobs[1])
    gpu.now += 10
    assert elsewhere.reserve(jobs[2], SLOT)
    assert jobs[2].folder.log.read_text().count("waiting for GPU memory") == 1


def test_a_promise_ends_with_its_process(gpu: Gpu, jobs: list[Job]) -> None:
    room = gpu.room()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert room.reserve(jobs[2], SLOT)
        room.hand_over(jobs[2], process.pid)
        assert not gpu.room().reserve(jobs[0], SLOT)
        process.kill()
    assert gpu.room().reserve(jobs[0], SLOT)


def test_what_another_container_reserved_is_not_looked_up_here(gpu: Gpu, jobs: list[Job]) -> None:
    room = gpu.room()
    assert room.reserve(jobs[2], SLOT)
    assert not gpu.room().reserve(jobs[0], SLOT)
    (reservation,) = gpu.folder.rglob("*.json")
    fields = json.loads(reservation.read_text())
    reservation.write_text(json.dumps({**fields, "place": "another container", "pid": 2**22 - 1}))
    assert gpu.room().reserve(jobs[0], SLOT)  # its process cannot be seen: the driver tells what it took
    assert reservation.exists()


def test_a_run_that_is_to_be_alone_has_no_neighbours(gpu: Gpu, jobs: list[Job]) -> None:
    room = gpu.room()
    alone = replace(jobs[0], alone=True)
    assert room.reserve(jobs[1], SLOT)
    assert not room.reserve(alone, SLOT)
    room.release(jobs[1])
    gpu.now += 10
    assert room.reserve(alone, SLOT)
    assert not room.reserve(jobs[1], SLOT)


def test_what_a_run_takes_is_estimated_with_its_plugins(gpu: Gpu, jobs: list[Job]) -> None:
    asked: list[Sequence[str]] = []

    def noted(cell: Cell, plugins: Sequence[str]) -> int:
        asked.append(plugins)
        return 30 * GB

    room = GpuMemoryReservations(lambda slot: gpu.memory, noted, gpu.folder, lambda: gpu.now)
    files = ("--plugin", "/shared/one.py", "--plugin", "/shared/two.py")
    assert room.reserve(replace(jobs[0], arguments=(*jobs[0].arguments, *files)), SLOT)
    assert asked == [("/shared/one.py", "/shared/two.py")]


def test_a_run_of_which_nothing_is_known_is_placed_alone(gpu: Gpu, jobs: list[Job]) -> None:
    asked: list[str] = []

    def unknown(cell: Cell, plugins: Sequence[str]) -> int:
        asked.append(cell.id)
        raise UserError("it could not be estimated")

    room = GpuMemoryReservations(lambda slot: gpu.memory, unknown, gpu.folder, lambda: gpu.now)
    assert room.reserve(jobs[0], SLOT)
    for _ in range(3):
        assert not room.reserve(jobs[1], SLOT)
        gpu.now += 10
    assert len(asked) == 2  # a process each time, which trains beside the runs


def test_without_a_gpu_or_a_word_about_its_memory_runs_begin_as_they_were_placed(gpu: Gpu, jobs: list[Job]) -> None:
    gpu.memory = None
    room = gpu.room()
    assert all(room.reserve(job, SLOT) for job in jobs)
    assert room.reserve(jobs[0], Slot("cpu", "cpu", 1))
    assert not gpu.folder.exists()


def test_where_no_promise_can_be_kept_runs_begin_as_they_were_placed(gpu: Gpu, jobs: list[Job]) -> None:
    gpu.folder.touch()
    assert all(gpu.room().reserve(job, SLOT) for job in jobs)


@pytest.mark.timeout(20)
def test_what_is_no_reservation_of_ours_is_passed_over(gpu: Gpu, jobs: list[Job], tmp_path: Path) -> None:
    here = {"pid": os.getpid(), "start": process_start(os.getpid()), "place": this_place()}
    assert gpu.room().reserve(jobs[0], SLOT)
    (folder,) = (path for path in gpu.folder.iterdir() if path.is_dir())
    (mine,) = folder.glob("*.json")
    texts = [json.dumps({"bytes": size, **here}) for size in (2**60, float("inf"), -5, True, "5", 10**400, None)]
    texts += [json.dumps({"bytes": 5, **here, "pid": pid}) for pid in (float("inf"), -1, 10**400, "1")]
    texts += ["[]", "null", "[" * 100_000, "\0", json.dumps({**here, "bytes": 50 * GB, "place": "another container"})]
    for number, text in enumerate(texts):
        (folder / f"{number}.json").write_text(text)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "device.json").symlink_to("/dev/zero")
    (folder / "dangling.json").symlink_to(tmp_path / "nothing")
    room = gpu.room()
    assert room.reserve(jobs[1], SLOT)  # beside the first, which counts
    assert not gpu.room().reserve(jobs[2], SLOT)
    mine.unlink()
    room.release(jobs[1])
    assert gpu.room().reserve(jobs[2], SLOT)


def test_a_run_that_is_larger_than_its_gpu_reserves_all_of_it(gpu: Gpu, jobs: list[Job]) -> None:
    gpu.memory = GpuMemory("GPU-a", 40 * GB, 40 * GB)
    assert gpu.room().reserve(jobs[2], SLOT)
    assert not gpu.room().reserve(jobs[0], SLOT)


@pytest.mark.parametrize("how", ["a link", "open to all", "another user's", "a link inside", "a held lock", "a pipe"])
@pytest.mark.timeout(20)
def test_in_a_folder_that_others_made_nothing_is_written(
    how: str, gpu: Gpu, jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / "GPU-a").mkdir(parents=True)
    monkeypatch.setattr("repro.sweep.local.gpu_memory._LOCK_SECONDS", 0.1)
    with ExitStack() as stack:
        if how == "a link":
            gpu.folder.symlink_to(theirs)
        else:
            gpu.folder.mkdir(mode=0o700)
        if how == "open to all":
            gpu.folder.chmod(0o777)
        elif how == "another user's":
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        elif how == "a link inside":
            (gpu.folder / "GPU-a").symlink_to(theirs)
        elif how in ("a held lock", "a pipe"):
            (gpu.folder / "GPU-a").mkdir(mode=0o700)
            if how == "a pipe":
                os.mkfifo(gpu.folder / "GPU-a" / "lock")
            else:
                stack.enter_context(file_lock(gpu.folder / "GPU-a" / "lock"))
        before = sorted(theirs.rglob("*"))
        assert gpu.room().reserve(jobs[0], SLOT)
    assert sorted(theirs.rglob("*")) == before
    assert not list(gpu.folder.rglob("*.json"))
    assert "starting without a reservation of GPU memory: " in jobs[0].folder.log.read_text()


def test_the_driver_is_asked_for_the_gpu_of_the_slot(fake_driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_driver({"uuid": "GPU-fake", "memory": [1000 * 2**20, 900 * 2**20]})
    assert slot_memory(SLOT) == GpuMemory("GPU-fake", 1000 * 2**20, 900 * 2**20)
    fake_driver({"uuid": "GPU-fake"})  # where the driver does not tell, torch is asked
    by_torch = GpuMemory("MIG-a", 10, 5)
    monkeypatch.setattr("repro.sweep.local.gpu_memory.memory_by_torch", lambda slot: by_torch)
    assert slot_memory(SLOT) == by_torch


@pytest.mark.parametrize("how", ["one job on SLURM", "two tasks on Ray"])
def test_a_node_trains_one_after_the_other_what_does_not_fit_together(
    how: str,
    gpu: Gpu,
    jobs: list[Job],
    results: Path,
    worker_command: tuple[str, ...],
    behave: Any,
    started: Callable[[], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    gpu.now = time.monotonic()
    monkeypatch.setattr("repro.sweep.local.gpu_memory.RETRY_SECONDS", 0.0)
    monkeypatch.setattr(remote, "GpuMemoryReservations", gpu.room)
    behave({job.id: "slow" for job in jobs})
    sweep = register(results, table="demo", executor="ray", command="biasrepro sweep demo")
    terms = NodeSettings(sweep.id, str(results), threads=1, command=worker_command)
    sent = [RemoteJob.of(jobs[0]), RemoteJob.of(jobs[2])]  # 30 and 50 of 80 GB: some is held back
    if how == "one job on SLURM":
        ends = run_on_node(sent, replace(terms, jobs_per_gpu=2))
    else:
        ends = []
        shared = replace(terms, shares_gpus=True)
        tasks = [threading.Thread(target=lambda one=one: ends.extend(run_on_node([one], shared))) for one in sent]
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
    assert [end.fate for end in ends] == ["completed"] * 2
    assert {note["gpu"] for note in started()} == {"0"}
    first, second = sorted((results / end.id / "run.json").stat().st_mtime for end in ends)
    assert second - first > 0.9  # each takes a second
    assert sum("waiting for GPU memory" in job.folder.log.read_text() for job in (jobs[0], jobs[2])) == 1


def test_the_estimate_counts_what_a_batch_keeps() -> None:
    cell = find_table("demo").cells[0]
    smaller = needs.estimate(Run(cell=cell, seed=0))
    doubled = cell.recipe.model_copy(update={"batch_size": 2 * cell.recipe.batch_size})
    larger = needs.estimate(Run(cell=cell.model_copy(update={"recipe": doubled}), seed=0))
    eager = cell.model_copy(update={"execution": cell.execution.model_copy(update={"cuda_graph": False})})
    assert CONTEXT_BYTES < needs.estimate(Run(cell=eager, seed=0)) < smaller < larger
    adamw = cell.model_copy(update={"recipe": cell.recipe.model_copy(update={"optimizer": "adamw"})})
    parameters = sum(weight.numel() for weight in build_model("shufflenetv2_x0_5", 10, 32).parameters())
    assert needs.estimate(Run(cell=adamw, seed=0)) == smaller + 4 * parameters
    # ShuffleNetV2 keeps at least the images and the output of its first convolution, of every image of a batch.
    assert larger - smaller > cell.recipe.batch_size * 4 * (3 * 32 * 32 + 24 * 16 * 16)


@pytest.mark.slow
def test_the_estimate_is_a_process_s_and_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = find_table("demo").cells[0]
    monkeypatch.setattr(needs, "_known", {})
    estimated = needs.estimated_bytes(cell, ())
    assert estimated == needs.estimate(Run(cell=cell, seed=0))
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert needs.estimated_bytes(find_table("demo").cells[1], ()) == estimated
    monkeypatch.setattr(needs, "_known", {})
    with pytest.raises(UserError, match="could not be estimated"):
        needs.estimated_bytes(cell, ())
