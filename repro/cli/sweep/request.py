"""A request to ``biasrepro sweep``: the options, each a field, and the table and backend that they name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from repro.cli.folders import RESULTS_DEFAULT, ROOT_DEFAULT, ResultsToWrite, Root
from repro.cli.options import (
    ADD_OR_LEAVE_OUT,
    AllowChanged,
    Anonymous,
    Columns,
    Deterministic,
    KeepWeights,
    NodeData,
    Plugins,
    Rows,
    Settings,
    TensorBoard,
    complete,
    threads_option,
)
from repro.cli.references import complete_table, declared, with_settings
from repro.errors import UserError
from repro.sweep.backends import THIS_MACHINE, Backend, Option, Reservation, backends, require_installed
from repro.wording import shell_line

if TYPE_CHECKING:
    from repro.experiment.schema import Table

    ExecutorName = str
else:
    ExecutorName = Literal[(THIS_MACHINE, *backends())]

MOST_JOBS_PER_GPU = 64


def _cluster(*names: str, **settings: Any) -> Any:
    return typer.Option(*names, rich_help_panel="On a cluster", **settings)


@dataclass(frozen=True, kw_only=True)
class SweepRequest:
    """The options of ``biasrepro sweep``. ``own`` holds those of the backends by name, ``words`` the command line."""

    table_name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="A built-in table, such as table2 or demo, or a YAML file.",
            autocompletion=complete_table,
        ),
    ] = None
    seeds: Annotated[
        str | None, typer.Option(help="How many (5 is 0 to 4), or which: 0,3,7 or 5-9. Default: the table's.")
    ] = None
    rows: Rows = None
    columns: Columns = None
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: the GPUs if there are any, else the CPU.")
    ] = "auto"
    gpus: Annotated[str | None, typer.Option(help="Only these of the visible GPUs, counted from 0: 0,1.")] = None
    jobs_per_gpu: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            autocompletion=complete("auto"),
            help="Runs that share a GPU. auto measures how many raise throughput and fit in memory.",
        ),
    ] = "1"
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, metavar="N", help="Runs at a time on the CPU. Default: one per core.")
    ] = None
    threads: Annotated[int | None, threads_option("the cores, divided by the runs that are trained at a time")] = None
    plugin: Plugins = None
    settings: Settings = None
    deterministic: Deterministic = False
    only: Annotated[
        Literal["failed", "missing"] | None,
        typer.Option(help="failed: only runs whose last attempt failed. missing: all other unfinished runs."),
    ] = None
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first failure; running runs save a checkpoint.")
    ] = False
    allow_changed: AllowChanged = False
    anonymous: Anonymous = False
    keep_weights: KeepWeights = False
    tensorboard: TensorBoard = None
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Run to the next interim analysis, analyse, continue with undecided cells.",
        ),
    ] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: list the runs, their estimated time and disk space.")
    ] = False
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="With --dry-run: estimate from earlier records only.")
    ] = False
    results: ResultsToWrite = RESULTS_DEFAULT
    root: Root = ROOT_DEFAULT
    progress: Annotated[Literal["auto", "rich", "plain"], typer.Option(help="Progress display.")] = "auto"
    executor: Annotated[
        ExecutorName, _cluster(help="Where runs are trained: on this machine (local) or on a cluster.")
    ] = THIS_MACHINE
    gpus_per_job: Annotated[
        float | None,
        _cluster(min=0, max=1024, metavar="N", help="GPUs that a job reserves; --jobs-per-gpu runs share each."),
    ] = None
    cpus_per_job: Annotated[
        float | None, _cluster(min=0, max=65_536, metavar="N", help="CPUs that a job reserves.")
    ] = None
    memory_per_job: Annotated[
        float | None, _cluster(min=0, max=1e6, metavar="GB", help="Memory that a job reserves.")
    ] = None
    node_data: NodeData = None
    detach: Annotated[bool, _cluster("--detach", help="Leave the work to the cluster, and return at once.")] = False
    stop: Annotated[
        bool,
        _cluster(
            "--stop",
            is_eager=True,  # it decides whether --results may name a folder that does not exist
            help="Stop the running sweeps, of TABLE or all: their runs save a checkpoint and end.",
        ),
    ] = False
    own: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """The command that repeats or resumes the sweep."""
        return shell_line(["biasrepro", *(self.words or ("sweep", self.table_name or ""))])

    @property
    def is_local(self) -> bool:
        """Whether the runs are trained on this machine, without a backend."""
        return self.executor == THIS_MACHINE

    @cached_property
    def table(self) -> Table:
        """The table, with settings applied. Raises UserError if there is none of that name."""
        from repro.experiment.config import builtin_names, find_table, split_reference

        if self.table_name is None:
            raise UserError("TABLE is required", hint="Such as `biasrepro sweep demo`, or a YAML file.")
        reference = with_settings(self.table_name, declared(self.settings, deterministic=self.deterministic))
        name, settings = split_reference(reference)
        if not self.is_local and name not in builtin_names() and Path(name).exists():
            # A node has another working folder: a YAML file is named by its absolute path.
            reference = "+".join([str(Path(name).absolute()), *settings])
        return find_table(reference)

    @cached_property
    def backend(self) -> Backend | None:
        """The backend with its options; None for this machine. Raises UserError for options that do not apply to it."""
        self._refuse_foreign_options()
        if self.is_local:
            return None
        for option, value in (("--gpus", self.gpus), ("--jobs", self.jobs)):
            if value is not None:
                raise UserError(
                    f"{option} chooses among this machine's devices, not a cluster's",
                    hint="--gpus-per-job and --cpus-per-job say what a job reserves there.",
                )
        if self.node_data is not None and not str(self.node_data).startswith(("/", "$")):
            raise UserError(
                f"--node-data {self.node_data} is relative, and a node has another working folder",
                hint="Give an absolute path, such as /tmp/biasrepro, or one that begins with a variable of the node's.",
            )
        jobs_per_gpu = parse_jobs_per_gpu(self.jobs_per_gpu)
        if jobs_per_gpu is None:
            raise UserError(
                "--jobs-per-gpu auto measures the GPUs of this machine, not a cluster's",
                hint="Measure on a node (`biasrepro sweep TABLE --jobs-per-gpu auto`), and give the number here.",
            )
        if self.gpus_per_job == 0 and jobs_per_gpu != 1:
            raise UserError("--jobs-per-gpu has no effect with --gpus-per-job 0", hint="Leave one of them out.")
        backend = backends()[self.executor]
        require_installed(backend)
        reservation = Reservation(
            gpus_per_job=self.gpus_per_job,
            cpus_per_job=self.cpus_per_job,
            memory_gb=self.memory_per_job,
            jobs_per_gpu=jobs_per_gpu,
        )
        return backend.configured(reservation, self.own)

    def _refuse_foreign_options(self) -> None:
        """Raise UserError for an option of a cluster that the executor does not have."""
        given = [(f"--{name.replace('_', '-')}", getattr(self, name), list(backends())) for name in _SHARED_BY_BACKENDS]
        given += [(option.flag, self.own.get(name) or None, owners) for name, (option, owners) in own_options().items()]
        for flag, value, owners in given:
            if value is not None and value is not False and self.executor not in owners:
                theirs = " or ".join(f"--executor {owner}" for owner in owners)
                raise UserError(f"{flag} is for {theirs}", hint=ADD_OR_LEAVE_OUT)


_SHARED_BY_BACKENDS = ("gpus_per_job", "cpus_per_job", "memory_per_job", "node_data", "detach")


def own_options() -> dict[str, tuple[Option, list[str]]]:
    """The options that belong to some backend, by name, and the backends that have each."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for backend in backends().values():
        for option in backend.own_options:
            found.setdefault(option.name, (option, []))[1].append(backend.name)
    return found


