"""``biasrepro sweep``: all cells x seeds of a table, a process a run."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from repro.cli.idle import ADD_OR_LEAVE_OUT, refuse_idle
from repro.cli.options import (
    RESULTS_DEFAULT,
    ROOT_DEFAULT,
    AllowChanged,
    Deterministic,
    NodeData,
    Results,
    Root,
    Settings,
    TensorBoard,
    Threads,
)
from repro.cli.references import command_line, complete_table, declared, with_settings
from repro.cli.sweep import cluster_options as clusters
from repro.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from repro.experiment.schema import Run, Table
    from repro.sweep.devices.slots import Slot
    from repro.sweep.executor import Job
    from repro.sweep.selection import Plan


def sweep(
    context: typer.Context,
    table_name: Annotated[
        str | None,
        typer.Argument(
            metavar="TABLE",
            help="A built-in table, such as table2 or demo, or a YAML file.",
            autocompletion=complete_table,
        ),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="How many (5 is 0 to 4), or which: 0,3,7 or 5-9. Default: the table's.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="Only these rows: a,b.")] = None,
    columns: Annotated[str | None, typer.Option(help="Only these columns: a,b.")] = None,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto: the GPUs where there are some, else the CPU.")
    ] = "auto",
    gpus: Annotated[str | None, typer.Option(help="Only these of the visible GPUs, counted from 0: 0,1.")] = None,
    jobs_per_gpu: Annotated[
        str, typer.Option(metavar="N|auto", help="Runs that share a GPU at a time; auto measures how many pay and fit.")
    ] = "1",
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, metavar="N", help="Runs at a time on the CPU. Default: one a core.")
    ] = None,
    threads: Threads = None,
    settings: Settings = None,
    deterministic: Deterministic = False,
    only: Annotated[
        Literal["failed", "missing"] | None,
        typer.Option(help="failed: only runs whose last attempt failed. missing: only runs without such an attempt."),
    ] = None,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first failure; what runs commits its state.")
    ] = False,
    allow_changed: AllowChanged = False,
    tensorboard: TensorBoard = None,
    until_decided: Annotated[
        bool,
        typer.Option(
            "--until-decided", help="Seeds up to the next declared look, one look, and on with the cells still open."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: list the runs, their estimated cost and disk.")
    ] = False,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="With --dry-run: estimate from earlier records only.")
    ] = False,
    results: Results = RESULTS_DEFAULT,
    root: Root = ROOT_DEFAULT,
    progress: Annotated[Literal["auto", "rich", "plain"], typer.Option(help="How to show what runs.")] = "auto",
    executor: clusters.Executor = "local",
    address: clusters.Address = None,
    gpus_per_job: clusters.GpusPerJob = None,
    cpus_per_job: clusters.CpusPerJob = None,
    memory_per_job: clusters.MemoryPerJob = None,
    node_data: NodeData = None,
    partition: clusters.Partition = None,
    time: clusters.Time = None,
    array: clusters.Array = None,
    account: clusters.Account = None,
    qos: clusters.Qos = None,
    setup: clusters.Setup = None,
    sbatch: clusters.Sbatch = None,
    detach: clusters.Detach = False,
    stop: clusters.Stop = False,
) -> None:
    """Train all cells x seeds of a table, or a selection; finished runs are skipped, failed ones do not stop the rest.

    Interrupted (Ctrl-C), it commits the state of all running runs; the same command goes on from there.
    """
    from repro.cli.sweep.stop import stop_sweeps
    from repro.cli.sweep.until_decided import (
        hours_from_records,
        refuse_selection,
        run_until_decided,
        show_until_decided,
    )
    from repro.cli.tensorboard import require_tensorboard
    from repro.experiment.config import find_table
    from repro.machine import find_gpus
    from repro.sweep.registry import taken_up
    from repro.sweep.selection import make_plan, parse_seeds, refuse_blocked, selected_runs
    from repro.sweep.survey import survey

    if stop:
        refuse_idle(context, "seeds", "rows", "columns", "only", "dry_run", because="and --stop exclude each other")
    if detach:
        because = "and --detach exclude each other: nobody stays here to act on how the runs end"
        refuse_idle(context, "fail_fast", "until_decided", because=because)
    if device == "cpu" and executor == "local":  # on a cluster, what a run reserves is not what it trains on
        refuse_idle(context, "jobs_per_gpu", because="and --device cpu exclude each other")
    if not dry_run:
        refuse_idle(context, "no_measure", because="is for --dry-run", hint=ADD_OR_LEAVE_OUT)
    if table_name is None:
        if not stop:
            raise UserError("a sweep is of a table", hint="Such as `biasrepro sweep demo`, or a YAML file.")
        raise typer.Exit(int(not stop_sweeps(results, None)))
    reference = with_settings(table_name, declared(settings, deterministic=deterministic))
    table = find_table(reference if executor == "local" else clusters.everywhere(reference))
    if stop:
        raise typer.Exit(int(not stop_sweeps(results, table)))
    asked = clusters.Asked(
        *(executor, address, node_data, detach, gpus_per_job, cpus_per_job, memory_per_job, partition, time, array),
        *(account, qos, setup or (), sbatch or ()),
    )
    engine = asked.engine(jobs_per_gpu=jobs_per_gpu, gpus=gpus, jobs=jobs)

    def train(chosen: Sequence[Run]) -> int:
        """Train those of ``chosen`` that are left, or show what that would be; the exit code."""
        states = survey(results, chosen)
        plan = make_plan(chosen, states, only)
        refuse_blocked(plan)
        slots = _slots(device, gpus, jobs_per_gpu, jobs, threads, plan.todo) if engine is None else ()
        if tensorboard is not None:
            require_tensorboard()
        if dry_run and engine is None:
            from repro.cli.sweep.dry_run import show_dry_run

            show_dry_run(table, plan, slots, results=results, root=root, may_measure=not no_measure)
            return 0
        following = command_line("table", table.reference, results=results)
        again = shlex.join(["biasrepro", *(context.obj or ["sweep", table_name])])
        if not plan.todo and not plan.elsewhere:
            taken_up(results, again)
            _say_nothing_to_do(plan, only, following)
            return 0
        from repro.cli.console import say
        from repro.cli.data_ready import make_data_ready
        from repro.cli.preflight import require_space, require_writable
        from repro.cli.sweep.view import choose_view, say_summary
        from repro.interruption import StopRequests
        from repro.sweep.cluster_node import Terms
        from repro.sweep.driver import conduct
        from repro.sweep.local.executor import LocalExecutor
        from repro.sweep.registry import StopWatch, register

        here = (results, root) if engine is None else (results.absolute(), root.absolute())
        shared = ["--results", str(here[0]), "--root", str(here[1]), *(["--allow-changed"] if allow_changed else [])]
        if tensorboard is not None:
            shared += ["--tensorboard", str(tensorboard if engine is None else tensorboard.absolute())]
        if node_data is not None:
            shared += ["--node-data", str(node_data)]
        jobs_to_run = [_job(run, table, results, shared) for run in (*plan.todo, *plan.elsewhere)]
        terms = Terms("", str(results.absolute()), device, threads, int(jobs_per_gpu) if engine is not None else 1)
        if dry_run and engine is not None:
            on_gpus = device != "cpu" and asked.on_gpus
            clusters.show_submission(
                *(engine, plan, table, jobs_to_run, terms), on_gpus=on_gpus, root=root, node_data=node_data
            )
            return 0
        make_data_ready(table.dataset.name, root)
        require_writable(results)
        require_space(results, plan, len(slots) or len(plan.todo))
        if detach and engine is not None:
            clusters.leave(engine, executor, table, jobs_to_run, terms, again)
            return 0
        say(_opening(table, plan, slots, executor), "bold")
        with register(results, table=table.id, executor=executor, command=again).kept() as sweep:
            watch = StopWatch(sweep)
            trains = LocalExecutor(slots) if engine is None else engine.connect(replace(terms, sweep=sweep.id))
            with StopRequests() as stops, choose_view(progress) as view:
                picture = conduct(
                    jobs_to_run,
                    trains,
                    finished_before=len(plan.finished),
                    fail_fast=fail_fast,
                    # An executor may pass a request on through the register: that is the same one, not a second.
                    stops_asked=lambda: max(stops.count, watch.count()),
                    listen=view,
                )
        stopped = stops.exit_code or 143 * watch.count()
        cut_short = bool(stopped) and bool(picture.waiting or picture.count("interrupted"))
        if not cut_short and not picture.waiting:
            taken_up(results, again)
        say_summary(picture, again, following, interrupted=cut_short)
        failed = bool(picture.count("failed", "diverged"))
        return stopped if cut_short else int(failed)

    if until_decided:
        refuse_selection(seeds=seeds, rows=rows, columns=columns, only=only)
        on_cpu = device == "cpu" or not find_gpus()
        hours = hours_from_records(results, "cpu" if on_cpu else "cuda")
        if dry_run:
            return show_until_decided(table, results, hours)
        raise typer.Exit(run_until_decided(table, results, train, hours=hours, fail_fast=fail_fast))
    picked = _listed("--rows", rows), _listed("--columns", columns)
    if code := train(selected_runs(table, parse_seeds(seeds, table.seeds), *picked)):
        raise typer.Exit(code)


def _listed(option: str, text: str | None) -> list[str] | None:
    """The parts of ``a,b``; None where the option was not given. Raises UserError where it names nothing."""
    if text is None:
        return None
    if not (parts := [part.strip() for part in text.split(",") if part.strip()]):
        raise UserError(f"{option} {text!r} names nothing", hint=f"Such as {option} a,b; without it, all are taken.")
    return parts


def _slots(
    device: str, gpus: str | None, jobs_per_gpu: str, jobs: int | None, threads: int | None, runs: Sequence[Run]
) -> tuple[Slot, ...]:
    """The slots on this machine's devices, for ``runs``. Raises UserError for what is not there."""
    from repro.cli.console import say
    from repro.cli.sweep.jobs_per_gpu import choose_jobs_per_gpu, parse_jobs_per_gpu
    from repro.machine import find_gpus, usable_cores
    from repro.sweep.devices.slots import VISIBLE, choose_slots

    wanted = _listed("--gpus", gpus)
    if wanted is not None and not all(part.isascii() and part.isdecimal() for part in wanted):
        raise UserError(f"--gpus {gpus} is no list of numbers", hint="Such as --gpus 0,1.")
    cores = usable_cores()

    def slots(on_each_gpu: int) -> tuple[Slot, ...]:
        return choose_slots(
            device=device,
            gpus=find_gpus() if device != "cpu" else (),
            inherited=os.environ.get(VISIBLE),
            wanted=None if wanted is None else [int(part) for part in wanted],
            jobs_per_gpu=on_each_gpu,
            jobs=jobs,
            cores=cores,
            threads=threads,
        )

    number = parse_jobs_per_gpu(jobs_per_gpu)
    chosen = slots(choose_jobs_per_gpu(runs, slots(1), cores) if number is None else number)
    if chosen[0].device == "cpu" and number != 1:  # no error: one script may serve machines with GPUs and without
        say(f"--jobs-per-gpu {jobs_per_gpu} changes nothing: no GPU is visible here, the CPU trains", stderr=True)
    return chosen


