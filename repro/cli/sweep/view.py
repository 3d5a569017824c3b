"""A sweep as it runs: a live picture on a terminal, a line for each event worth one elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Protocol

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from repro.cli.console import console, counted, duration, percent, rate, say
from repro.cli.train_view import epoch_line, fraction_done
from repro.sweep.driver import SweepListener
from repro.sweep.executor import Job
from repro.sweep.sweep_state import Fate, FinishedRun, RunningRun, SweepState

SweepStyle = Literal["auto", "rich", "plain"]

# Off a terminal a run says something each tenth of its way, but not more often than this, nor much less often.
LEAST_SECONDS_BETWEEN_LINES = 5.0
MOST_SECONDS_BETWEEN_LINES = 60.0

_MARK = {"completed": "done", "elsewhere": "done by another process"}
_OF_WHOLE = {"elsewhere": "of them by another process"}
_WORTH_COUNTING: tuple[Fate, ...] = ("diverged", "failed", "interrupted", "elsewhere")
_STYLE = {"completed": "green", "failed": "bold red", "diverged": "bold red", "interrupted": "yellow"}


class SweepView(SweepListener, Protocol):
    """Shows a sweep; in force as a context."""

    def __enter__(self) -> SweepView:
        """Begin to show."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the terminal as it was."""


def choose_view(style: SweepStyle) -> SweepView:
    """The view for ``style``; ``auto`` is rich on a terminal and plain elsewhere."""
    return RichSweepView() if style == "rich" or (style == "auto" and sys.stdout.isatty()) else PlainSweepView()


def ending(run: FinishedRun) -> str:
    """What a run's end is worth saying: result and time, or cause and log."""
    what = f"{_MARK.get(run.fate, run.fate):<6} {run.job.id}"
    if run.fate == "completed":
        return f"{what}  {percent(run.test_top1_percent)} in {duration(run.seconds)}"
    if run.fate in ("failed", "diverged"):
        cause = "\n".join(f"    {line}" for line in (run.cause or "no cause was given").splitlines())
        return f"{what} after {duration(run.seconds)}\n{cause}\n    log: {run.job.folder.log}"
    return what


def whole_line(sweep: SweepState, now: float) -> str:
    """``3 of 12 done  1 failed  2 running  6 left  about 1:20 left``."""
    done = sweep.before + sweep.count("completed", "elsewhere")
    parts = [f"{done} of {sweep.total} done"]
    parts += [f"{count} {_OF_WHOLE.get(fate, fate)}" for fate in _WORTH_COUNTING if (count := sweep.count(fate))]
    for count, what in ((len(sweep.running), "running"), (len(sweep.waiting), "waiting")):
        if count:
            parts.append(f"{count} {what}")
    if left := sweep.eta_seconds(now):
        parts.append(f"about {duration(left)} left")
    return "  ".join(parts)


class PlainSweepView:
    """Lines of text, for logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._shown: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> SweepView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def started(self, sweep: SweepState, run: RunningRun) -> None:
        """A line when a run starts."""
        self._shown[run.job.id] = (self._clock(), 0)
        print(f"start  {run.job.id} on {run.place}", flush=True)

    def said(self, sweep: SweepState, run: RunningRun) -> None:
        """A line each tenth of a run's way, within bounds."""
        progress = run.progress
        if progress.message and progress.steps and progress.phase in ("starting", "training"):
            print(f"note   {run.job.id}: {progress.message}", flush=True)
        when, tenth = self._shown[run.job.id]
        now, since = self._clock(), self._clock() - when
        tenth_now = int(10 * fraction_done(progress))
        due = tenth_now > tenth and since >= LEAST_SECONDS_BETWEEN_LINES
        if progress.epoch and (due or since >= MOST_SECONDS_BETWEEN_LINES):
            self._shown[run.job.id] = (now, tenth_now)
            print(f"       {run.job.id}  {epoch_line(progress)}", flush=True)

    def ended(self, sweep: SweepState, run: FinishedRun) -> None:
        """A line when a run ends, and how the whole stands."""
        print(f"{ending(run)}\n       {whole_line(sweep, self._clock())}", flush=True)

    def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
        """A line when a run has to wait."""
        print(f"later  {job.id}: {_indented(why)}", flush=True)

    def noted(self, text: str) -> None:
        """A line."""
        print(f"note   {text}", flush=True)

    def stopping(self, sweep: SweepState, why: str) -> None:
        """A line when the sweep stops early."""
        print(f"stop   {why}: {_waiting_for(sweep)}", flush=True)

    def tick(self, sweep: SweepState) -> None:
        """Nothing to redraw."""


