"""Which runs a sweep trains: from a table, a selection and what is recorded, to the runs that are left. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from repro.errors import UserError
from repro.experiment.config import MOST_RUNS, runs_of, select
from repro.experiment.schema import Run, Table
from repro.sweep.survey import BLOCKED, FINISHED, WAYS_OUT, WITH_ACCURACY, RunState, Stage
from repro.wording import counted

KEEP_BOTH = "to keep both configurations, give the edited table another name (`table` in its file)"

Only = Literal["failed", "missing"]
MAX_SEEDS = 10_000

_PART = re.compile(r" *([0-9]{1,20}) *(?:- *([0-9]{1,20}) *)?")


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep: to train, finished before, being trained elsewhere, left out by ``--only``, and blocked.

    ``blocked`` pairs each run with the state of the unusable record at its place. ``borrowed`` of the finished runs are
    recorded under another table, and ``imported`` of them were trained elsewhere.
    """

    todo: tuple[Run, ...]
    finished: tuple[Run, ...]
    elsewhere: tuple[Run, ...]
    left_out: tuple[Run, ...]
    blocked: tuple[tuple[Run, RunState], ...]
    borrowed: int = 0
    imported: int = 0


def parse_seeds(text: str | None, default: int) -> tuple[int, ...]:
    """Seeds from ``5`` (0 to 4), or a list of seeds and ranges: ``0,3,7``, ``5-9``, ``0-2,7``; ``3,`` is seed 3 alone.

    ``default`` many for None. Raises UserError.
    """
    if text is None:
        return tuple(range(default))
    parts = [_PART.fullmatch(part) for part in text.removesuffix(",").split(",")]
    found = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if len(found) < len(parts) or any(last < first for first, last in found):
        raise UserError(
            f"--seeds {text} is neither a number nor a list", hint="Such as --seeds 5, --seeds 0,3,7 or --seeds 5-9."
        )
    if not {",", "-"} & set(text):
        found = [(0, found[0][0] - 1)]
    count = sum(last - first + 1 for first, last in found)
    if not 1 <= count <= MAX_SEEDS:
        raise UserError(f"--seeds {text}: from 1 to {MAX_SEEDS:,} seeds", hint="A list with a comma names seeds.")
    numbers = tuple(seed for first, last in found for seed in range(first, last + 1))
    if len(set(numbers)) < count:
        raise UserError(f"--seeds {text} names a seed twice")
    if max(numbers) >= 2**32:
        raise UserError(f"--seeds {text}: a seed is below 2**32")
    return numbers


def selected_runs(
    table: Table, seeds: Sequence[int], rows: Sequence[str] | None = None, columns: Sequence[str] | None = None
) -> list[Run]:
    """The runs of ``table`` under a selection of rows and columns (None: all). Raises UserError for unknown names."""
    kept_rows = table.rows if rows is None else select(table.rows, rows, f"row of {table.id}")
    kept_columns = table.columns if columns is None else select(table.columns, columns, f"column of {table.id}")
    if (runs := len(kept_rows) * len(kept_columns) * len(seeds)) > MOST_RUNS:
        raise UserError(
            f"{runs:,} runs: a sweep has at most {MOST_RUNS:,}", hint="Choose --rows, --columns or --seeds."
        )
    return runs_of((table.cell(row, column) for row in kept_rows for column in kept_columns), seeds)


def make_plan(runs: Sequence[Run], states: Mapping[str, RunState], only: Only | None = None) -> Plan:
    """Sort ``runs`` by what is there of them already; ``only`` keeps those that failed, or those never tried."""
    found: dict[str, list[Run]] = {"todo": [], "finished": [], "elsewhere": [], "left_out": []}
    blocked = []
    for run in runs:
        state = states[run.id]
        if state.stage in BLOCKED:
            blocked.append((run, state))
        elif state.stage in FINISHED:
            found["finished"].append(run)
        elif state.stage is Stage.RUNNING:
            found["elsewhere"].append(run)
        elif only is None or (only == "failed") == (state.stage is Stage.FAILED):
            found["todo"].append(run)
        else:
            found["left_out"].append(run)
    borrowed = sum(states[run.id].lender is not None for run in runs)
    imported = sum(states[run.id].stage is Stage.IMPORTED for run in runs)
    kinds = {kind: tuple(kept) for kind, kept in found.items()}
    return Plan(blocked=tuple(blocked), borrowed=borrowed, imported=imported, **kinds)


def without_weights(runs: Sequence[Run], states: Mapping[str, RunState]) -> list[Run]:
    """The completed ones of ``runs`` that have no weights beside their record. A diverged run keeps none."""
    return [run for run in runs if states[run.id].stage in WITH_ACCURACY and not states[run.id].weights]


def refuse_without_weights(finished: Sequence[Run], states: Mapping[str, RunState]) -> None:
    """Raise UserError, naming each run, if completed runs have no weights beside their record."""
    if not (without := without_weights(finished, states)):
        return
    lenders = {run.id: states[run.id].lender for run in without}
    shown = [f"  {run}" + (f" (under table {lender})" if lender else "") for run, lender in lenders.items()]
    raise UserError(
        f"--keep-weights: {counted(len(without), 'run is', 'runs are')} recorded without weights:\n"
        + "\n".join(_first_ten(shown)),
        hint="Nothing was started. Move these run.json files away to train the runs again, or choose other --seeds, or "
        "leave --keep-weights out.",
    )


def refuse_blocked(plan: Plan) -> None:
    """Raise UserError, naming each run, if a record is in its place that cannot be taken as its own."""
    if not plan.blocked:
        return
    shown = _first_ten([f"  {run.id}: {state.stage.value}: {state.detail}" for run, state in plan.blocked])
    blocked = counted(len(plan.blocked), "run has", "runs have")
    stages = {state.stage for _, state in plan.blocked}
    hint = "Give another --results folder, or move these run.json files away; a run without a record is trained again."
    if Stage.FOREIGN in stages:
        hint = f"{hint} Or, {KEEP_BOTH}."
    for way_out in (WAYS_OUT[stage] for stage in WAYS_OUT if stage in stages):
        hint = f"Records that are unreadable or newer may be intact: move none away. {way_out}, and sweep again."
    raise UserError(
        f"{blocked} a record here that is damaged, unreadable, of a newer biasrepro or of another configuration:\n"
        + "\n".join(shown),
        hint=f"Nothing was started. {hint}",
    )


def _first_ten(lines: list[str]) -> list[str]:
    """The lines, of more than ten the first ten and how many more there are."""
    return lines if len(lines) <= 10 else [*lines[:10], f"  … and {len(lines) - 10} more"]
