"""``biasrepro sweep --stop``: ask the running sweeps to stop, and wait until they have."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from repro.cli.console import say
from repro.errors import UserError
from repro.experiment.schema import Table
from repro.results.files import file_time
from repro.sweep.backends import Backend, queue_of
from repro.sweep.registry import Registration, registered
from repro.wording import counted, duration


class _Asked(NamedTuple):
    """A sweep that was asked to stop. ``queue`` is its backend if only what is ``left`` there tells when it is over."""

    sweep: Registration
    queue: type[Backend] | None = None
    left: Mapping[str, str] = {}


def stop_sweeps(results: Path, table: Table | None, *, wait_seconds: float = 120.0) -> bool:
    """Ask the running sweeps (of ``table``, if given) to stop, and wait for them; whether all have stopped."""
    running = [sweep for sweep in registered(results) if table is None or sweep.table == table.id]
    running = [sweep for sweep in running if _ask(sweep)]
    if not running:
        say("No sweep is running here." if table is None else f"No sweep of {table.id} is running here.")
    asked = [entry for entry in map(_drop_queued, running) if entry is not None]
    if not asked:
        return True
    still_running = _wait_for(asked, wait_seconds)
    if still_running:
        left = counted(len(still_running), "sweep")
        say(f"{left} still running after {duration(wait_seconds)}, perhaps in a long step", "yellow")
    else:
        say("stopped; every run can resume from its last checkpoint")
    for command in dict.fromkeys(entry.sweep.command for entry in asked if entry not in still_running):
        say(f"resume with  {command}")
    return not still_running


def _ask(sweep: Registration) -> bool:
    """Ask a sweep to stop; False if it is over already."""
    if not _lives(sweep) and (sweep.trouble is not None or not sweep.left):
        sweep.remove()  # its process gave up, or was killed and its runs ended with it
        return False
    try:
        sweep.ask_to_stop()
    except FileNotFoundError:  # it ended just now
        return False
    say(f"asked   sweep {sweep.id} of {sweep.table} on {sweep.executor}, since {sweep.since}, to stop")
    return True


def _drop_queued(sweep: Registration) -> _Asked | None:
    """Cancel the sweep's queued jobs, if its cluster has a queue. None if nothing will tell when the sweep is over."""
    lives, queue = _lives(sweep), queue_of(sweep.executor)
    if queue is not None and sweep.left:
        try:
            left = queue.named(sweep)
            queue.drop(left)
        except UserError as error:
            say(f"{error.what}: queued jobs stay in its queue, and exit as soon as they start", "yellow")
        else:
            is_followed = lives and not sweep.detached
            return _Asked(sweep) if is_followed else _Asked(sweep, queue, left)
    return _Asked(sweep) if lives else None


def _wait_for(asked: list[_Asked], wait_seconds: float) -> list[_Asked]:
    """Wait until the sweeps are over; returns those that are not after ``wait_seconds``."""
    deadline = time.monotonic() + wait_seconds
    while asked and time.monotonic() < deadline:
        asks_cluster = any(queue is not None for _, queue, _ in asked)
        time.sleep(1.0 if asks_cluster else 0.2)  # a cluster's controller serves others too
        for sweep, queue, left in asked:
            if queue is not None and queue.is_over(left):
                sweep.remove()
        asked = [entry for entry in asked if Registration.read(entry.sweep.results, entry.sweep.id)]
    return asked


def _lives(sweep: Registration) -> bool:
    return sweep.lives(file_time(sweep.results))
