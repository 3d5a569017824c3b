"""``biasrepro sweep --stop``: sweeps under way, on whatever engine, are asked to stop, and waited for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Table
    from repro.sweep.backends import Engine


def stop_sweeps(results: Path, table: Table | None, *, wait_seconds: float = 120.0) -> bool:
    """Ask the sweeps under way (of ``table``, where given) to stop, and wait for them; whether all did."""
    import time

    from repro.cli.console import counted, say
    from repro.results.clock import file_time
    from repro.sweep.backends import SlurmOptions, engine_of
    from repro.sweep.registry import Registration, registered

    if not results.is_dir():
        hint = "Give the folder that the sweep writes to: biasrepro sweep --stop --results DIR."
        raise UserError("there is no such results folder, so no sweep to stop", where=str(results), hint=hint)
    asked: list[tuple[Registration, Engine | None]] = []
    found_none = True
    for one in registered(results):
        if table is not None and one.conductor.table != table.id:
            continue
        conductor = one.conductor
        lives = one.lives(file_time(results))
        if not lives and (one.trouble is not None or not one.left):
            one.remove()  # nothing goes on: its conductor gave up, or was killed and its runs ended with it
            continue
        try:
            one.ask_to_stop()
        except FileNotFoundError:  # it ended just now
            continue
        say(f"asked   sweep {one.id} of {conductor.table} on {conductor.executor}, since {conductor.since}, to stop")
        found_none = False
        queue = None  # of what nobody conducts
        if one.left and conductor.executor == "slurm":
            try:
                engine = engine_of("slurm", SlurmOptions())
                engine.drop(one.left)
                queue = None if lives and not conductor.detached else engine
            except UserError as error:
                say(f"{error.what}: what is queued there stays so, and ends as soon as it begins", "yellow")
        if lives or queue is not None:
            asked.append((one, queue))
    if found_none:
        say("No sweep is conducted here now." if table is None else f"No sweep of {table.id} is conducted here now.")
    if not asked:
        return True
    deadline = time.monotonic() + wait_seconds
    while asked and time.monotonic() < deadline:
        time.sleep(0.2 if all(queue is None for _, queue in asked) else 1.0)  # SLURM's is not to be pestered
        for one, queue in asked:
            if queue is not None and queue.is_over(one.left):
                one.remove()
        asked = [(one, queue) for one, queue in asked if Registration.read(results, one.id) is not None]
    if asked:
        say(
            f"{counted(len(asked), 'sweep')} still running after {wait_seconds:.0f} s; a long step may be under way",
            "yellow",
        )
        return False
    say("stopped; every run goes on from its last committed state")
    return True
