"""The sweeps and runs that are under way in a results folder, and the last heartbeat of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from rich.cells import cell_len

from repro.cli.console import console, say
from repro.wording import duration

if TYPE_CHECKING:
    from repro.progress import Progress
    from repro.sweep.overview import Overview
    from repro.sweep.registry import Registration

MOST_SHOWN = 20
QUEUE_SECONDS = 30.0  # between two questions to a cluster's queue: its controller serves others too


def watched(show: Callable[[], bool], every_seconds: float) -> None:
    """Repeat ``show`` until nothing is in training."""
    while True:
        if sys.stdout.isatty():
            console().clear()
        say(f"{datetime.now():%H:%M:%S}", "dim")
        if not show():
            say("Nothing is in training.")
            return
        say("")
        time.sleep(every_seconds)


def show_in_training(overviews: Sequence[Overview], results: Path) -> bool:
    """A line for each run in training: place, progress, last heartbeat. Whether there is one."""
    from repro.results import RunFolder
    from repro.results.files import file_time
    from repro.results.ownership import last_owner
    from repro.results.process import stopped_process
    from repro.results.progress_file import read_progress
    from repro.sweep.survey import Stage

    runs = list(chain.from_iterable(table.in_training for table in overviews))
    if not runs:
        return False
    now = file_time(results)
    for run_id, state in runs[:MOST_SHOWN]:
        folder = RunFolder(results / run_id)
        owner, live = last_owner(folder, lambda: now), read_progress(folder)
        if owner is None:
            continue
        if state.stage is Stage.LOST:
            say(f"lost     {run_id}: {state.detail}; the next sweep resumes it", "yellow")
            continue
        place = live.place if live is not None else owner.host
        where = f"on {place}, last heartbeat {duration(owner.silent_seconds)} ago"
        _say_running(run_id, where, live.progress if live is not None and live.progress.epoch else None)
        if owner.is_here and owner.silence:
            say(f"         {stopped_process(owner.pid)}", "yellow")
    if len(runs) > MOST_SHOWN:
        say(f"… and {len(runs) - MOST_SHOWN} more in training")
    return any(state.stage is Stage.RUNNING for _, state in runs)


def _is_too_narrow(line: str) -> bool:
    """Whether a terminal has fewer columns than ``line``."""
    return sys.stdout.isatty() and cell_len(line) > console().width


def _say_sweep(sweep: Registration, stands: str, style: str = "") -> None:
    """One line on a sweep, two on a narrow terminal."""
    about, more = f"sweep    {sweep.id} of {sweep.table} on {sweep.executor}", f"since {sweep.since}, {stands}"
    if not _is_too_narrow(f"{about} {more}"):
        return say(f"{about} {more}", style)
    say(about, style)
    say(f"{'':<8} {more}", style)


def _say_running(run_id: str, where: str, progress: Progress | None) -> None:
    """One line; on a terminal too narrow for it, one for the run and the place, and one for the progress."""
    from repro.cli.train_view import epoch_line

    line = f"running  {run_id}  {where}" + ("" if progress is None else f"  {epoch_line(progress)}")
    if not _is_too_narrow(line):
        return say(line)
    say(f"running  {run_id}")
    if progress is not None:
        say(f"{'':<8} {epoch_line(progress, console().width - 9)}")
    say(f"{'':<8} {where}", "dim")


def show_sweeps(results: Path, table: str | None) -> bool:
    """A line for each registered sweep (of ``table``, if given). Whether one of them is under way.

    One left to a cluster's queue has no heartbeat. Its last task removes it, unless one of its tasks was killed: so it
    is under way until the queue, where it answers, has nothing of it any more.
    """
    from repro.results.files import file_time
    from repro.sweep.backends import queue_of
    from repro.sweep.registry import registered

    sweeps = [sweep for sweep in registered(results) if table is None or sweep.table == table]
    if not sweeps:
        return False
    now = file_time(results)
    is_under_way = False
    for sweep in sweeps:
        resume = f"resume with  {sweep.command}"
        where = ", ".join(f"{key} {value}" for key, value in sweep.left.items())
        lives = sweep.lives(now)
        is_under_way = is_under_way or lives
        if sweep.trouble is not None:
            _say_sweep(sweep, f"failed: {sweep.trouble}", "red")
            say(resume)
        elif lives:
            heartbeat = f"last heartbeat {duration(sweep.silent_seconds(now))} ago"
            _say_sweep(sweep, f"{heartbeat}{', asked to stop' if sweep.stop else ''}")
        elif sweep.detached and _has_left_queue(results, sweep.id, int(time.monotonic() / QUEUE_SECONDS)):
            _say_sweep(sweep, f"over: none of its jobs is in the queue any more ({where})", "yellow")
            say(resume)
        elif sweep.detached:
            is_under_way = is_under_way or queue_of(sweep.executor) is not None
            _say_sweep(sweep, f"left to the cluster ({where})")
            say(f"{resume}    (once it is over; what is in the queue is not submitted again)")
        else:
            _say_sweep(sweep, "killed", "yellow")
            say(resume)
    return is_under_way


@lru_cache(maxsize=32)
def _has_left_queue(results: Path, sweep: str, period: int) -> bool:
    """Whether a cluster's queue has nothing of the sweep with this id any more; it is asked once in each ``period``."""
    from repro.sweep.backends import has_left_queue
    from repro.sweep.registry import Registration

    found = Registration.read(results, sweep)
    return found is not None and has_left_queue(found)
