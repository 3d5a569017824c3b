"""Where a table stands, for ``status``: every run's stage, counted by cell, and what is wrong with which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from repro.analysis.evidence import lending_cells
from repro.analysis.runs import seed_of
from repro.errors import UserError
from repro.experiment.config import find_table, runs_of
from repro.experiment.schema import Table
from repro.results import Found, load_records
from repro.sweep.survey import RunState, Stage, survey

IN_TRAINING = (Stage.RUNNING, Stage.LOST)
# What a person has to do something about, the most pressing first.
TROUBLE = (Stage.DAMAGED, Stage.FOREIGN, Stage.FAILED, Stage.DIVERGED)


@dataclass(frozen=True)
class Overview:
    """A table's runs: ``stages`` of all, ``by_cell`` of each cell, ``trouble`` by run id, and those ``in_training``.

    ``table`` is None where the records are there and the YAML file that they came from is not known by name.
    ``strangers`` are records of no cell of the table, such as of a row that it no longer has. ``borrowed`` counts the
    runs that are recorded under another table, by that table's id.
    """

    name: str
    table: Table | None
    stages: Counter[Stage]
    by_cell: dict[str, Counter[Stage]]
    trouble: tuple[tuple[str, RunState], ...]
    strangers: tuple[Path, ...] = ()
    in_training: tuple[tuple[str, RunState], ...] = ()
    borrowed: Mapping[str, int] = field(default_factory=dict)


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
    by_cell: dict[str, Counter[Stage]] = {cell.id: Counter() for cell in table.cells}
    for run in runs:
        by_cell[run.cell.id][states[run.id].stage] += 1
    known = {results / run.id for run in runs}
    strangers = sorted(path / "run.json" for path, seed in there.items() if path not in known and seed is not None)
    return Overview(
        table.id,
        table,
        Counter(state.stage for state in states.values()),
        by_cell,
        _trouble(states.items()),
        tuple(path for path in strangers if path.exists()),
        tuple((run_id, state) for run_id, state in states.items() if state.stage in IN_TRAINING),
        Counter(state.lender for state in states.values() if state.lender),
    )


def overview_of_folder(results: Path, name: str) -> Overview:
    """Where the table in the folder ``name`` stands, by that name where it finds the table, else by its records."""
    try:
        table = find_table(name)
        if table.id == name:
            return overview(results, table)
    except UserError:
        pass
    found = load_records(results, [name], epochs=False)
    states = {"/".join(entry.path.parts[-5:-1]): _state_by_record(entry) for entry in found}
    by_cell: dict[str, Counter[Stage]] = {}
    for run_id, state in states.items():
        by_cell.setdefault(run_id.rpartition("/")[0], Counter())[state.stage] += 1
    stages = Counter(state.stage for state in states.values())
    return Overview(name, None, stages, by_cell, _trouble(states.items()))


def _state_by_record(found: Found) -> RunState:
    if found.record is None:
        return RunState(Stage.DAMAGED, found.problem)
    return RunState(Stage.COMPLETED if found.record.status == "completed" else Stage.DIVERGED, found.record.reason)


def _trouble(states: Iterable[tuple[str, RunState]]) -> tuple[tuple[str, RunState], ...]:
    found = [(run_id, state) for run_id, state in states if state.stage in TROUBLE]
    return tuple(sorted(found, key=lambda entry: TROUBLE.index(entry[1].stage)))
