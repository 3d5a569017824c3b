"""The steps of a sweep in their order: plan, place, run, summarise."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from repro.analysis.evidence import lending_cells
from repro.cli.console import say
from repro.cli.folders import say_if_absent
from repro.cli.options import listed
from repro.cli.preflight import make_data_ready, require_known, require_space, require_writable
from repro.cli.references import command_line
from repro.cli.sweep.placement import choose_local_slots
from repro.cli.sweep.request import SweepRequest
from repro.cli.sweep.view import say_summary, shown
from repro.experiment.schema import Run
from repro.interruption import StopRequests
from repro.results import RunFolder
from repro.sweep.backends import Backend
from repro.sweep.cluster_node import NodeSettings
from repro.sweep.devices.slots import Slot
from repro.sweep.driver import run_sweep
from repro.sweep.executor import Job
from repro.sweep.local.executor import LocalExecutor
from repro.sweep.registry import StopPoller, forget_resumed, register
from repro.sweep.selection import (
    Plan,
    make_plan,
    parse_seeds,
    refuse_blocked,
    refuse_without_weights,
    selected_runs,
    without_weights,
)
from repro.sweep.survey import survey
from repro.sweep.sweep_state import SweepState
from repro.wording import counted


def sweep_selection(request: SweepRequest) -> int:
    """Sweep the runs that --seeds, --rows and --columns select; returns the exit code."""
    rows, columns = listed("--rows", request.rows), listed("--columns", request.columns)
    seeds = parse_seeds(request.seeds, request.table.seeds)
    return sweep_runs(request, selected_runs(request.table, seeds, rows, columns))


def sweep_runs(request: SweepRequest, runs: Sequence[Run]) -> int:
    """Train those of ``runs`` that are unfinished, or show what that would do; returns the exit code."""
    backend = request.backend
    require_known(run.cell for run in runs)

    # Plan: which runs are left?
    lending = lending_cells(request.results, request.table)
    states = survey(request.results, runs, lending)
    plan = make_plan(runs, states, request.only)
    refuse_blocked(plan)
    if request.keep_weights:
        refuse_without_weights(plan.finished, states)

    # Place: where are they trained?
    slots = choose_local_slots(request, plan.todo) if backend is None else ()
    say_if_absent(request.results)
    if request.dry_run and backend is None:
        from repro.cli.sweep.dry_run import show_dry_run  # imports NumPy

        show_dry_run(request, plan, slots)
        return 0
    if not plan.todo and not plan.elsewhere:
        forget_resumed(request.results, request.command)
        _say_nothing_to_do(request, plan)
        return 0
    jobs = [job_of(request, run) for run in (*plan.todo, *plan.elsewhere)]
    if request.dry_run and backend is not None:
        from repro.cli.sweep.dry_run import show_submission

        show_submission(request, plan, backend.submission(jobs, _node_settings(request)), uses_gpus=backend.uses_gpus)
        return 0

    # Run
    make_data_ready(request.table.dataset, request.root)
    require_writable(request.results, plan.todo)
    require_space(request.results, plan, len(slots) or len(plan.todo), keep_weights=request.keep_weights)
    if request.detach and backend is not None:
        leave(request, backend, jobs)
        return 0
    say(_opening(request, plan, slots), "bold")
    state, stopped = _run(request, jobs, slots, finished_before=len(plan.finished))

    # Summarise
    lacking = say_without_weights(request, (*plan.todo, *plan.elsewhere))
    return _summarise(request, state, stopped) or int(lacking)


def job_of(request: SweepRequest, run: Run) -> Job:
    """The run as a job: its folder, and the arguments of ``biasrepro`` that train it."""

    def shared(path: Path) -> str:
        return str(path if request.is_local else path.absolute())

    reference = f"{request.table.reference}/{run.cell.row.id}/{run.cell.column.id}"
    arguments = ["train", reference, "--seed", str(run.seed)]
    arguments += ["--results", shared(request.results), "--root", shared(request.root)]
    if request.allow_changed:
        arguments.append("--allow-changed")
    if request.anonymous:
        arguments.append("--anonymous")
    if request.keep_weights:
        arguments.append("--keep-weights")
    if request.tensorboard is not None:
        arguments += ["--tensorboard", shared(request.tensorboard)]
    for file in request.plugin or ():
        arguments += ["--plugin", shared(file)]
    if request.node_data is not None:
        arguments += ["--node-data", str(request.node_data)]
    return Job(run, RunFolder.of(request.results, run), tuple(arguments))


def _node_settings(request: SweepRequest, sweep: str = "") -> NodeSettings:
    """What the nodes of a cluster are told; ``sweep`` is the id of the registered sweep."""
    results = str(request.results.absolute())
    return NodeSettings(sweep, results, request.device, request.threads, int(request.jobs_per_gpu))


def leave(request: SweepRequest, backend: Backend, jobs: Sequence[Job]) -> None:
    """Leave ``jobs`` to the cluster, and say how to follow and how to stop them."""
    table, results = request.table, request.results.absolute()
    registration = register(results, table=table.id, executor=backend.name, command=request.command, detached=True)
    try:
        left = backend.leave(jobs, _node_settings(request, registration.id))
        with contextlib.suppress(FileNotFoundError):  # the sweep is over already
            registration.note_left(left)
    except BaseException:
        registration.remove()
        raise
    if not left:
        registration.remove()
        say(f"{table.id}: all runs are in {backend.name}'s queue already, from an earlier sweep")
        return
    say(f"{table.id}: {counted(len(jobs), 'run')} left to {backend.name}, as sweep {registration.id}", "bold")
    if (queue := backend.queue_command(left)) is not None:
        say(f"queue   {queue}")
    say(f"follow  {command_line('status', table.reference, '--watch', results=results)}")
    say(f"stop    {command_line('sweep', table.reference, '--stop', results=results)}")


def _opening(request: SweepRequest, plan: Plan, slots: Sequence[Slot]) -> str:
    """The first line: the runs to train, those that are finished or elsewhere, and where they are placed."""
    parts = [f"{request.table.id}: {counted(len(plan.todo), 'run')} to train"]
    if plan.finished:
        parts.append(f"{len(plan.finished)} finished before")
    if plan.elsewhere:
        parts.append(f"{len(plan.elsewhere)} in training elsewhere")
    places = Counter(slot.label for slot in slots)
    placed = ", ".join(f"{count} at a time on {label}" for label, count in places.items())
    return f"{', '.join(parts)}; {placed or f'on {request.executor}'}"


def _run(
    request: SweepRequest, jobs: Sequence[Job], slots: Sequence[Slot], *, finished_before: int
) -> tuple[SweepState, int]:
    """Train ``jobs``, registered and shown; returns how they ended, and the exit code of a request to stop, else 0."""
    backend = request.backend
    registration = register(request.results, table=request.table.id, executor=request.executor, command=request.command)
    poller = StopPoller(registration)
    with registration.kept():
        settings = _node_settings(request, registration.id)
        executor = LocalExecutor(slots) if backend is None else backend.connect(settings)
        with StopRequests() as stops, shown(request.progress) as view:
            state = run_sweep(
                jobs,
                executor,
                finished_before=finished_before,
                fail_fast=request.fail_fast,
                # An executor may pass a request on through the registry: that is the same request, not a second one.
                stops_asked=lambda: max(stops.count, poller.count()),
                listen=view,
            )
    return state, stops.exit_code or 143 * poller.count()


def _summarise(request: SweepRequest, state: SweepState, stopped: int) -> int:
    """Say how the sweep ended and what to do next; returns the exit code."""
    interrupted = bool(stopped) and bool(state.waiting or state.count("interrupted"))
    if not interrupted and not state.waiting:
        forget_resumed(request.results, request.command)
    say_summary(state, request.command, _next_command(request), interrupted=interrupted)
    return stopped if interrupted else int(bool(state.count("failed", "diverged")))


def say_without_weights(request: SweepRequest, runs: Sequence[Run]) -> bool:
    """Say whether other processes recorded some of ``runs`` without the weights that this sweep was to keep."""
    if not request.keep_weights:
        return False
    without = without_weights(runs, survey(request.results, runs))
    for run in without:
        say(f"{run.id}: trained elsewhere, and recorded without weights", "yellow")
    return bool(without)


def _next_command(request: SweepRequest) -> str:
    return command_line("table", request.table.reference, results=request.results)


def _say_nothing_to_do(request: SweepRequest, plan: Plan) -> None:
    """Say why there is no run to train, and what is next."""
    if request.only and plan.left_out:
        others = counted(len(plan.left_out), "other unfinished run")
        say(f"No run is left to train under --only {request.only}, which leaves out {others}.")
    else:
        say(f"All {len(plan.finished)} runs are finished.", "green")
    say(f"next  {_next_command(request)}")
