"""Sweeps of the tiny experiment on a cluster that this process knows, and what became of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from commits import a_record
from killing import EXPERIMENT, without_times

from repro.experiment.config import load_table
from repro.experiment.schema import Run
from repro.results import RunFolder, load_records
from repro.results.durable import write_durably
from repro.results.record import to_bytes
from repro.sweep.backends import Backend
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.devices.slots import cpu_slots
from repro.sweep.driver import SweepListener, run_sweep
from repro.sweep.executor import Job
from repro.sweep.local.executor import LocalExecutor
from repro.sweep.registry import register
from repro.sweep.selection import selected_runs
from repro.sweep.slurm.backend import SlurmBackend, SlurmOptions
from repro.sweep.sweep_state import SweepState

WORKER = Path(__file__).with_name("patient_worker.py")
PLAIN = SlurmOptions()


class Sweep:
    """A sweep of the tiny experiment, as the command line makes one; of patient workers where ``steps`` are given."""

    def __init__(self, folder: Path, *, runs: int = 4, seeds: int = 1, steps: int | None = None) -> None:
        self.folder = folder
        self.patience_seconds = 300.0
        write_durably(folder / "tiny.yaml", EXPERIMENT.encode())
        self.runs = selected_runs(load_table(folder / "tiny.yaml"), range(seeds))[: runs * seeds]
        self.results = folder / "results"
        self.results.mkdir(exist_ok=True)
        self.command: tuple[str, ...] | None = (
            None if steps is None else (sys.executable, str(WORKER), "--steps", str(steps))
        )
        prepared = {run.id.partition("/")[2]: to_bytes(a_record(run)).decode() for run in self.runs}
        write_durably(folder / "prepared.json", json.dumps(prepared).encode())  # workers of other sweeps may read it

    def jobs(self, results: Path | None = None) -> list[Job]:
        return [self._job(run, results or self.results) for run in self.runs]

    def _job(self, run: Run, results: Path) -> Job:
        reference = f"{self.folder / 'tiny.yaml'}/{run.cell.row.id}/{run.cell.column.id}"
        arguments = ("train", reference, "--seed", str(run.seed), "--results", str(results), "--root", str(self.folder))
        return Job(run, RunFolder.of(results, run), arguments)

    def terms(self, sweep: str, *, jobs: int | None = None) -> NodeSettings:
        return NodeSettings(sweep, str(self.results), device="cpu", jobs=jobs, command=self.command)

    def on(
        self,
        backend: Backend,
        *,
        jobs: int | None = None,
        tick: Callable[[], object] = lambda: None,
    ) -> SweepState:
        registration = register(self.results, table="tiny", executor=backend.name, command="biasrepro sweep tiny")
        with registration.kept():
            executor = backend.connect(self.terms(registration.id, jobs=jobs))
            watch = Watch(tick, slurm=backend.name == "slurm", patience_seconds=self.patience_seconds)
            return run_sweep(self.jobs(), executor, listen=watch)

    def on_slurm(
        self, options: SlurmOptions = PLAIN, *, jobs: int | None = None, tick: Callable[[], object] = lambda: None
    ) -> SweepState:
        return self.on(SlurmBackend(options), jobs=jobs, tick=tick)

    def beside(self) -> SweepState:
        """The same sweep by this machine itself, over the same results folder."""
        registration = register(self.results, table="tiny", executor="local", command="biasrepro sweep tiny")
        with registration.kept():
            return run_sweep(self.jobs(), LocalExecutor(cpu_slots(cores=2, jobs=2, threads=1), self.command))

    def here(self) -> SweepState:
        return run_sweep(self.jobs(self.folder / "here"), LocalExecutor(cpu_slots(cores=2, jobs=2, threads=1)))

    def audit(self) -> list[dict[str, Any]]:
        try:
            return [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def lives(self) -> int:
        return len({event["pid"] for event in self.audit()})

    def trained_once(self, steps: int) -> bool:
        """Whether every step of every run was trained, and none that was committed a second time.

        A process that is killed between a commit and its note leaves one step without a note, at the end of its life.
        """
        by_run: dict[str, list[tuple[int, int]]] = {}
        for event in self.audit():
            by_run.setdefault(event["run"], []).append((event["step"], event["pid"]))
        return len(by_run) == len(self.runs) and all(_goes_through(notes, steps) for notes in by_run.values())


def _goes_through(notes: list[tuple[int, int]], steps: int) -> bool:
    """Whether the notes (step, process) of a run go from its first step to its last, each once."""
    ends = [(0, 0), *notes, (steps + 1, 0)]
    return all(
        later == earlier + 1 or (later == earlier + 2 and process != before)
        for (earlier, before), (later, process) in pairwise(ends)
    )


class Watch(SweepListener):
    """Calls ``tick`` while a sweep goes on, and spares it the two minutes that SLURM holds a requeued job back."""

    def __init__(self, tick: Callable[[], object], *, slurm: bool, patience_seconds: float) -> None:
        self._tick = tick
        self._slurm = slurm
        self._next = 0.0
        self._pending: set[str] = set()
        self._deadline = time.monotonic() + patience_seconds

    def tick(self, state: SweepState) -> None:
        assert time.monotonic() < self._deadline, f"{state}\n{queue() if self._slurm else ''}"
        self._tick()
        if self._slurm and time.monotonic() > self._next:
            self._next = time.monotonic() + 1
            # A node refuses a job that begins in the very second in which it was requeued ("Job credential revoked"):
            # the two minutes keep them apart, and here it is another look.
            pending = set(queue("%i", "--states=PENDING").split())
            for task in pending & self._pending:
                command = ["scontrol", "update", f"jobid={task}", "StartTime=now"]
                subprocess.run(command, capture_output=True, check=False)
            self._pending = pending - self._pending


def queue(shown: str = "%i|%T|%N|%r|%j", *options: str) -> str:
    command = ["squeue", "--noheader", "--array", f"--format={shown}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


class Once:
    """Does something once, as soon as the sweep has trained so many steps."""

    def __init__(self, sweep: Sweep, steps: int, does: Callable[[], object]) -> None:
        self.sweep, self.steps, self.does = sweep, steps, does
        self.done = False

    def __call__(self) -> None:
        if not self.done and len(self.sweep.audit()) >= self.steps:
            self.done = True
            self.does()


def fates(state: SweepState) -> list[str]:
    return [run.fate for run in state.finished]


def bare(results: Path) -> dict[str, bytes]:
    """The records, times, hosts and places apart."""
    records = [found.record for found in load_records(results) if found.record is not None]
    return {record.id: without_times(record).replace(str(results).encode(), b"RESULTS") for record in records}
