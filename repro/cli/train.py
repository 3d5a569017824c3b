"""``biasrepro train``: one run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli.options import (
    RESULTS_DEFAULT,
    ROOT_DEFAULT,
    AllowChanged,
    Deterministic,
    NodeData,
    ProgressStyle,
    Results,
    Root,
    Settings,
    TensorBoard,
    Threads,
)
from repro.cli.references import command_line, complete_cell, declared, find_target
from repro.errors import Interrupted, UserError
from repro.progress import Progress, told_to

if TYPE_CHECKING:
    from repro.cli.train_view import TrainView
    from repro.experiment.schema import Run


def train(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="CELL|FILE",
            help="table/row/column, such as table2/squeezenet/bias. A table (a name or a YAML file) alone stands for "
            "its first row under the bias loss.",
            autocompletion=complete_cell,
        ),
    ] = "demo",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Determines every random draw.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:N.")] = "auto",
    settings: Settings = None,
    deterministic: Deterministic = False,
    results: Results = RESULTS_DEFAULT,
    root: Root = ROOT_DEFAULT,
    node_data: NodeData = None,
    threads: Threads = None,
    progress: Annotated[ProgressStyle, typer.Option(help="json: one message a line, for programs.")] = "auto",
    allow_changed: AllowChanged = False,
    tensorboard: TensorBoard = None,
    stop_at_eof: Annotated[
        bool, typer.Option("--stop-at-eof", help="Commit and stop when standard input closes, for programs.")
    ] = False,
) -> None:
    """Train one run and record it; an interrupted one goes on where it stopped.

    Without an argument: the demo's bias cell, on handwritten digits, in some ten seconds.
    """
    from repro.cli.preflight import decode_with_progress
    from repro.cli.tensorboard import TensorBoardLog, require_tensorboard
    from repro.experiment.schema import Run
    from repro.interruption import StopRequests, leave_at_once
    from repro.results import RunFolder
    from repro.results.progress_file import publishing

    cell, reference = find_target(target, declared(settings, deterministic=deterministic))
    run = Run(cell=cell, seed=seed)
    if tensorboard is not None:
        require_tensorboard()
    # A scheduler that ends a job signals the workers, and so does their sweep: for them twice is no impatience.
    with StopRequests(on_second=None if stop_at_eof else leave_at_once) as stop:
        if stop_at_eof:
            stop.stop_at_eof()
        from repro.cli.train_view import choose_view, say_how_to_go_on, say_result

        view = choose_view(progress)
        trained_before = RunFolder.of(results, run).record.exists()
        if progress != "json" and not trained_before:
            decode_with_progress(cell.dataset.name, root)
        try:
            with view, publishing(RunFolder.of(results, run)) as live, _failures_told(run, view):
                from repro.engine.training import train_run

                if stop.asked():
                    raise Interrupted(f"{run.id}: nothing was begun")
                hear = TensorBoardLog(tensorboard / run.id, view.hear).hear if tensorboard else view.hear
                record = train_run(
                    run,
                    results=results,
                    data_root=root,
                    node_data=node_data,
                    device=device,
                    threads=threads,
                    allow_changed=allow_changed,
                    listen=told_to(hear, live.hear),
                    should_stop=stop.asked,
                )
        except Interrupted as interruption:
            if progress != "json":
                say_how_to_go_on(str(interruption), shlex.join(["biasrepro", *(context.obj or ["train", reference])]))
            raise typer.Exit(stop.exit_code) from interruption
    if progress != "json":
        table = reference.rsplit("/", 2)[0]
        following = [command_line(word, table, results=results) for word in ("sweep", "table")]
        say_result(record, RunFolder.of(results, run).record, following, trained_before=trained_before)
    if record.status == "diverged":
        raise typer.Exit(1)


@contextmanager
def _failures_told(run: Run, view: TrainView) -> Iterator[None]:
    """Tell a program that listens why the run failed; what is nobody's mistake gets plain words first."""
    try:
        yield
    except Interrupted:
        raise
    except Exception as error:
        from repro.engine.faults import explain

        shown, trouble = explain(error, run.id)
        told = str(shown) if isinstance(shown, UserError) else f"{type(shown).__name__}: {shown}"
        view.hear(Progress(run.id, "failed", message=told, trouble=trouble))
        if shown is error:
            raise
        raise shown from error
