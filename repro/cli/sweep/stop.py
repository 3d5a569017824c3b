"""``biasrepro sweep --stop``: ask the running sweeps to stop, whatever trains for them, and wait for them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Table
    from repro.sweep.backends import Backend
    from repro.sweep.registry import Registration


class _Asked(NamedTuple):
    """A sweep that was asked to stop; ``queue`` is its backend where no process follows the cluster's queue."""

    sweep: Registration
    queue: type[Backend] | None


def stop_sweeps(results: Path, table: Table | None, *, wait_seconds: float = 120.0) -> bool:
    """Ask the running sweeps (of ``table``, where given) to stop, and wait for them; whether all have stopped."""
    from repro.cli.console import counted, say
    from repro.sweep.registry import registered

    if not results.is_dir():
        hint = "Give the folder that the sweep writes to: biasrepro sweep --stop --results DIR."
        raise UserError("there is no such results folder, so no sweep to stop", where=str(results), hint=hint)
    sweeps = [sweep for sweep in registered(results) if table is None or sweep.conductor.table == table.id]
    running = [sweep for sweep in sweeps if _is_asked(sweep)]
    if not running:
        say("No sweep is running here." if table is None else f"No sweep of {table.id} is running here.")
    asked = [entry for entry in map(_drop_queued, running) if entry is not None]
    if not asked:
        return True
    if still_running := _wait_for(asked, wait_seconds):
        left = counted(still_running, "sweep")
        say(f"{left} still running after {wait_seconds:.0f} s, perhaps in a long step", "yellow")
        return False
    say("stopped; every run can resume from its last checkpoint")
    return True


def _is_asked(sweep: Registration) -> bool:
    """Ask a sweep to stop; False where it is over already."""
    from repro.cli.console import say

    if not _lives(sweep) and (sweep.trouble is not None or not sweep.left):
        sweep.remove()  # its process gave up, or was killed and its runs ended with it
        return False
    try:
        sweep.ask_to_stop()
    except FileNotFoundError:  # it ended just now
        return False
    conductor = sweep.conductor
    say(f"asked   sweep {sweep.id} of {conductor.table} on {conductor.executor}, since {conductor.since}, to stop")
    return True


def _drop_queued(sweep: Registration) -> _Asked | None:
    """Cancel what waits in the cluster's queue, if there is one. None where nobody will say when the sweep is over."""
    from repro.cli.console import say
    from repro.sweep.backends import queue_of

    lives, queue = _lives(sweep), queue_of(sweep.conductor.executor)
    if queue is not None and sweep.left:
        try:
            queue.drop(sweep.left)
        except UserError as error:
            say(f"{error.what}: jobs that wait in its queue stay there, and end as soon as they begin", "yellow")
        else:
            is_followed = lives and not sweep.conductor.detached
            return _Asked(sweep, None if is_followed else queue)
    return _Asked(sweep, None) if lives else None


def _wait_for(asked: list[_Asked], wait_seconds: float) -> int:
    """Wait until the sweeps are over; returns how many are not after ``wait_seconds``."""
    from repro.sweep.registry import Registration

    deadline = time.monotonic() + wait_seconds
    while asked and time.monotonic() < deadline:
        asks_cluster = any(queue is not None for _, queue in asked)
        time.sleep(1.0 if asks_cluster else 0.2)  # a cluster's controller serves others too
        for sweep, queue in asked:
            if queue is not None and queue.is_over(sweep.left):
                sweep.remove()
        asked = [entry for entry in asked if Registration.read(entry.sweep.results, entry.sweep.id) is not None]
    return len(asked)


def _lives(sweep: Registration) -> bool:
    from repro.results.files import file_time

    return sweep.lives(file_time(sweep.results))