class RichSweepView:
    """A live table of the running runs over one line for the whole; what ended scrolls away above it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._console = console()
        self._sweep: SweepState | None = None
        self._why = ""
        self._live = Live(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> SweepView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, sweep: SweepState, run: RunningRun) -> None:
        """The live table shows it."""
        self._sweep = sweep

    def said(self, sweep: SweepState, run: RunningRun) -> None:
        """The live table shows it; messages go above."""
        progress = run.progress
        if progress.message and progress.steps and progress.phase in ("starting", "training"):
            self._console.print(f"{run.job.id}: {progress.message}", style="dim", soft_wrap=True)

    def ended(self, sweep: SweepState, run: FinishedRun) -> None:
        """A line above the live table."""
        self._sweep = sweep
        self._console.print(Text(ending(run), style=_STYLE.get(run.fate, "")), soft_wrap=True)

    def postponed(self, sweep: SweepState, job: Job, why: str) -> None:
        """A line above the live table."""
        self._sweep = sweep
        self._console.print(Text(f"later  {job.id}: {_indented(why)}", style="yellow"), soft_wrap=True)

    def noted(self, text: str) -> None:
        """A line above the live table."""
        self._console.print(text, style="dim", soft_wrap=True)

    def stopping(self, sweep: SweepState, why: str) -> None:
        """A line under the live table."""
        self._sweep = sweep
        self._why = f"stopping, {why}: {_waiting_for(sweep)}"

    def tick(self, sweep: SweepState) -> None:
        """The live table redraws itself."""
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
        bar = Table.grid(padding=(0, 2))
        whole = Text(whole_line(sweep, self._clock()), style="bold")
        bar.add_row(ProgressBar(total=max(1, sweep.total), completed=ended + now, width=24), whole)
        parts.append(bar)
        if self._why:
            parts.append(Text(self._why, style="yellow"))
        return Group(*parts)


def running_table(running: list[RunningRun], width: int) -> Table:
    """One line a running run, ``width`` columns at the most: place, run, epoch, loss, accuracy, images/s, time left.

    On a narrow terminal the run's name gives way, from its front: all runs are of one table, and the seed is last.
    """
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, ratio=1)
    for _ in range(5):
        table.add_column(justify="right", no_wrap=True)
    rows = []
    for run in running:
        progress = run.progress
        figures = (
            f"{progress.epoch}/{progress.epochs}" if progress.epoch else progress.phase,
            "" if progress.train_loss is None else f"loss {progress.train_loss:.3f}",
            "" if progress.test_top1_percent is None else percent(progress.test_top1_percent),
            "" if progress.images_per_second is None else rate(progress.images_per_second),
            "" if progress.eta_seconds is None else duration(progress.eta_seconds),
        )
        rows.append((run.place, run.job.id.split("/", 1)[-1], figures))
    if not rows:
        return table
    taken = max(len(place) for place, _, _ in rows) + 1
    taken += sum(max(len(figures[column]) for _, _, figures in rows) + 1 for column in range(5))
    left = max(8, width - taken)
    for place, name, figures in rows:
        shown = name if len(name) <= left else f"…{name[1 - left :]}"
        table.add_row(Text(place, style="dim"), Text(shown), *figures)
    return table


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")


def _waiting_for(sweep: SweepState) -> str:
    return f"{counted(len(sweep.running), 'run')} in training commit their state"


def say_summary(sweep: SweepState, again: str, following: str, *, interrupted: bool) -> None:
    """The last word on a sweep: what became of its runs, which failed and why, what to do next."""
    counts = [f"{sweep.count('completed')} done"]
    counts += [f"{count} {_MARK.get(fate, fate)}" for fate in _WORTH_COUNTING if (count := sweep.count(fate))]
    if sweep.before:
        counts.append(f"{sweep.before} done before")
    if sweep.waiting:
        counts.append(f"{len(sweep.waiting)} not begun")
    failed = sweep.having("failed", "diverged")
    say(f"{counted(sweep.total, 'run')}: {', '.join(counts)}", "bold red" if failed else "bold")
    for run in failed:
        say(f"  {run.fate}  {run.job.id}: {(run.cause or 'no cause was given').splitlines()[0]}", "red")
        say(f"    log: {run.job.folder.log}")
    if interrupted:
        say("interrupted; every run goes on from its last committed state", "yellow", stderr=True)
    if interrupted or sweep.waiting:
        say(f"go on with  {again}", stderr=interrupted)
    elif sweep.count("failed"):
        say(f"again   {again}    (trains what failed; finished runs are skipped)")
    if not interrupted:
        say(f"next    {following}")
