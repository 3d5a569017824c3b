"""``biasrepro train``: one run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from repro.cli import folders, options
from repro.cli.preflight import prepare_images, require_known, say_warnings
from repro.cli.references import complete_cell, declared, find_target
from repro.cli.tensorboard import TensorBoardLog
from repro.engine.recording import Recording
from repro.errors import DataError, Interrupted, UserError
from repro.progress import Listener, Progress

if TYPE_CHECKING:
    from repro.experiment.schema import Cell, Run
    from repro.interruption import StopRequests
    from repro.results import RunFolder

Target = Annotated[
    str,
    typer.Argument(
        metavar="CELL|FILE",
        help="table/row/column, such as table2/squeezenet/bias. A table (a name or a YAML file) alone means its "
        "first row under the loss that a paper proposes.",
        autocompletion=complete_cell,
    ),
]
Display = Annotated[options.ProgressStyle, typer.Option(help="json: one message a line, for programs.")]
StopAtEof = Annotated[
    bool,
    typer.Option("--stop-at-eof", help="Save a checkpoint and stop when standard input closes, for programs."),
]


def train(
    context: typer.Context,
    target: Target = "demo",
    seed: options.Seed = 0,
    device: options.Device = "auto",
    settings: options.Settings = None,
    deterministic: options.Deterministic = False,
    plugin: options.Plugins = None,
    results: folders.ResultsToWrite = folders.RESULTS_DEFAULT,
    root: folders.Root = folders.ROOT_DEFAULT,
    node_data: options.NodeData = None,
    threads: Annotated[int | None, options.threads_option("one on a CPU")] = None,
    progress: Display = "auto",
    allow_changed: options.AllowChanged = False,
    anonymous: options.Anonymous = False,
    keep_weights: options.KeepWeights = False,
    tensorboard: options.TensorBoard = None,
    stop_at_eof: StopAtEof = False,
) -> None:
    """Train one run and record it; an interrupted run resumes from its checkpoint.

    Without an argument: the demo's bias cell, on handwritten digits, in about ten seconds.
    """
    from repro.cli.train_view import say_how_to_resume, say_result
    from repro.experiment.schema import Run
    from repro.interruption import StopRequests, leave_at_once
    from repro.results import RunFolder

    cell, reference = _known_target(target, declared(settings, deterministic=deterministic))
    run = Run(cell=cell, seed=seed)
    folder, for_people = RunFolder.of(results, run), progress != "json"
    # A worker may get two signals, from the scheduler and from its sweep: it still saves a checkpoint.
    with StopRequests(on_second=None if stop_at_eof else leave_at_once) as stop:
        if stop_at_eof:
            stop.stop_at_eof()
        trained_before = folder.record.exists()
        try:
            if for_people:
                with _stop_reported(stop, run, folder):
                    prepare_images(cell.dataset, root, finished=trained_before)
            with _showing(run, folder, progress, tensorboard) as listen:
                from repro.engine.training import train_run

                begin = partial(train_run, run, results=results, data_root=root, node_data=node_data, device=device)
                with _stop_reported(stop, run, folder):
                    record = begin(
                        threads=threads,
                        allow_changed=allow_changed,
                        recording=Recording(anonymous=anonymous, keep_weights=keep_weights),
                        listen=listen,
                        should_stop=stop.asked,
                    )
        except Interrupted as interruption:
            if for_people:
                say_how_to_resume(interruption, context.obj or ["train", reference])
            raise typer.Exit(stop.exit_code) from interruption
    if for_people:
        say_result(record, folder, reference, root=root, trained_before=trained_before, keep_weights=keep_weights)
    if record.status == "diverged":
        raise typer.Exit(1)


def _known_target(target: str, settings: Sequence[str]) -> tuple[Cell, str]:
    """The cell to train and its reference. Raises UserError, also for one whose plugin is not loaded."""
    from repro.experiment.config import find_table

    cell, reference = find_target(target, settings)
    require_known([cell])
    say_warnings([find_table(reference.rsplit("/", 2)[0])])
    return cell, reference


@contextmanager
def _stop_reported(stop: StopRequests, run: Run, folder: RunFolder) -> Iterator[None]:
    """Raise Interrupted after a request to stop: at the start of the ``with`` block, and for a DataError in it.

    A signal to all processes also ends those that decode images.
    """
    from repro.cli.train_view import not_yet_trained

    if stop.asked():
        raise Interrupted(not_yet_trained(run.id, folder))
    try:
        yield
    except DataError as error:
        if stop.asked():
            raise Interrupted(not_yet_trained(run.id, folder)) from error
        raise


@contextmanager
def _showing(run: Run, folder: RunFolder, style: options.ProgressStyle, tensorboard: Path | None) -> Iterator[Listener]:
    """Give a listener that shows the run and publishes its progress, and that is told why the run failed."""
    from repro.cli.train_view import choose_view
    from repro.results.progress_file import Publisher

    with choose_view(style) as view, closing(Publisher(folder)) as published:
        hear = TensorBoardLog(tensorboard / run.id, view.hear).hear if tensorboard else view.hear

        absent = folders.absence(folder.results)

        def tell(progress: Progress) -> None:
            nonlocal absent
            if absent:  # now that the run starts: no mistake is left to be reported
                hear(Progress(run.id, "starting", message=absent))
                absent = None
            hear(progress)
            published.hear(progress)

        try:
            yield tell
        except Interrupted:
            raise
        except Exception as error:
            from repro.engine.faults import explain

            shown, trouble = explain(error, run.id)
            message = str(shown) if isinstance(shown, UserError) else f"{type(shown).__name__}: {shown}"
            view.hear(Progress(run.id, "failed", message=message, trouble=trouble))
            if shown is error:
                raise
            raise shown from error
