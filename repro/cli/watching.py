"""What goes on right now over a results folder: sweeps, runs, and how long ago each was heard of."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from repro.cli.console import console, duration, say

if TYPE_CHECKING:
    from repro.sweep.overview import Overview

MOST_SHOWN = 20


def watched(show: Callable[[], bool], every_seconds: float) -> None:
    """Show again and again, until nothing is in training."""
    while True:
        if sys.stdout.isatty():
            console().clear()
        say(f"{datetime.now():%H:%M:%S}", "dim")
        if not show():
            say("Nothing is in training.")
            return
        print(flush=True)
        time.sleep(every_seconds)


def show_in_training(overviews: Sequence[Overview], results: Path) -> bool:
    """A line for each run in training: where, how far, when last heard of. Whether there is one."""
    from repro.cli.train_view import epoch_line
    from repro.results import RunFolder
    from repro.results.files import file_time
    from repro.results.ownership import last_owner
    from repro.results.progress_file import read_progress
    from repro.sweep.survey import Stage

    runs = [entry for one in overviews for entry in one.in_training]
    if not runs:
        return False
    now = file_time(results)
    for run_id, state in runs[:MOST_SHOWN]:
        folder = RunFolder(results / run_id)
        owner, live = last_owner(folder, lambda: now), read_progress(folder)
        if owner is None:
            continue
        if state.stage is Stage.LOST:
            say(f"lost     {run_id}: {state.detail}; the next sweep goes on with it", "yellow")
            continue
        place = live.place if live is not None else owner.host
        where = f"on {place}, heard of {owner.silent_seconds:.0f} s ago"
        stands = f"  {epoch_line(live.progress)}" if live is not None and live.progress.epoch else ""
        say(f"running  {run_id}  {where}{stands}")
    if len(runs) > MOST_SHOWN:
        say(f"… and {len(runs) - MOST_SHOWN} more in training")
    return any(state.stage is Stage.RUNNING for _, state in runs)


def show_sweeps(results: Path, table: str | None) -> bool:
    """A line for each registered sweep (of ``table``, where given). Whether one of them goes on.

    One that was left to a cluster's queue does until its last task, or --stop, removes it: it has no heartbeat.
    """
    from repro.results.files import file_time
    from repro.sweep.backends import queue_of
    from repro.sweep.registry import registered

    sweeps = [one for one in registered(results) if table is None or one.table == table]
    if not sweeps:
        return False
    now = file_time(results)
    for one in sweeps:
        about = f"sweep    {one.id} of {one.table} on {one.executor} since {one.since}"
        heard = f"heard of {duration(one.silent_seconds(now))} ago"
        if one.trouble is not None:
            say(f"{about}, given up: {one.trouble}", "red")
            say(f"go on with  {one.command}")
        elif one.lives(now):
            say(f"{about}, {heard}{', asked to stop' if one.stop else ''}")
        elif one.detached:
            where = ", ".join(f"{key} {value}" for key, value in one.left.items())
            say(f"{about}, left to the cluster ({where})")
            say(f"go on with  {one.command}    (once it is over; what is in the queue is not submitted again)")
        else:
            say(f"{about}, gone: it was killed", "yellow")
            say(f"go on with  {one.command}")
    queued = [one for one in sweeps if one.detached and queue_of(one.executor)]
    return bool(queued) or any(one.lives(now) for one in sweeps)
