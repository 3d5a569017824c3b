"""Sweeps on a SLURM cluster: the options of sbatch, what would be submitted, and the work of --detach and --stop."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from repro.environment import not_used
from repro.errors import UserError
from repro.sweep.backends import Backend, Option, Reservation

if TYPE_CHECKING:
    from repro.sweep.cluster_node import NodeSettings
    from repro.sweep.executor import Job
    from repro.sweep.registry import Registration
    from repro.sweep.slurm.executor import SlurmExecutor

# Settings of sbatch that request GPUs, some of them only with a value that names any (gres=lscratch:100 does not).
GPU_SETTING = re.compile(r"gpus(-per-(node|task|socket))?=.*|(gres|tres-per-(job|node|socket|task))=.*gpu.*")
# Settings of sbatch that biasrepro needs itself: to find its jobs, and to give each its runs.
_RESERVED_KEYS = {"array", "job-name", "comment", "nodes", "ntasks", "ntasks-per-node", "output", "error", "open-mode"}
_TIME = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,7})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?")


@dataclass(frozen=True, kw_only=True)
class SlurmOptions(Reservation):
    """The options of SLURM. None leaves a setting to the cluster's default.

    ``array`` is the most jobs at a time, ``setup`` are shell lines before the training (``module load``), ``extra`` are
    other settings of sbatch as pairs (``("constraint", "a100")``). A job trains ``jobs_per_gpu`` runs at a time on each
    of its GPUs.
    """

    gpus_per_job: int | None = None
    cpus_per_job: int | None = None
    partition: str | None = None
    time_minutes: int | None = None
    array: int | None = None
    account: str | None = None
    qos: str | None = None
    setup: tuple[str, ...] = ()
    extra: tuple[tuple[str, str], ...] = ()


class SlurmBackend(Backend):
    """SLURM."""

    name = "slurm"
    package = "submitit"
    install = "pip install 'biasrepro[slurm]'"
    own_options = (
        Option("--partition", "the partition."),
        Option("--time", "the walltime of a job; the next job resumes unfinished runs.", "H:MM:SS"),
        Option("--array", "the most jobs at a time.", "N", kind=int, minimum=1, maximum=1_000_000),
        Option("--account", "the account that is charged."),
        Option("--qos", "the quality of service."),
        Option("--setup", "a shell line to run before the training. May be repeated.", "LINE", repeatable=True),
        Option("--sbatch", "any other setting of sbatch. May be repeated.", "KEY=VALUE", repeatable=True),
    )
    has_queue = True

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options

    @classmethod
    def configured(cls, reservation: Reservation, given: Mapping[str, Any]) -> Self:
        """The backend with the options of the command line. Raises UserError for a value that SLURM does not take."""
        extra = tuple(_setting(text) for text in given["sbatch"] or ())
        if not reservation.gpus_per_job:
            _refuse_gpus(extra)
            if reservation.jobs_per_gpu != 1:
                raise UserError(
                    "--jobs-per-gpu is for jobs that reserve GPUs", hint="Add --gpus-per-job N, or leave it out."
                )
        return cls(
            SlurmOptions(
                gpus_per_job=_whole("--gpus-per-job", reservation.gpus_per_job),
                cpus_per_job=_whole("--cpus-per-job", reservation.cpus_per_job),
                memory_gb=reservation.memory_gb,
                jobs_per_gpu=reservation.jobs_per_gpu,
                partition=given["partition"],
                time_minutes=None if given["time"] is None else parse_minutes(given["time"]),
                array=given["array"],
                account=given["account"],
                qos=given["qos"],
                setup=tuple(given["setup"] or ()),
                extra=extra,
            )
        )

    @property
    def uses_gpus(self) -> bool:
        """Whether a job reserves GPUs."""
        return bool(self._options.gpus_per_job)

    def submission(self, jobs: Sequence[Job], settings: NodeSettings) -> str:
        """The sbatch file for ``jobs``."""
        from repro.sweep.slurm.batch import into_tasks, script

        text = script(len(into_tasks(jobs, self._options, settings)), self._options, settings)
        return f"{text}\n# {note}\n" if (note := not_used_note()) else text

    def connect(self, settings: NodeSettings) -> SlurmExecutor:
        """The executor. Raises SlurmError if SLURM does not answer."""
        from repro.sweep.slurm.executor import SlurmExecutor

        return SlurmExecutor(self._options, settings)

    def leave(self, jobs: Sequence[Job], settings: NodeSettings) -> Mapping[str, str]:
        """Submit ``jobs``, apart from those that are in the queue already."""
        from repro.sweep.slurm.queue import SlurmError, cancel

        executor = self.connect(settings)
        for job in jobs:
            executor.submit(job)
        try:
            executor.hand_in()
        except SlurmError:  # perhaps after some of the arrays: without a sweep, their tasks would have nothing to do
            with contextlib.suppress(SlurmError):
                cancel(_numbers(executor.left()))
            raise
        return executor.left()

    @classmethod
    def named(cls, sweep: Registration) -> Mapping[str, str]:
        """Of the numbers in the sweep's file, those that the queue has under its name. Raises SlurmError."""
        from repro.sweep.slurm.batch import batches
        from repro.sweep.slurm.queue import queued_tasks

        ours = {batch.id for batch in batches(sweep.results) if batch.sweep == sweep.id}
        queued = {task.id.partition("_")[0] for (batch, _), task in queued_tasks().items() if batch in ours}
        return {"slurm": ",".join(number for number in _numbers(sweep.left) if number in queued)}

    @classmethod
    def drop(cls, left: Mapping[str, str]) -> None:
        """Cancel the pending tasks. Raises SlurmError."""
        from repro.sweep.slurm.queue import cancel

        if numbers := _numbers(left):
            cancel(numbers, only_pending=True)

    @classmethod
    def is_over(cls, left: Mapping[str, str]) -> bool:
        """Whether none of its tasks is in the queue; False if SLURM does not answer, or is another cluster's."""
        from repro.sweep.slurm.queue import SlurmError, cluster_name, queued_tasks

        try:
            queued = {task.id.partition("_")[0] for task in queued_tasks().values()}
        except SlurmError:
            return False
        is_here = "cluster" not in left or left["cluster"] == cluster_name()
        return is_here and queued.isdisjoint(_numbers(left))

    @classmethod
    def queue_command(cls, left: Mapping[str, str]) -> str | None:
        """``squeue`` with the numbers of the arrays."""
        return f"squeue --jobs {','.join(numbers)}" if (numbers := _numbers(left)) else None


