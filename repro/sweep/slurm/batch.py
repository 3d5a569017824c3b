"""A batch: jobs of a sweep submitted as one array, each task of it some runs, and the folder that says which.

``<results>/.sweeps/slurm/<batch>/`` holds ``plan.json`` (written before anything is submitted: whoever finds the
batch's name in the queue finds its runs here), submitit's files, and the tasks' last words.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from repro.errors import UserError
from repro.results.durable import make_folder, write_durably
from repro.sweep.cluster_node import NodeSettings, RemoteJob
from repro.sweep.executor import Job
from repro.sweep.registry import FOLDER
from repro.sweep.slurm.backend import SlurmOptions
from repro.sweep.slurm.queue import PREFIX, SlurmError, refused, run_command
from repro.sweep.slurm.task import ArrayTask, ends_file

# SLURM signals up to a minute earlier than it is asked to; what a run needs to commit is less.
_SIGNAL_SECONDS, _LEAST_SIGNAL_SECONDS = 120, 15
_WITHOUT_LIMIT = 1_000_000  # of requeues: the runs' progress decides, not their number
_FORGOTTEN_SECONDS = 86_400.0  # after which a batch that is not in the queue is swept up
_BATCH = re.compile(r"[0-9a-f]{12}")
_LOG_TAIL_BYTES = 4_000
_LOG_TAIL_LINES = 12


@dataclass(frozen=True)
class Batch:
    """A batch: its folder, the sweep that submitted it, and the ids of the runs of each of its tasks."""

    folder: Path
    sweep: str
    tasks: tuple[tuple[str, ...], ...]

    @property
    def id(self) -> str:
        """The batch's id, which its jobs' name ends with."""
        return self.folder.name

    def ends(self, index: int) -> Path:
        """Where the task leaves its last word."""
        return ends_file(self.folder, index)

    def last_words(self, task: str) -> str:
        """The last lines of a task's own log; those of its runs are in their folders."""
        lines: list[str] = []
        for name in (f"{task}_0_log.out", f"{task}_0_log.err"):
            with contextlib.suppress(OSError):
                text = (self.folder / name).read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")
                lines += [line for line in text.splitlines() if line.strip()]
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    def remove(self) -> None:
        """The batch is over, and nobody needs its files."""
        shutil.rmtree(self.folder, ignore_errors=True)


def batches(results: Path) -> Iterator[Batch]:
    """The batches whose plan is in the results folder; what is none of ours is passed over."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for folder in (results / FOLDER / "slurm").iterdir():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                if _BATCH.fullmatch(folder.name):
                    plan = json.loads((folder / "plan.json").read_bytes())
                    tasks = tuple(tuple(str(run) for run in task) for task in plan["tasks"])
                    yield Batch(folder, str(plan["sweep"]), tasks)


def remove_if_stale(batch: Batch) -> None:
    """Remove the files of a batch that is not in the queue, once nobody can want them any more."""
    with contextlib.suppress(OSError):
        if time.time() - max(path.stat().st_mtime for path in batch.folder.iterdir()) > _FORGOTTEN_SECONDS:
            batch.remove()


def into_tasks(jobs: Sequence[Job], options: SlurmOptions, settings: NodeSettings) -> list[tuple[Job, ...]]:
    """The jobs by task: as many as a task trains at a time, and a job that is to be alone by itself."""
    size = runs_of_a_task(options, settings)
    together = [job for job in jobs if not job.alone]
    tasks = [tuple(together[start : start + size]) for start in range(0, len(together), size)]
    return [*tasks, *((job,) for job in jobs if job.alone)]


def runs_of_a_task(options: SlurmOptions, settings: NodeSettings) -> int:
    """How many runs a task trains at a time: those of its GPUs, or those of its CPUs."""
    if options.gpus_per_job and settings.device != "cpu":
        return options.gpus_per_job * settings.jobs_per_gpu
    return settings.jobs or max(1, (options.cpus_per_job or 1) // (settings.threads or 1))


def submit(
    tasks: Sequence[tuple[Job, ...]], options: SlurmOptions, settings: NodeSettings, *, at_a_time: int | None
) -> tuple[Batch, str]:
    """Submit the tasks as one array; returns the batch and SLURM's number for it. Raises SlurmError."""
    results = Path(settings.results)
    folder = results / FOLDER / "slurm" / secrets.token_hex(6)
    batch = Batch(folder, settings.sweep, tuple(tuple(job.id for job in task) for task in tasks))
    try:
        make_folder(folder, below=results)
        write_durably(folder / "plan.json", json.dumps({"sweep": settings.sweep, "tasks": batch.tasks}).encode())
    except OSError as error:
        raise SlurmError(f"nothing can be written here: {error.strerror}", where=str(folder)) from error
    work = [
        ArrayTask(str(folder), index, tuple(RemoteJob.of(job) for job in task), settings)
        for index, task in enumerate(tasks)
    ]
    said = io.StringIO()  # submitit prints what sbatch had to say
    try:
        with contextlib.redirect_stderr(said):
            submitted = _submitter(folder, options, len(tasks), at_a_time).submit_array(work)
    except Exception as error:  # whatever it was: what may be queued all the same would find nothing to do
        with contextlib.suppress(SlurmError):
            run_command("scancel", "--quiet", f"--name={PREFIX}{batch.id}")
        batch.remove()
        raise _explained(error, said.getvalue()) from error
    return batch, str(submitted[0].job_id).partition("_")[0]


def script(count: int, options: SlurmOptions, settings: NodeSettings) -> str:
    """The sbatch file for an array of so many tasks."""
    folder = Path(settings.results) / FOLDER / "slurm" / ("0" * 12)
    submitter = _submitter(folder, options, count, options.array)
    if count > 1:
        submitter.parameters["map_count"] = count
    return submitter.text()


class _Submitter(submitit.SlurmExecutor):
    """submitit's executor, which can also just say what it would submit, where there is no SLURM too."""

    @classmethod
    def affinity(cls) -> int:
        return 2

    def text(self) -> str:
        """The file for sbatch."""
        return self._make_submission_file_text(self._submitit_command_str, "")


def _submitter(folder: Path, options: SlurmOptions, count: int, at_a_time: int | None) -> _Submitter:
    # The batch script becomes Python: SLURM signals that process alone, and what it started hears of it from there.
    submitter = _Submitter(folder, max_num_timeout=_WITHOUT_LIMIT, python=f"exec {shlex.quote(sys.executable)}")
    submitter.update_parameters(**_parameters(folder, options, count, at_a_time))
    return submitter


def _parameters(folder: Path, options: SlurmOptions, count: int, at_a_time: int | None) -> dict[str, Any]:
    """submitit's names for what SLURM is told; None leaves a setting out."""
    lead = _SIGNAL_SECONDS
    if options.time_minutes is not None:
        lead = min(lead, max(_LEAST_SIGNAL_SECONDS, options.time_minutes * 60 // 4))
    extra: Mapping[str, object] = {"signal": f"B:USR2@{lead}", "requeue": True, **dict(options.extra)}
    return {
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
        "setup": list(options.setup) or None,
        "use_srun": False,
        "additional_parameters": extra,
    }


def _explained(error: Exception, said: str) -> UserError:
    """What a person should read where a submission failed."""
    if isinstance(error, OSError):
        return SlurmError(
            f"sbatch cannot be run here: {error.strerror}",
            hint="Start the sweep where SLURM's commands are, on a login node of the cluster.",
        )
    return refused(str(error).strip() or said.strip() or type(error).__name__, "sbatch")
