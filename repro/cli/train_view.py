"""Progress display of one run: a live line on a terminal, a line per epoch elsewhere, JSON lines for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.console import console, percent, rate, say, size, text_line
from repro.cli.options import ProgressStyle
from repro.cli.references import command_line
from repro.errors import Interrupted
from repro.machine import package_path
from repro.progress import Progress
from repro.wording import duration, shell_line

if TYPE_CHECKING:
    from repro.results import RunFolder, RunRecord

_BAR_WIDTH = 24


class TrainView:
    """Shows a run; use it as a context."""

    def __enter__(self) -> TrainView:
        return self

    def __exit__(self, *_error: object) -> None:
        """Leave the terminal as it was."""

    def hear(self, progress: Progress) -> None:
        """Show the latest progress of the run."""
        raise NotImplementedError


def choose_view(style: ProgressStyle) -> TrainView:
    """The view for ``style``; ``auto`` is rich on a terminal and plain elsewhere."""
    if style == "json":
        return JsonView()
    if style == "rich" or (style == "auto" and sys.stdout.isatty()):
        return RichView()
    return PlainView()


class JsonView(TrainView):
    """Each message as one line of JSON on standard output, in a single write."""

    def __init__(self) -> None:
        self._pipe_is_closed = False

    def hear(self, progress: Progress) -> None:
        """Write the message. Ignore a closed pipe and keep training: to stop the run, its reader sends a signal."""
        if self._pipe_is_closed:
            return
        try:
            os.write(sys.stdout.fileno(), f"{progress.to_line()}\n".encode())
        except BrokenPipeError:
            self._pipe_is_closed = True


class PlainView(TrainView):
    """A line for each epoch and each message."""

    def hear(self, progress: Progress) -> None:
        """Print a message, or the line of a finished epoch."""
        if progress.phase == "failed":  # the command prints the error
            return
        if progress.message:
            say(f"{progress.run_id}: {progress.message}")
        if progress.phase == "epoch_done":
            say(f"{progress.run_id}: {epoch_line(progress)}")


class RichView(TrainView):
    """One live line: bar, epoch, loss, accuracies, images/s, time left."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TaskID, TextColumn
        from rich.progress import Progress as Bar

        on = console()
        self._room = on.width - _BAR_WIDTH - 1
        self._bar = Bar(BarColumn(_BAR_WIDTH), TextColumn("{task.description}"), console=on, refresh_per_second=5)
        self._task: TaskID = self._bar.add_task("starting", total=None)

    def __enter__(self) -> TrainView:
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def hear(self, progress: Progress) -> None:
        """Redraw the line; print messages above it."""
        if progress.phase == "failed":  # the command prints the error
            return
        if progress.message:
            self._bar.console.print(text_line(progress.message, "dim"), soft_wrap=True)
        self._bar.update(
            self._task,
            total=max(1, progress.epochs),
            completed=fraction_done(progress) * max(1, progress.epochs),
            description=epoch_line(progress, self._room) if progress.steps else progress.phase,
        )


def fraction_done(progress: Progress) -> float:
    """The completed fraction of the run, from 0 to 1."""
    if progress.phase == "completed":
        return 1.0
    if not progress.epochs or not progress.epoch:
        return 0.0
    within = progress.step / progress.steps if progress.steps else 0.0
    return min(1.0, (progress.epoch - 1 + within) / progress.epochs)


def epoch_line(progress: Progress, width: int | None = None) -> str:
    """``epoch 3/10  loss 0.512  train 88.1 %  test 91.2 %  2,140 images/s  12 s left``, as far as known.

    Where ``width`` columns are too few, the speed gives way, then the training accuracy, then the loss.
    """
    parts = {"epoch": f"epoch {progress.epoch}/{progress.epochs}"}
    if progress.train_loss is not None:
        parts["loss"] = f"loss {progress.train_loss:.3f}"
    if progress.train_top1_percent is not None:
        parts["train"] = f"train {percent(progress.train_top1_percent)}"
    if progress.test_top1_percent is not None:
        parts["test"] = f"test {percent(progress.test_top1_percent)}"
    if progress.images_per_second is not None:
        parts["speed"] = rate(progress.images_per_second)
    if progress.eta_seconds is not None:
        parts["left"] = f"{duration(progress.eta_seconds)} left"
    for unneeded in ("speed", "train", "loss"):
        if width is not None and len("  ".join(parts.values())) > width:
            parts.pop(unneeded, None)
    return "  ".join(parts.values())


def say_result(
    record: RunRecord,
    folder: RunFolder,
    reference: str,
    *,
    root: Path,
    trained_before: bool,
    keep_weights: bool = False,
) -> None:
    """Print the result of the run, where its record is, and what to run next on the data in ``root``."""
    from repro.results.store import is_preregistered

    if trained_before:
        past = "trained before"
        if record.imported:
            past = f"imported from {record.imported.file}, not trained here"
        say(f"{record.id} was {past}, on {record.provenance.finished_at}; nothing was done.", "yellow")
    if record.status == "diverged":
        say(f"{record.id} diverged: {record.reason}", "bold red")
    elif record.best_epoch is None:
        say(f"{record.id}: {percent(record.last_top1_percent)} top-1 after the last epoch", "bold green")
    else:
        best = f"(best {percent(record.best_top1_percent)} at epoch {record.best_epoch}, selected on the test set)"
        say(f"{record.id}: {percent(record.last_top1_percent)} top-1 after the last epoch {best}", "bold green")
    if record.imported is None and record.provenance.git_commit is None and (package_path() / ".git").exists():
        say("the commit of the code is not recorded: git did not report it", "yellow", stderr=True)
    if record.provenance.git_commit and record.provenance.git_dirty is None:
        say("whether the code had uncommitted changes is not recorded: git did not report it", "yellow")
    table = reference.rsplit("/", 2)[0]
    say(f"record  {folder.record}")
    if record.weights is not None:
        say(f"weights {folder.weights}  {size(record.weights.size_bytes)}")
    elif keep_weights:
        say("weights none: a diverged run keeps none", "yellow")
    how = ["--until-decided"] if is_preregistered(folder.results, record.table) else []
    say(f"next    {command_line('sweep', table, *how, results=folder.results, root=root)}")
    say(f"        {command_line('table', table, results=folder.results)}")


def not_yet_trained(run_id: str, folder: RunFolder) -> str:
    """What is to be said of a run that is stopped while it starts: from where it can resume, if it was begun before."""
    from repro.results.checkpoint_file import first_whole

    if folder.record.exists():
        return f"{run_id}: it has a record already, and nothing was left to train"
    kept = first_whole([folder.checkpoint, folder.previous_checkpoint], run_id)
    if kept is None:
        return f"{run_id}: training had not started"
    return f"{run_id}: training had not resumed; its checkpoint is at epoch {kept.epoch}, step {kept.step}"


def say_how_to_resume(interruption: Interrupted, arguments: Sequence[str]) -> None:
    """Print where an interrupted run stopped, and the command that resumes it."""
    say(f"interrupted; {interruption}", "yellow", stderr=True)
    say(f"resume with  {shell_line(['biasrepro', *arguments])}", stderr=True)