def not_used_note() -> str | None:
    """Which variables sbatch would have obeyed before any option; None if none is set."""
    names = not_used("SBATCH_")
    return f"not used: {', '.join(names)}; give --partition, --qos, --sbatch KEY=VALUE instead" if names else None


def parse_minutes(text: str) -> int:
    """Minutes of a walltime as SLURM writes it: ``90`` minutes, ``H:MM:SS``, ``MM:SS``, ``D-HH``, ``D-HH:MM:SS``."""
    if not (found := _TIME.fullmatch(text)):
        raise UserError(
            f"--time {text} is not a walltime",
            hint="Such as --time 4:00:00 (hours), 1-12 (days-hours), 90 (minutes).",
        )
    days, *others = found.groups()
    numbers = [int(part) for part in others if part is not None]
    if days is None and len(numbers) < 3:  # minutes come first
        numbers.insert(0, 0)
    hours, minutes, seconds = [*numbers, 0, 0][:3]
    total = int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0)
    if not total:
        raise UserError(f"--time {text} leaves no time to train")
    return total


def _whole(option: str, number: float | None) -> int | None:
    if number is not None and number != int(number):
        raise UserError(
            f"{option} {number:g}: SLURM takes whole numbers only", hint="--jobs-per-gpu lets runs share a GPU."
        )
    return None if number is None else int(number)


def _refuse_gpus(settings: Sequence[tuple[str, str]]) -> None:
    """Raise UserError for a setting that requests GPUs, of which nothing else would know."""
    for key, value in settings:
        if GPU_SETTING.fullmatch(f"{key}={value}"):
            raise UserError(
                f"--sbatch {key}={value} requests GPUs without --gpus-per-job, by which runs are put into jobs",
                hint=f"Such as --gpus-per-job 1 --sbatch {key}={value}, with the number of GPUs of a job.",
            )


def _setting(text: str) -> tuple[str, str]:
    """A ``KEY=VALUE`` of --sbatch as a pair."""
    key, equals, value = text.partition("=")
    key = key.replace("_", "-")  # as it is written for sbatch
    if not equals or not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not value.isprintable():
        raise UserError(f"--sbatch {text} is not of the form KEY=VALUE", hint="Such as --sbatch constraint=a100.")
    if key in _RESERVED_KEYS:
        hint = "--array N sets how many jobs run at a time." if key == "array" else "Leave it out."
        raise UserError(f"--sbatch {text}: biasrepro sets {key} itself", hint=hint)
    return key, value


def _numbers(left: Mapping[str, str]) -> list[str]:
    return [number for number in left.get("slurm", "").split(",") if number.isdecimal()]


BACKEND = SlurmBackend
