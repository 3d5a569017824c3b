"""Progress display of a sweep: a live table on a terminal, elsewhere a line for each event worth one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from repro.cli.console import console, percent, rate, say, say_lines, text_line
from repro.cli.train_view import epoch_line, fraction_done
from repro.progress import Progress
from repro.sweep.driver import SweepListener
from repro.sweep.executor import Fate, Job
from repro.sweep.sweep_state import FinishedRun, RunningRun, SweepState
from repro.wording import counted, duration, one_line

# Off a terminal a run prints a line after each tenth of its epochs, some seconds apart; after an epoch, once a minute
# has passed since the last line; and in any case after ten minutes.
LEAST_SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_EPOCH_LINES = 60.0
MOST_SECONDS_BETWEEN_LINES = 600.0

_BAR_WIDTH, _LEAST_BAR_WIDTH = 24, 6
NO_CAUSE = "no cause was given"
_MARK = {"completed": "done", "elsewhere": "done by another process"}
_OF_WHOLE = {"elsewhere": "of them by another process"}
_WORTH_COUNTING: tuple[Fate, ...] = ("diverged", "failed", "interrupted", "elsewhere")
_STYLE = {"completed": "green", "failed": "bold red", "diverged": "bold red", "interrupted": "yellow"}


@contextmanager
def shown(style: Literal["auto", "rich", "plain"]) -> Iterator[SweepListener]:
    """The display in ``style``, while in force; ``auto`` is rich on a terminal and plain elsewhere."""
    if style == "rich" or (style == "auto" and sys.stdout.isatty()):
        view = RichSweepView()
        with view.live:
            yield view
    else:
        yield PlainSweepView()


def ending(run: FinishedRun) -> str:
    """How a run ended: result and time, or cause and log."""
    what = f"{_MARK.get(run.fate, run.fate):<6} {run.job.id}"
    if run.fate == "completed":
        return f"{what}  {percent(run.test_top1_percent)} in {duration(run.seconds)}"
    if run.fate in ("failed", "diverged"):
        cause = "\n".join(f"    {line}" for line in (run.cause or NO_CAUSE).splitlines())
        return f"{what} after {duration(run.seconds)}\n{cause}\n    log: {one_line(str(run.job.folder.log))}"
    return what


def whole_line(sweep: SweepState, now: float) -> str:
    """``3 of 12 done  1 failed  2 running  6 waiting  about 1 h 20 min left``."""
    done = sweep.before + sweep.count("completed", "elsewhere")
    parts = [f"{done} of {sweep.total} done"]
    parts += [f"{count} {_OF_WHOLE.get(fate, fate)}" for fate in _WORTH_COUNTING if (count := sweep.count(fate))]
    for count, what in ((len(sweep.running), "running"), (len(sweep.waiting), "waiting")):
        if count:
            parts.append(f"{count} {what}")
    if left := sweep.eta_seconds(now):
        parts.append(f"about {duration(left)} left")
    return "  ".join(parts)


class PlainSweepView(SweepListener):
    """Lines of text, for logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown: dict[str, tuple[float, int, int]] = {}  # by run: when its last line came; its tenth and epoch then

    def started(self, sweep: SweepState, run: RunningRun) -> None:
        """Print a line."""
        self._shown[run.job.id] = (self._clock(), 0, 1)
        say(f"start  {run.job.id} on {run.place}")

    def reported(self, sweep: SweepState, run: RunningRun) -> None:
        """Print the run's message, if any, and where it stands, with the time of day, if a line is due."""
        progress = run.progress
        if message := _message(progress):
            say(f"note   {run.job.id}: {message}")
        when, tenth, epoch = self._shown[run.job.id]
        now = self._clock()
        tenth_now = int(10 * fraction_done(progress))
        due = (
            (tenth_now > tenth and now - when >= LEAST_SECONDS_BETWEEN_LINES)
            or (progress.epoch > epoch and now - when >= SECONDS_BETWEEN_EPOCH_LINES)
            or now - when >= MOST_SECONDS_BETWEEN_LINES
        )
        if progress.epoch and due:
            self._shown[run.job.id] = (now, tenth_now, progress.epoch)
            say(f"{time.strftime('%H:%M')}  {run.job.id}  {epoch_line(progress)}")

    def ended(self, sweep: SweepState, run: FinishedRun) -> None:
        """Print how the run ended, and where the whole sweep stands."""
        say_lines(f"{ending(run)}\n       {whole_line(sweep, self._clock())}")

    def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
        """Print a line."""
        say_lines(f"later  {job.id}: {_indented(why)}")

    def noted(self, text: str) -> None:
        """Print a line."""
        say(f"note   {text}")

    def stopping(self, sweep: SweepState, why: str) -> None:
        """Print a line."""
        say(f"stop   {why}: {_saving(sweep)}")


