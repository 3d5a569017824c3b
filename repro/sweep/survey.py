"""The stage of each run of a table, from the results folder. A record is checked here as a table checks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

from repro.analysis.chance import chance_level_percent, is_at_chance
from repro.analysis.compute import Spent
from repro.analysis.runs import why_left_out
from repro.analysis.sources import assumed_sources, unlike_assumed
from repro.errors import DataError
from repro.experiment.schema import NOTHING, Cell, Run
from repro.results import RunFolder, RunRecord, find_record, read_failure
from repro.results.files import file_time, read_each
from repro.results.ownership import last_owner
from repro.wording import duration


class Stage(StrEnum):
    """How far a run has come."""

    COMPLETED = "done"
    CHANCE = "chance level"
    IMPORTED = "imported"
    DIVERGED = "diverged"
    FAILED = "failed"
    RUNNING = "running"
    LOST = "lost"
    INTERRUPTED = "interrupted"
    MISSING = "to do"
    DAMAGED = "damaged"
    UNREADABLE = "unreadable"
    NEWER = "newer"
    FOREIGN = "other configuration"


# Its place holds a record that cannot be taken as its own: nothing is trained there.
BLOCKED = (Stage.DAMAGED, Stage.UNREADABLE, Stage.NEWER, Stage.FOREIGN)
WAYS_OUT = {
    Stage.UNREADABLE: "Fix what keeps it from being read (permissions, the disk, `ulimit -n`)",
    Stage.NEWER: "Update biasrepro",
}
WITH_ACCURACY = (Stage.COMPLETED, Stage.CHANCE, Stage.IMPORTED)
FINISHED = (*WITH_ACCURACY, Stage.DIVERGED)
_WITHOUT_RECORD = (Stage.FAILED, Stage.LOST, Stage.INTERRUPTED, Stage.MISSING)


@dataclass(frozen=True)
class RunState:
    """A run's stage; ``detail`` says why it is not just done or to do; ``record``, if any, has no epochs.

    ``lender`` is the table that recorded it, if that is another one; ``sources`` are those of its record. ``weights``
    says whether weights are kept beside it, ``spent`` what a finished run took.
    """

    stage: Stage
    detail: str | None = None
    record: RunRecord | None = None
    lender: str | None = None
    spent: Spent | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    weights: bool = False


def survey(
    results: Path, runs: Iterable[Run], lending: Mapping[str, Sequence[Cell]] | None = None
) -> dict[str, RunState]:
    """The state of each run, by its id, without its record: those of ten thousand take 0.1 GB.

    A run without a record of its own takes that of a cell that is ``lending`` to its cell (``evidence.lending_cells``).
    """
    now = cache(lambda: file_time(results))

    def stage_of(run: Run) -> tuple[str, RunState]:
        state = state_of(RunFolder.of(results, run), run, now)
        if state.stage in _WITHOUT_RECORD and lending:
            for cell in lending.get(run.cell.id, ()):
                lent = Run(cell=cell, seed=run.seed)
                found = state_of(RunFolder.of(results, lent), lent, now)
                if found.stage in FINISHED and found.stage is not Stage.IMPORTED:
                    state = replace(found, lender=cell.table)
                    break
        record = state.record
        spent = Spent.of(record) if record and state.stage in FINISHED else None
        return run.id, replace(state, record=None, spent=spent, sources=record.sources if record else NOTHING)

    runs = list(runs)
    states = dict(read_each(stage_of, runs))
    cells = {run.cell.id: run.cell for run in runs}
    assumed = assumed_sources(cells.values(), [state.sources for state in states.values()])
    return {name: _as_assumed(state, assumed) for name, state in states.items()}


def _as_assumed(state: RunState, assumed: Mapping[str, str]) -> RunState:
    unlike = unlike_assumed(state.sources, assumed)
    return RunState(Stage.FOREIGN, unlike) if unlike and state.stage in FINISHED else state


def state_of(folder: RunFolder, run: Run, now: Callable[[], float] | None = None) -> RunState:
    """The state of ``run``, whose files are in ``folder``; ``now`` as in ``last_owner``."""
    try:
        record = find_record(folder, epochs=False)
    except DataError as error:
        return RunState(Stage(error.kind), error.what)
    if record is None:
        return unfinished_state(folder, now)
    match why_left_out(run, record):
        case "configuration":
            return RunState(Stage.FOREIGN, record.unlike(run), record)
        case "diverged":
            return RunState(Stage.DIVERGED, record.reason, record)
    if record.imported:
        return RunState(Stage.IMPORTED, f"from {record.imported.file}", record)
    level = chance_level_percent(run.cell.dataset, record)
    weights = record.weights is not None and folder.weights.exists()
    if level is not None and is_at_chance(record, run.cell):
        detail = f"{record.last_top1_percent:.2f} % at the last epoch, and guessing reaches up to {level:.2f} %"
        return RunState(Stage.CHANCE, detail, record, weights=weights)
    return RunState(Stage.COMPLETED, None, record, weights=weights)


def unfinished_state(folder: RunFolder, now: Callable[[], float] | None = None) -> RunState:
    """The state of a run without a record, by the other files in its folder; ``now`` as in ``last_owner``."""
    owner = last_owner(folder, now)
    if owner is not None and owner.lives:
        return RunState(Stage.RUNNING, f"by {owner}{owner.silence}")
    if (failure := read_failure(folder)) is not None:
        return RunState(Stage.FAILED, failure.cause)
    if owner is not None and not owner.is_here:
        return RunState(Stage.LOST, f"no heartbeat from {owner} for {duration(owner.silent_seconds)}")
    if folder.checkpoint.exists() or folder.previous_checkpoint.exists():
        return RunState(Stage.INTERRUPTED)
    return RunState(Stage.MISSING)