def as_command(run: Callable[[typer.Context, SweepRequest], None]) -> Callable[..., None]:
    """``run`` as a command for Typer, whose parameters are the fields of a request and the backends' own options."""
    hints = get_type_hints(SweepRequest, include_extras=True)
    types: dict[str, Any] = {"context": typer.Context}
    defaults: dict[str, Any] = {"context": inspect.Parameter.empty}
    for option in fields(SweepRequest):
        if option.name not in ("own", "words"):
            types[option.name], defaults[option.name] = hints[option.name], option.default
    for name, (own, owners) in own_options().items():
        settings = _cluster(
            own.flag, metavar=own.metavar, min=own.minimum, max=own.maximum, help=f"{', '.join(owners)}: {own.help}"
        )
        value: Any = list[str] if own.repeatable else own.kind
        types[name], defaults[name] = Annotated[value | None, settings], None

    def command(context: typer.Context, **given: Any) -> None:
        own = {name: given.pop(name) for name in own_options()}
        run(context, SweepRequest(**given, own=own, words=tuple(context.obj or ())))

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind, annotation=types[name], default=defaults[name]) for name in types]
    command.__doc__ = run.__doc__
    command.__annotations__ = types
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def parse_jobs_per_gpu(text: str) -> int | None:
    """The number, or None for ``auto``. Raises UserError for anything else."""
    if text == "auto":
        return None
    if not (re.fullmatch("[0-9]{1,3}", text) and 1 <= int(text) <= MOST_JOBS_PER_GPU):
        raise UserError(f"--jobs-per-gpu {text} is neither auto nor a number from 1 to {MOST_JOBS_PER_GPU}")
    return int(text)
