"""``biasrepro sweep --executor ray|slurm``: its options, each defined once, and what they ask of the engine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Table
    from repro.sweep.backends import Engine
    from repro.sweep.cluster_node import Terms
    from repro.sweep.executor import Job
    from repro.sweep.selection import Plan

ExecutorName = Literal["local", "ray", "slurm"]

_PANEL = "On a cluster"


def _option(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel=_PANEL, **settings)


Executor = Annotated[ExecutorName, _option("--executor", help="Where runs are trained: here, on Ray, on SLURM.")]
Address = Annotated[
    str | None, _option(metavar="HOST:PORT|auto", help="ray: the cluster's head. Without it, a Ray on this machine.")
]
Detach = Annotated[bool, _option("--detach", help="Leave the work to the cluster, and return at once.")]
Stop = Annotated[
    bool, _option("--stop", help="Stop the sweeps under way, of TABLE or all: runs commit their state and end.")
]
GpusPerJob = Annotated[
    float | None,
    _option("--gpus-per-job", min=0, metavar="N", help="GPUs that a job reserves. --jobs-per-gpu runs share each."),
]
CpusPerJob = Annotated[float | None, _option("--cpus-per-job", min=0, metavar="N", help="CPUs that a job reserves.")]
MemoryPerJob = Annotated[
    float | None, _option("--memory-per-job", min=0, metavar="GB", help="Memory that it reserves.")
]
Partition = Annotated[str | None, _option("--partition", help="slurm: the partition.")]
Time = Annotated[
    str | None, _option("--time", metavar="H:MM:SS", help="slurm: a job's walltime; runs go on in the next job.")
]
Array = Annotated[int | None, _option("--array", min=1, metavar="N", help="slurm: at most so many jobs at a time.")]
Account = Annotated[str | None, _option("--account", help="slurm: the account that is charged.")]
Qos = Annotated[str | None, _option("--qos", help="slurm: the quality of service.")]
Setup = Annotated[
    list[str] | None, _option("--setup", metavar="LINE", help="slurm: a shell line before the training. Repeatable.")
]
Sbatch = Annotated[
    list[str] | None, _option("--sbatch", metavar="KEY=VALUE", help="slurm: any other setting of sbatch. Repeatable.")
]

# Settings of sbatch by which jobs are found, or that say which runs a job trains.
_SET_HERE = {"array", "job-name", "comment", "nodes", "ntasks", "ntasks-per-node", "output", "error", "open-mode"}
_TIME = re.compile(r"(?:([0-9]+)-)?([0-9]+)(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?")


@dataclass(frozen=True)
class Asked:
    """What the command line said about clusters; None, False and () where it said nothing."""

    executor: ExecutorName
    address: str | None = None
    node_data: Path | None = None
    detach: bool = False
    gpus_per_job: float | None = None
    cpus_per_job: float | None = None
    memory_gb: float | None = None
    partition: str | None = None
    time: str | None = None
    array: int | None = None
    account: str | None = None
    qos: str | None = None
    setup: Sequence[str] = ()
    sbatch: Sequence[str] = ()

    def engine(self, *, jobs_per_gpu: str, gpus: str | None, jobs: int | None) -> Engine | None:
        """The engine that was asked for, None for this machine. Raises UserError for options that it does not have."""
        self._refuse_strangers()
        if self.executor == "local":
            return None
        from repro.cli.sweep.jobs_per_gpu import parse_jobs_per_gpu
        from repro.sweep.backends import RayOptions, SlurmOptions, engine_of

        for option, given in (("--gpus", gpus), ("--jobs", jobs)):
            if given is not None:
                raise UserError(
                    f"{option} chooses among this machine's devices, not a cluster's",
                    hint="--gpus-per-job and --cpus-per-job say what a job reserves there.",
                )
        if self.node_data is not None and not str(self.node_data).startswith(("/", "$")):
            raise UserError(
                f"--node-data {self.node_data}: a node has another working folder",
                hint="Give a whole path, such as /tmp/biasrepro, or one that begins with a variable of the node's.",
            )
        share = parse_jobs_per_gpu(jobs_per_gpu)
        if share is None:
            raise UserError(
                "--jobs-per-gpu auto measures the GPUs of this machine, not a cluster's",
                hint="Measure on a node (`biasrepro sweep TABLE --jobs-per-gpu auto`), and give the number here.",
            )
        if self.executor == "ray":
            return engine_of(
                "ray", RayOptions(self.address, self.gpus_per_job, self.cpus_per_job, self.memory_gb, share)
            )
        return engine_of(
            "slurm",
            SlurmOptions(
                partition=self.partition,
                time_minutes=None if self.time is None else parse_minutes(self.time),
                gpus_per_job=_whole("--gpus-per-job", self.gpus_per_job),
                cpus_per_job=_whole("--cpus-per-job", self.cpus_per_job),
                memory_gb=self.memory_gb,
                array=self.array,
                account=self.account,
                qos=self.qos,
                setup=tuple(self.setup),
                extra=tuple(_pair(text) for text in self.sbatch),
                jobs_per_gpu=share,
            ),
        )

    @property
    def on_gpus(self) -> bool:
        """Whether the runs of an engine are to train on GPUs, as far as the options tell."""
        return (
            self.executor == "ray"
            or bool(self.gpus_per_job)
            or any("gres" in one or "gpu" in one for one in self.sbatch)
        )

    def _refuse_strangers(self) -> None:
        slurm = ("partition", "time", "array", "account", "qos", "setup", "sbatch")
        both = ("node_data", "detach", "gpus_per_job", "cpus_per_job", "memory_gb")
        belong = {"local": (), "ray": ("address", *both), "slurm": (*slurm, *both)}
        for name in ("address", *both, *slurm):
            given = getattr(self, name)
            if given is not None and given is not False and given != () and name not in belong[self.executor]:
                theirs = " or ".join(f"--executor {other}" for other, names in belong.items() if name in names)
                option = "--memory-per-job" if name == "memory_gb" else f"--{name.replace('_', '-')}"
                raise UserError(f"{option} is for {theirs}", hint="Add that, or leave the option out.")


def parse_minutes(text: str) -> int:
    """Minutes of a walltime as SLURM writes it: ``90`` minutes, ``H:MM:SS``, ``MM:SS``, ``D-HH``, ``D-HH:MM:SS``."""
    if not (found := _TIME.fullmatch(text)):
        raise UserError(
            f"--time {text} is no time", hint="Such as --time 4:00:00 (hours), 1-12 (days-hours), 90 (minutes)."
        )
    days, *others = found.groups()
    numbers = [int(part) for part in others if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, minutes, seconds = 0, numbers[0], (numbers[1:] or [0])[0]
    total = int(days or 0) * 1440 + hours * 60 + minutes + (seconds > 0)
    if not total:
        raise UserError(f"--time {text} leaves no time to train")
    return total


def everywhere(reference: str) -> str:
    """``reference`` to a table such that it means the same in every folder: a file by its absolute path."""
    from repro.experiment.config import builtin_names

    name, plus, settings = reference.partition("+")
    if name in builtin_names() or not Path(name).exists():
        return reference
    return f"{Path(name).absolute()}{plus}{settings}"


def show_submission(
    engine: Engine,
    plan: Plan,
    table: Table,
    jobs: Sequence[Job],
    terms: Terms,
    *,
    on_gpus: bool,
    root: Path,
    node_data: Path | None,
) -> None:
    """Print what would be submitted, and its cost as far as that is known; submits nothing, writes nothing."""
    from repro.cli.console import say
    from repro.cli.sweep.dry_run import missing_data, show_costs_elsewhere

    say(f"runs   {len(plan.todo)} to train, {len(plan.finished)} finished")
    show_costs_elsewhere(table, plan, Path(terms.results), on_gpus=on_gpus)
    for text in data_lines(table, root, node_data):
        say(text)
    print(engine.submission(jobs, terms))
    if (missing := missing_data(table, root)) is not None:
        say(missing, "yellow")
    say("Nothing was started.")


def data_lines(table: Table, root: Path, node_data: Path | None) -> list[str]:
    """Which file of images the nodes open; none for data that come with a package."""
    from repro.data.prepare import cache_path
    from repro.experiment.catalog import dataset_facts

    facts = dataset_facts(table.dataset.name)
    if not facts.archives:
        return []
    shared = cache_path(facts, root.absolute())
    if node_data is None:
        return [f"data   each node opens {shared}, read-only"]
    return [f"data   each node copies {shared} once to {node_data}, and opens the copy"]


def leave(engine: Engine, name: ExecutorName, table: Table, jobs: Sequence[Job], terms: Terms, command: str) -> None:
    """Leave ``jobs`` to the cluster, and say how to follow and how to stop them."""
    from dataclasses import replace

    from repro.cli.console import counted, say
    from repro.cli.references import command_line
    from repro.sweep.registry import register

    results = Path(terms.results)
    registration = register(results, table=table.id, executor=name, command=command, detached=True)
    try:
        left = engine.leave(jobs, replace(terms, sweep=registration.id))
        registration.note_left(left)
    except BaseException:
        registration.remove()
        raise
    if not left:
        registration.remove()
        say(f"{table.id}: all of it is in {name}'s queue already, from an earlier sweep")
        return
    say(f"{table.id}: {counted(len(jobs), 'run')} left to {name}, as sweep {registration.id}", "bold")
    if numbers := left.get("slurm"):
        say(f"queue   squeue --jobs {numbers}")
    say(f"follow  {command_line('status', table.reference, '--watch', results=results)}")
    say(f"stop    {command_line('sweep', table.reference, '--stop', results=results)}")


def _whole(option: str, number: float | None) -> int | None:
    if number is not None and number != int(number):
        raise UserError(f"{option} {number:g}: SLURM gives whole ones", hint="--jobs-per-gpu lets runs share a GPU.")
    return None if number is None else int(number)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not re.fullmatch(r"[a-z][a-z0-9_-]*", key) or not value.isprintable():
        raise UserError(f"--sbatch {text} is no KEY=VALUE", hint="Such as --sbatch constraint=a100.")
    if key in _SET_HERE:
        raise UserError(
            f"--sbatch {text}: biasrepro sets {key} itself",
            hint="--array N says how many jobs run at a time." if key == "array" else "Leave it out.",
        )
    return key, value
