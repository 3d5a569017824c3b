"""A batch: jobs of a sweep submitted as one array, with some runs in each task, and a folder that lists them.

``<results>/.sweeps/slurm/<batch>/`` holds ``plan.json`` (written before the submission: the batch's name in the queue
leads to its runs), submitit's files, and the results of the tasks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import _make_sbatch_string

from repro.environment import settled
from repro.errors import UserError
from repro.machine import package_path
from repro.results.durable import create_file, make_folder, write_durably
from repro.results.files import is_of_this_user_alone, read_file
from repro.sweep.cluster_node import NodeSettings, RemoteJob
from repro.sweep.executor import Job
from repro.sweep.local.worker import log_tail
from repro.sweep.registry import FOLDER
from repro.sweep.slurm.backend import GPU_SETTING, SlurmOptions
from repro.sweep.slurm.queue import PREFIX, SlurmError, refused, run_command
from repro.sweep.slurm.task import ArrayTask

# SLURM signals up to a minute earlier than it is asked to; saving a checkpoint takes less.
_SIGNAL_SECONDS, _LEAST_SIGNAL_SECONDS = 120, 15
_WITHOUT_LIMIT = 1_000_000  # requeues: the progress of the runs decides, not their number
_STALE_SECONDS = 86_400.0  # after which a batch that is not in the queue is deleted
_BATCH = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Batch:
    """A batch: its folder, the sweep that submitted it, and the ids of the runs of each of its tasks."""

    folder: Path
    sweep: str
    tasks: tuple[tuple[str, ...], ...]

    @property
    def id(self) -> str:
        """The batch's id, with which the names of its jobs end."""
        return self.folder.name

    def last_words(self, task: str) -> str:
        """The last lines of a task's own log; those of its runs are in their folders."""
        return log_tail(self.folder / f"{task}_0_log.out", self.folder / f"{task}_0_log.err")

    def remove(self) -> bool:
        """Delete the files of a batch that is over; False if some are left, as while a process still writes there."""
        shutil.rmtree(self.folder, ignore_errors=True)
        return not self.folder.exists()

    def remove_if_stale(self) -> None:
        """Delete the files of a batch that is not in the queue, once they are old."""
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in self.folder.iterdir()) > _STALE_SECONDS:
                self.remove()


