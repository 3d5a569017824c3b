"""One run as it trains: a live line on a terminal, a line an epoch elsewhere, JSON lines for programs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from repro.cli.console import console, duration, percent, rate, say
from repro.cli.options import ProgressStyle
from repro.progress import Progress

if TYPE_CHECKING:
    from repro.results import RunRecord


class TrainView(Protocol):
    """Shows a run; in force as a context."""

    def __enter__(self) -> TrainView:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""

    def hear(self, progress: Progress) -> None:
        """Show where the run stands."""


def choose_view(style: ProgressStyle) -> TrainView:
    """The view for ``style``; ``auto`` is rich on a terminal and plain elsewhere."""
    if style == "json":
        return JsonView()
    if style == "rich" or (style == "auto" and sys.stdout.isatty()):
        return RichView()
    return PlainView()


class _View:
    """What the views share: nothing to set up, nothing to tidy."""

    def __enter__(self) -> TrainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def hear(self, progress: Progress) -> None:
        """Show where the run stands."""
        raise NotImplementedError


class JsonView(_View):
    """Every message as one line of JSON on standard output, written at once and whole."""

    def __init__(self) -> None:
        self._reader_is_gone = False

    def hear(self, progress: Progress) -> None:
        """Write the message. A reader that is gone is no reason to lose the run: whoever asks it to stop is heard."""
        if self._reader_is_gone:
            return
        try:
            os.write(sys.stdout.fileno(), f"{progress.to_line()}\n".encode())
        except BrokenPipeError:
            self._reader_is_gone = True


class PlainView(_View):
    """A line for each epoch and for whatever else is worth one."""

    def hear(self, progress: Progress) -> None:
        """Print a line where there is something to say."""
        if progress.phase == "failed":  # the command's own error message says so
            return
        if progress.message:
            print(f"{progress.run_id}: {progress.message}", flush=True)
        if progress.phase == "epoch_done":
            print(f"{progress.run_id}: {epoch_line(progress)}", flush=True)


class RichView(_View):
    """One live line: bar, epoch, loss, accuracies, images/s, time left."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TaskID, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(BarColumn(24), TextColumn("{task.description}"), console=console(), refresh_per_second=5)
        self._task: TaskID = self._bar.add_task("starting", total=None)

    def __enter__(self) -> TrainView:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def hear(self, progress: Progress) -> None:
        """Redraw the line; messages go above it."""
        if progress.phase == "failed":  # the command's own error message says so
            return
        if progress.message:
            self._bar.console.print(f"{progress.message}", style="dim", soft_wrap=True)
        self._bar.update(
            self._task,
            total=max(1, progress.epochs),
            completed=fraction_done(progress) * max(1, progress.epochs),
            description=epoch_line(progress) if progress.steps else progress.phase,
        )


def fraction_done(progress: Progress) -> float:
    """How much of its run a message has behind it, from 0 to 1."""
    if progress.phase == "completed":
        return 1.0
    if not progress.epochs or not progress.epoch:
        return 0.0
    within = progress.step / progress.steps if progress.steps else 0.0
    return min(1.0, (progress.epoch - 1 + within) / progress.epochs)


def epoch_line(progress: Progress) -> str:
    """``epoch 3/10  loss 0.512  train 88.1 %  test 91.2 %  2,140 images/s  0:12 left``, as far as known."""
    parts = [f"epoch {progress.epoch}/{progress.epochs}"]
    if progress.train_loss is not None:
        parts.append(f"loss {progress.train_loss:.3f}")
    if progress.train_top1_percent is not None:
        parts.append(f"train {percent(progress.train_top1_percent)}")
    if progress.test_top1_percent is not None:
        parts.append(f"test {percent(progress.test_top1_percent)}")
    if progress.images_per_second is not None:
        parts.append(rate(progress.images_per_second))
    if progress.eta_seconds is not None:
        parts.append(f"{duration(progress.eta_seconds)} left")
    return "  ".join(parts)


def say_result(record: RunRecord, path: Path, following: Sequence[str], *, trained_before: bool) -> None:
    """The last word on a run: its result, where the record lies, what to do next."""
    if trained_before:
        say(f"{record.id} was trained before, on {record.provenance.finished_at}; nothing was done.", "yellow")
    if record.status == "diverged":
        say(f"{record.id} diverged: {record.reason}", "bold red")
    else:
        best = f"(best {percent(record.best_top1_percent)} at epoch {record.best_epoch}, selected on the test set)"
        say(f"{record.id}: {percent(record.last_top1_percent)} top-1 after the last epoch {best}", "bold green")
    say(f"record  {path}")
    for index, command in enumerate(following):
        say(f"{'next' if index == 0 else '':<8}{command}")


def say_how_to_go_on(what: str, command: str) -> None:
    """The last word on an interrupted run."""
    say(f"interrupted; {what}", "yellow", stderr=True)
    say(f"go on with  {command}", stderr=True)