def _job(run: Run, table: Table, results: Path, shared: Sequence[str]) -> Job:
    """The run as a job: its folder, and the command that trains it."""
    from repro.results import RunFolder
    from repro.sweep.executor import Job

    reference = f"{table.reference}/{run.cell.row.id}/{run.cell.column.id}"
    return Job(run, RunFolder.of(results, run), ("train", reference, "--seed", str(run.seed), *shared))


def _opening(table: Table, plan: Plan, slots: Sequence[Slot], executor: str) -> str:
    """What is about to happen: runs, what is there of them already, and where they are placed."""
    from repro.cli.console import counted

    parts = [f"{table.id}: {counted(len(plan.todo), 'run')} to train"]
    if plan.finished:
        parts.append(f"{len(plan.finished)} finished before")
    if plan.elsewhere:
        parts.append(f"{len(plan.elsewhere)} in training elsewhere")
    places = {slot.label: sum(other.label == slot.label for other in slots) for slot in slots}
    placed = ", ".join(f"{count} at a time on {label}" for label, count in places.items())
    return f"{', '.join(parts)}; {placed or f'on {executor}'}"


def _say_nothing_to_do(plan: Plan, only: str | None, following: str) -> None:
    """There is no run to train: why, and what next."""
    from repro.cli.console import counted, say

    if only and plan.left_out:
        say(f"No run is left to train under --only {only}; {counted(len(plan.left_out), 'run')} are without it.")
    else:
        say(f"All {len(plan.finished)} runs are finished.", "green")
    say(f"next  {following}")