class RichSweepView(SweepListener):
    """A live table of the running runs over one line for the whole; what ended scrolls away above it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._console = console()
        self._sweep: SweepState | None = None
        self._why = ""
        self.live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def reported(self, sweep: SweepState, run: RunningRun) -> None:
        """Print the run's message, if any, above the live table, which redraws itself."""
        if message := _message(run.progress):
            self._console.print(text_line(f"{run.job.id}: {message}", "dim"), soft_wrap=True)

    def ended(self, sweep: SweepState, run: FinishedRun) -> None:
        """Print a line above the live table."""
        self._console.print(Text(ending(run), style=_STYLE.get(run.fate, "")), soft_wrap=True)

    def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
        """Print a line above the live table."""
        self._console.print(Text(f"later  {job.id}: {_indented(why)}", style="yellow"), soft_wrap=True)

    def noted(self, text: str) -> None:
        """Print a line above the live table."""
        self._console.print(text_line(text, "dim"), soft_wrap=True)

    def stopping(self, sweep: SweepState, why: str) -> None:
        """Show why under the live table."""
        self._why = f"stopping, {why}: {_saving(sweep)}"

    def tick(self, sweep: SweepState) -> None:
        """Keep the sweep for the next redraw."""
        self._sweep = sweep

    def _draw(self) -> RenderableType:
        sweep = self._sweep
        if sweep is None:
            return Text("starting")
        room = max(1, self._console.height - 4)
        running = sorted(sweep.running.values(), key=lambda run: run.since)
        parts: list[RenderableType] = [running_table(running[:room], self._console.width)] if running else []
        if len(running) > room:
            parts.append(Text(f"… and {len(running) - room} more", style="dim"))
        ended = sweep.before + len(sweep.finished)
        now = sum(fraction_done(run.progress) for run in running)
        whole = Text(whole_line(sweep, self._clock()), style="bold")
        room = min(_BAR_WIDTH, self._console.width - whole.cell_len - 2)
        if room >= _LEAST_BAR_WIDTH:
            bar = Table.grid(padding=(0, 2))
            bar.add_row(ProgressBar(total=max(1, sweep.total), completed=ended + now, width=room), whole)
            parts.append(bar)
        else:
            parts.append(whole)
        if self._why:
            parts.append(Text(self._why, style="yellow"))
        return Group(*parts)


def running_table(running: list[RunningRun], width: int) -> Table:
    """One line a running run: place, run, epoch, loss, accuracy, images/s, time left; at most ``width`` columns.

    On a narrow terminal the speed gives way, then the loss. Then the run's name is cut from its front: all runs are of
    one table, and the seed is last.
    """
    places = [run.place for run in running]
    names = [run.job.id.split("/", 1)[-1] for run in running]
    at = [run.progress for run in running]
    columns = {name: list(map(in_words, at)) for name, in_words in _FIGURES.items()}
    longest = max(map(len, names))
    for unneeded in ("speed", "loss"):
        if _room_for_names(width, places, columns.values()) < longest:
            del columns[unneeded]
    room = max(8, _room_for_names(width, places, columns.values()))
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, ratio=1)
    for _ in columns:
        table.add_column(justify="right", no_wrap=True)
    for place, name, *figures in zip(places, names, *columns.values(), strict=True):
        shown_name = name if len(name) <= room else f"…{name[1 - room :]}"
        table.add_row(Text(place, style="dim"), Text(shown_name), *figures)
    return table


def _room_for_names(width: int, places: Sequence[str], columns: Iterable[Sequence[str]]) -> int:
    return width - sum(max(map(len, column)) + 1 for column in (places, *columns))


_FIGURES: dict[str, Callable[[Progress], str]] = {
    "epoch": lambda at: f"epoch {at.epoch}/{at.epochs}" if at.epoch else at.phase,
    "loss": lambda at: "" if at.train_loss is None else f"loss {at.train_loss:.3f}",
    "accuracy": lambda at: "" if at.test_top1_percent is None else percent(at.test_top1_percent),
    "speed": lambda at: "" if at.images_per_second is None else rate(at.images_per_second),
    "left": lambda at: "" if at.eta_seconds is None else f"{duration(at.eta_seconds)} left",
}


def _message(progress: Progress) -> str | None:
    """What a run says besides its figures, such as that it resumed; nothing before its first step."""
    return progress.message if progress.steps and progress.phase in ("starting", "training") else None


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def _saving(sweep: SweepState) -> str:
    return f"waiting for {counted(len(sweep.running), 'running run')} to save a checkpoint"


def say_summary(sweep: SweepState, again: str, following: str, *, interrupted: bool) -> None:
    """Print how the runs ended, which failed and why, and what to do next."""
    counts = [f"{sweep.count('completed')} done"]
    counts += [f"{count} {_MARK.get(fate, fate)}" for fate in _WORTH_COUNTING if (count := sweep.count(fate))]
    if sweep.before:
        counts.append(f"{sweep.before} done before")
    if sweep.waiting:
        counts.append(f"{len(sweep.waiting)} not started")
    failed = sweep.having("failed", "diverged")
    say(f"{counted(sweep.total, 'run')}: {', '.join(counts)}", "bold red" if failed else "bold")
    for run in failed:
        say(f"  {run.fate}  {run.job.id}: {(run.cause or NO_CAUSE).splitlines()[0]}", "red")
        say(f"    log: {run.job.folder.log}")
    if interrupted:
        say("interrupted; every run can resume from its last checkpoint", "yellow", stderr=True)
    if interrupted or sweep.waiting:
        say(f"resume with  {again}", stderr=interrupted)
    elif sweep.count("failed"):
        say(f"again   {again}    (trains what failed; finished runs are skipped)")
    if not interrupted:
        say(f"next    {following}")
