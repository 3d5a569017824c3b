"""``biasrepro sweep``: train all cells x seeds of a table, each run in a process of its own."""

from __future__ import annotations

import typer

from repro.cli.options import ADD_OR_LEAVE_OUT, refuse_unused
from repro.cli.preflight import know_images, say_warnings
from repro.cli.sweep.request import SweepRequest, as_command


@as_command
def sweep(context: typer.Context, request: SweepRequest) -> None:
    """Train all cells x seeds of a table, or a selection. Finished runs are skipped; a failed run stops no other.

    After Ctrl-C all running runs save a checkpoint, and the same command resumes them.
    """
    _refuse_conflicts(context, request)
    if request.stop:
        from repro.cli.sweep.stop import stop_sweeps

        table = None if request.table_name is None else request.table
        raise typer.Exit(int(not stop_sweeps(request.results, table)))
    say_warnings([request.table])
    if request.table.dataset.sources and not request.dry_run:
        know_images(request.table.dataset, request.root)
    if request.until_decided:
        from repro.cli.sweep.until_decided import sweep_until_decided

        code = sweep_until_decided(request)
    else:
        from repro.cli.sweep.steps import sweep_selection

        code = sweep_selection(request)
    if code:
        raise typer.Exit(code)


def _refuse_conflicts(context: typer.Context, request: SweepRequest) -> None:
    """Raise UserError for options that exclude each other, or would change nothing."""
    if request.stop:
        because = "and --stop exclude each other"
        refuse_unused(context, "seeds", "rows", "columns", "only", "dry_run", because=because)
        if request.table_name is None:
            refuse_unused(
                context, "settings", "deterministic", because="is for a TABLE: without one, all sweeps are stopped"
            )
    if request.detach:
        because = "and --detach exclude each other: no process stays to act on how the runs end"
        refuse_unused(context, "fail_fast", "until_decided", because=because)
    if request.until_decided:
        hint = "The preregistration says which cells are run, and with how many seeds."
        because = "and --until-decided exclude each other"
        refuse_unused(context, "seeds", "rows", "columns", "only", because=because, hint=hint)
        refuse_unused(context, "no_measure", because=f"{because}: it measures nothing")
    if request.device == "cpu" and request.is_local:  # on a cluster, runs may reserve GPUs and train on the CPU
        refuse_unused(context, "jobs_per_gpu", because="and --device cpu exclude each other")
    if not request.dry_run:
        refuse_unused(context, "no_measure", because="is for --dry-run", hint=ADD_OR_LEAVE_OUT)
