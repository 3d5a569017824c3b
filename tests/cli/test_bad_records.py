"""Sealed records that are not right cost no page: each is left out with its path, and all others are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.canonical import digest
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_record
from repro.results.record import sealed
from repro.sweep.selection import selected_runs

Edit = Callable[[dict[str, Any]], Any]


def epochs(**fields: Any) -> Edit:
    return lambda record: [epoch.update(fields) for epoch in record["epochs"]]


def configured(**fields: Any) -> Edit:
    def edit(record: dict[str, Any]) -> None:
        record["configuration"].update(fields)
        record["configuration_hash"] = digest(record["configuration"])

    return edit


BAD: dict[str, Edit] = {
    "another run's id": lambda record: record.update(id="demo/shufflenetv2/ce/seed-99"),
    "another seed": lambda record: record.update(seed=7),
    "another seed throughout": lambda record: (record.update(seed=7), configured(seed=7)(record)),
    "a seed below 0": lambda record: record.update(seed=-1),
    "huge parameters": lambda record: record.update(parameters=10**400),
    "huge losses": epochs(train_loss=1e308, test_loss=1e308),
    "a huge epoch": epochs(epoch=10**30),
    "an accuracy above 100": epochs(train_top5_percent=9999.0),
    "a best top-1 that no epoch has": lambda record: record.update(best_top1_percent=99.5),
    "eternal": lambda record: record["provenance"].update(duration_seconds=1e300),
    "fewer epochs under the hash of all": lambda record: (
        record["configuration"]["recipe"].update(epochs=1),
        record.update(epochs=record["epochs"][-1:]),
    ),
    "no batch size": configured(recipe={"epochs": 8}),
    "no data set": configured(dataset=3),
    "no execution": configured(execution=[1]),
    "no configuration": lambda record: record.update(configuration={}),
    "no provenance": lambda record: record.pop("provenance"),
}


@pytest.fixture
def results(tmp_path: Path, fake_runs: Any) -> Path:
    """A good record of each cell of the demo, and the bad ones in the places of further seeds."""
    cell, *_ = find_table("demo").cells
    for run in selected_runs(find_table("demo"), (0,)):
        write_record(RunFolder.of(tmp_path / "results", run), fake_runs.record(run))
    for seed, edit in enumerate(BAD.values(), 1):
        folder = RunFolder.of(tmp_path / "results", run := Run(cell=cell, seed=seed))
        write_record(folder, fake_runs.record(run))
        record = json.loads(folder.record.read_bytes())
        del record["seal"]
        edit(record)
        folder.record.write_bytes(sealed(json.dumps(record, indent=1).encode().removesuffix(b"\n}")))
    return tmp_path / "results"


@pytest.mark.parametrize(
    "command",
    [
        "table demo",
        "table demo -f html",
        "table demo -f json",
        "figure curves demo -o a.svg",
        "figure weights demo -o a.svg",
        "report demo -f markdown",
        "export",
        "export demo --level runs",
        "export -f parquet -o a.parquet",
    ],
)
def test_a_page_shows_the_good_records_and_names_each_bad_one(
    command: str, say: Callable[..., Any], results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = say(*command.split(), "--results", "results")
    assert said.code == 0, said.err
    text = said.out + said.err
    named = [name for seed, name in enumerate(BAD, 1) if f"/seed-{seed}" in text]
    assert named == list(BAD) or f"and {len(BAD) - 6} more" in text
    if command.startswith("export"):
        assert "4 runs exported" in said.err
    assert not re.search(r"\b(inf|nan)\b", said.out)


def test_the_other_commands_answer_too(say: Callable[..., Any], results: Path) -> None:
    assert f"4 records and 0 checkpoints are whole; {len(BAD)} damaged" in say("verify", results).out
    assert f"1/{len(BAD) + 1}, {len(BAD)} damaged" in say("status", "demo", "--results", results).out
    dry = ("sweep", "demo", "--dry-run", "--no-measure", "--device", "cpu", "--columns", "bias")
    assert say(*dry, "--results", results).code == 0
    assert say("plan", "table2", "--results", results).code == 0