def batches(results: Path) -> Iterator[Batch]:
    """This user's batches whose plan is in the results folder; other files, and what others wrote, are skipped."""
    for folder in (results / FOLDER / "slurm").glob("*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if _BATCH.fullmatch(folder.name) and is_of_this_user_alone(folder.lstat()):
                plan = json.loads(read_file(folder / "plan.json"))
                yield Batch(folder, str(plan["sweep"]), tuple(tuple(map(str, task)) for task in plan["tasks"]))


def into_tasks(jobs: Sequence[Job], options: SlurmOptions, settings: NodeSettings) -> list[tuple[Job, ...]]:
    """The jobs by task: as many as a task trains at a time, and each job that must be alone by itself."""
    if options.gpus_per_job and settings.device != "cpu":
        size = options.gpus_per_job * settings.jobs_per_gpu
    else:
        size = settings.jobs or max(1, (options.cpus_per_job or 1) // (settings.threads or 1))
    together = [job for job in jobs if not job.alone]
    tasks = [tuple(together[start : start + size]) for start in range(0, len(together), size)]
    return [*tasks, *((job,) for job in jobs if job.alone)]


def submit(
    tasks: Sequence[tuple[Job, ...]], options: SlurmOptions, settings: NodeSettings, *, at_a_time: int | None
) -> tuple[Batch, str]:
    """Submit the tasks as one array; returns the batch and SLURM's number for it. Raises SlurmError."""
    results = Path(settings.results)
    check_path(results)
    folder = results / FOLDER / "slurm" / secrets.token_hex(6)
    work, runs = [], []
    for index, task in enumerate(tasks):
        work.append(ArrayTask(str(folder), index, tuple(RemoteJob.of(job) for job in task), settings))
        runs.append(tuple(job.id for job in task))
    batch = Batch(folder, settings.sweep, tuple(runs))
    try:
        make_folder(folder, below=results)
        folder.chmod(0o700)  # a node runs what is in it
        write_durably(folder / "plan.json", json.dumps({"sweep": settings.sweep, "tasks": batch.tasks}).encode())
    except OSError as error:
        raise SlurmError(f"cannot write the sweep's plan: {error.strerror}", where=str(folder)) from error
    try:
        return batch, _sbatch(folder, work, options, at_a_time)
    except BaseException:  # any: jobs that are queued all the same must not start without their files
        with contextlib.suppress(SlurmError):
            run_command("scancel", "--quiet", f"--name={PREFIX}{batch.id}")
        batch.remove()
        raise


def _sbatch(folder: Path, work: Sequence[ArrayTask], options: SlurmOptions, at_a_time: int | None) -> str:
    """Submit the array, with the files that submitit reads on a node; returns its number."""
    try:
        pickles = [folder / f"{index}.pkl" for index in range(len(work))]
        for task, pickle in zip(work, pickles, strict=True):
            delayed = DelayedSubmission(task)
            delayed.set_timeout(options.time_minutes or 0, _WITHOUT_LIMIT)
            delayed.dump(pickle)
        file = folder / "submission.sh"
        create_file(file, _file_text(folder, options, len(work), at_a_time).encode())
        said = run_command("sbatch", str(file), environment=settled(os.environ, for_a_node=True))
        if (number := re.search(r"job ([0-9]+)", said)) is None:
            raise refused(said.strip() or "nothing", "sbatch")
        for index, pickle in enumerate(pickles):
            pickle.rename(JobPaths(folder, f"{number[1]}_{index}" if len(work) > 1 else number[1]).submitted_pickle)
    except OSError as error:
        raise SlurmError(f"cannot write the sweep's plan: {error.strerror}", where=str(folder)) from error
    return number[1]


def check_path(results: Path) -> None:
    """Raise UserError for a results folder whose path SLURM or submitit would read as a pattern or as two lines."""
    if found := re.search(r"%[jtAa]|\\", str(results)):
        what = f"'{found[0]}' in the path of the results folder is a pattern of SLURM's"
    elif not str(results).isprintable():
        what = "the path of the results folder has characters that cannot be printed"
    else:
        return
    raise UserError(what, where=str(results), hint="Choose another folder with --results, or rename this one.")


def script(count: int, options: SlurmOptions, settings: NodeSettings) -> str:
    """The sbatch file for an array of ``count`` tasks."""
    check_path(Path(settings.results))
    folder = Path(settings.results) / FOLDER / "slurm" / ("0" * 12)
    return _file_text(folder, options, count, options.array)


def _file_text(folder: Path, options: SlurmOptions, count: int, at_a_time: int | None) -> str:
    # By exec, the batch script becomes Python: SLURM signals that process only, and it passes the signal on. By -P, the
    # folder that sbatch was called in is not on its path.
    command = f"exec {shlex.quote(sys.executable)} -P -u -m submitit.core._submit {shlex.quote(str(folder))}"
    return _make_sbatch_string(
        command,
        str(folder).replace("%", "%%"),  # of the logs, where SLURM replaces %j and the like
        map_count=count if count > 1 else None,
        **_parameters(folder, options, count, at_a_time),
    )


def _package_path() -> list[str]:
    """The shell line with which a task finds a package that is here found by the current folder alone."""
    top = package_path()
    if sys.flags.safe_path or Path(sys.path[0]).absolute() != top:
        return []
    return [f"export PYTHONPATH={shlex.quote(str(top))}${{PYTHONPATH:+:$PYTHONPATH}}"]


def _parameters(folder: Path, options: SlurmOptions, count: int, at_a_time: int | None) -> dict[str, Any]:
    """The settings of SLURM by submitit's names; None leaves one out. Those of --sbatch replace ours."""
    lead = _SIGNAL_SECONDS
    if options.time_minutes is not None:
        lead = min(lead, max(_LEAST_SIGNAL_SECONDS, options.time_minutes * 60 // 4))
    ours = {
        "job_name": f"{PREFIX}{folder.name}",
        "comment": str(folder.parents[2]),
        "partition": options.partition,
        "time": options.time_minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "gpus_per_node": options.gpus_per_job or None,
        "cpus_per_task": options.cpus_per_job,
        "mem": None if options.memory_gb is None else f"{round(options.memory_gb * 1024)}M",
        "account": options.account,
        "qos": options.qos,
        "array_parallelism": max(1, at_a_time or count),
        "wckey": None,
        "setup": [*_package_path(), *options.setup] or None,
        "use_srun": False,
    }
    for key, value in options.extra:  # submitit would write both, and sbatch take the last
        ours.pop(key.replace("-", "_"), None)
        if GPU_SETTING.fullmatch(f"{key}={value}"):
            ours.pop("gpus_per_node", None)
    return {**ours, "additional_parameters": {"signal": f"B:USR2@{lead}", "requeue": True, **dict(options.extra)}}
