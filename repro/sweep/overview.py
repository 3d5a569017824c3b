"""Where a table stands, for ``status``: every run's stage, counted by cell, and what is wrong with which."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from repro.analysis.compute import Compute, Spent, compute_of
from repro.analysis.evidence import lending_cells, table_of_folder
from repro.analysis.runs import seed_of
from repro.experiment.config import runs_of
from repro.experiment.schema import Table
from repro.results import RunFolder, load_records
from repro.results.files import file_time
from repro.sweep.survey import BLOCKED, RunState, Stage, survey, unfinished_state

IN_TRAINING = (Stage.RUNNING, Stage.LOST)
# What needs a person's attention, the most urgent first.
TROUBLE = (*BLOCKED, Stage.FAILED, Stage.DIVERGED, Stage.CHANCE)


@dataclass(frozen=True)
class Overview:
    """A table's runs: ``stages`` of all, ``by_cell`` of each cell, ``trouble`` by run id, and those ``in_training``.

    ``table`` is None if there are records, but their YAML file is not a built-in one. ``unrecognised`` are records
    outside the table's cells, such as of a row that it no longer has. ``borrowed`` counts the runs that are recorded
    under another table, by that table's id. ``compute`` is what the table's finished runs took. ``seeds`` has those of
    the runs in each stage.
    """

    name: str
    table: Table | None
    stages: Counter[Stage]
    by_cell: dict[str, Counter[Stage]]
    trouble: tuple[tuple[str, RunState], ...]
    unrecognised: tuple[Path, ...] = ()
    in_training: tuple[tuple[str, RunState], ...] = ()
    borrowed: Mapping[str, int] = field(default_factory=dict)
    compute: Compute | None = None
    seeds: Mapping[Stage, frozenset[int]] = field(default_factory=dict)


def table_folders(results: Path) -> list[str]:
    """The tables that have a folder under ``results``, sorted."""
    try:
        return sorted(path.name for path in results.iterdir() if path.is_dir() and not path.name.startswith("."))
    except FileNotFoundError:
        return []


def overview(results: Path, table: Table) -> Overview:
    """Where ``table`` stands: its cells with the seeds it asks for, and any others that are there."""
    there = {path: seed_of(path.name) for path in (results / table.id).glob("*/*/seed-*")}
    asked = set(range(table.seeds))
    runs = runs_of(table.cells, sorted(asked | {seed for seed in there.values() if seed is not None}))
    runs = [run for run in runs if run.seed in asked or results / run.id in there]
    states = survey(results, runs, lending_cells(results, table))
    # A folder without a run in it, such as of a record that was removed, asks for nothing.
    beyond = {run.id for run in runs if run.seed not in asked}
    states = {name: state for name, state in states.items() if name not in beyond or state.stage is not Stage.MISSING}
    known = {results / run.id for run in runs}
    unrecognised = sorted(path / "run.json" for path, seed in there.items() if path not in known and seed is not None)
    return _counted(table.id, table, states, [path for path in unrecognised if os.path.lexists(path)])


def overview_of_folder(results: Path, name: str) -> Overview:
    """Where the table in the folder ``name`` stands: by its YAML file, or if that is unknown by the runs in it."""
    table = table_of_folder(name)
    if table is not None:
        return overview(results, table)
    states = {}
    for found in load_records(results, [name], epochs=False):
        run_id, record = "/".join(found.path.parts[-5:-1]), found.record
        if record is None:
            states[run_id] = RunState(Stage(found.kind), found.problem)
        else:
            stage = Stage.IMPORTED if record.imported else Stage.COMPLETED
            stage = stage if record.status == "completed" else Stage.DIVERGED
            states[run_id] = RunState(stage, record.reason, spent=Spent.of(record))
    now = cache(lambda: file_time(results))
    for path in sorted((results / name).glob("*/*/seed-*")):
        run_id = path.relative_to(results).as_posix()
        if seed_of(path.name) is not None and run_id not in states:
            state = unfinished_state(RunFolder(path), now)
            if state.stage is not Stage.MISSING:
                states[run_id] = state
    return _counted(name, None, states)


def _counted(
    name: str, table: Table | None, states: Mapping[str, RunState], unrecognised: Iterable[Path] = ()
) -> Overview:
    by_cell: dict[str, Counter[Stage]] = {cell.id: Counter() for cell in table.cells} if table else {}
    for run_id, state in states.items():
        by_cell.setdefault(run_id.rpartition("/")[0], Counter())[state.stage] += 1
    seeds: dict[Stage, set[int]] = defaultdict(set)
    for run_id, state in states.items():
        if (seed := seed_of(run_id.rpartition("/")[2])) is not None:
            seeds[state.stage].add(seed)
    trouble = [(run_id, state) for run_id, state in states.items() if state.stage in TROUBLE]
    return Overview(
        name,
        table,
        Counter(state.stage for state in states.values()),
        by_cell,
        tuple(sorted(trouble, key=lambda entry: TROUBLE.index(entry[1].stage))),
        tuple(unrecognised),
        tuple((run_id, state) for run_id, state in states.items() if state.stage in IN_TRAINING),
        Counter(state.lender for state in states.values() if state.lender),
        compute_of((state.spent for state in states.values() if state.spent), [name]),
        {stage: frozenset(of_stage) for stage, of_stage in seeds.items()},
    )
