"""A configuration can grow: records made before a key existed keep their hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from repro.engine.changes import differences
from repro.experiment.added_keys import ADDED_KEYS, with_neutral, without_neutral
from repro.experiment.config import find_cell, find_table, load_table
from repro.experiment.schema import (
    Augmentation,
    Cell,
    DatasetChoice,
    Execution,
    ModelOptions,
    Recipe,
    Row,
    Run,
    Weighting,
)
from repro.results import RunFolder
from repro.results.record import RunRecord, from_bytes
from repro.sweep.survey import Stage, state_of

COMMITTED = Path(__file__).parents[2] / "results"
RELEASED = Path(__file__).parent / "records"


def read(path: Path) -> RunRecord:
    return from_bytes(path.read_bytes(), where=str(path), epochs=False)


def hash_of(configuration: dict[str, Any]) -> str:
    text = json.dumps(configuration, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def test_every_committed_record_still_counts() -> None:
    paths = sorted(COMMITTED.rglob("run.json"))
    assert len(paths) >= 42
    for path in paths:
        record = read(path)
        run = Run(cell=find_cell(record.id.rpartition("/")[0]), seed=record.seed)
        assert run.configuration() == record.configuration, path
        assert run.hash == record.configuration_hash == hash_of(record.configuration), path


@pytest.mark.parametrize("version", sorted(path.name for path in RELEASED.iterdir()))
def test_a_record_of_every_released_schema_still_counts(version: str) -> None:
    record, table = read(RELEASED / version / "record.json"), load_table(RELEASED / version / "table.yaml")
    cell = next(cell for cell in table.cells if cell.id == record.id.rpartition("/")[0])
    assert Run(cell=cell, seed=record.seed).hash == record.configuration_hash == hash_of(record.configuration)


class ProbeAugmentation(Augmentation):
    probe: float = 0.0


class ProbeRecipe(Recipe):
    probe: float = 0.0
    augmentation: ProbeAugmentation = ProbeAugmentation()


class ProbeWeighting(Weighting):
    probe: float = 0.0


class ProbeDataset(DatasetChoice):
    probe: float = 0.0


class ProbeOptions(ModelOptions):
    probe: float = 0.0


class ProbeRow(Row):
    options: ProbeOptions = ProbeOptions()


class ProbeExecution(Execution):
    probe: float = 0.0


class ProbeCell(Cell):
    """A cell of a schema in which every section has one more key, and there is one more section."""

    row: ProbeRow
    dataset: ProbeDataset
    recipe: ProbeRecipe
    weighting: ProbeWeighting
    execution: ProbeExecution
    probe: dict[str, float] = Field(default_factory=lambda: {"first": 0.0, "second": 0.0})

    def _sections(self) -> dict[str, Any]:
        return {**super()._sections(), "probe": self.probe}


ADDED: list[tuple[str, str, Any]] = [
    *((section, "probe", 0.0) for section in ("recipe", "recipe.augmentation", "weighting", "dataset")),
    *((section, "probe", 0.0) for section in ("options", "execution")),
    ("", "probe", {"first": 0.0}),
    ("probe", "second", 0.0),
]


@pytest.fixture
def grown() -> Iterator[None]:
    ADDED_KEYS.extend(ADDED)
    yield
    del ADDED_KEYS[-len(ADDED) :]


def grow(cell: Cell, section: str = "", value: float = 0.0) -> ProbeCell:
    data = cell.model_dump()
    if section == "probe":
        data["probe"] = {"first": 0.0, "second": value}
    elif section:
        place = data["row"] if section == "options" else data
        for part in section.split("."):
            place = place[part]
        place["probe"] = value
    return ProbeCell.model_validate(data)


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize("column", ["ce", "bias"])
def test_at_its_neutral_value_an_added_key_changes_no_hash(column: str) -> None:
    cell = find_cell(f"tiny20/shufflenetv2/{column}")
    assert grow(cell).hash == cell.hash
    assert grow(cell).determinants() == cell.determinants()


@pytest.mark.usefixtures("grown")
@pytest.mark.parametrize(
    "section", ["recipe", "recipe.augmentation", "weighting", "dataset", "options", "execution", "probe"]
)
def test_at_another_value_it_has_a_hash_of_its_own(section: str) -> None:
    cell = find_cell("tiny20/shufflenetv2/bias")
    hashes = {cell.hash, grow(cell, section, 0.1).hash, grow(cell, section, 0.2).hash}
    assert len(hashes) == 3


def test_a_key_that_is_not_listed_changes_every_hash() -> None:
    cell = find_cell("tiny20/shufflenetv2/bias")
    assert grow(cell).hash != cell.hash


@pytest.mark.usefixtures("grown")
def test_where_configurations_are_compared_an_absent_key_is_neutral() -> None:
    before = find_cell("tiny20/shufflenetv2/ce").determinants()
    now = grow(find_cell("tiny20/shufflenetv2/ce"), "recipe", 0.1).determinants()
    assert differences(with_neutral(before), with_neutral(now)) == {"recipe.probe": "recipe.probe: was 0.0, is 0.1"}
    assert without_neutral(with_neutral(before)) == before


@pytest.mark.usefixtures("grown")
def test_a_survey_names_the_added_key_that_differs() -> None:
    run = Run(cell=find_table("tiny20").cells[0], seed=0)
    folder = RunFolder.of(COMMITTED, run)
    assert state_of(folder, run).stage == Stage.COMPLETED
    state = state_of(folder, Run(cell=grow(run.cell, "recipe", 0.1), seed=0))
    assert (state.stage, state.detail) == (Stage.FOREIGN, "recipe.probe is 0.0 there, 0.1 here")
