"""Every command agrees on which runs count, also on those that a table borrows: nothing is trained twice."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro.analysis.evidence import gather_evidence, lending_cells
from repro.analysis.runs import CellRuns, count_runs
from repro.experiment.config import find_table, runs_of
from repro.experiment.schema import Run, Table
from repro.figures import draw_figure, gather_recorded
from repro.results import RunFolder, write_record
from repro.results.store import PREREGISTRATION
from repro.sweep.survey import survey

Say = Callable[..., Any]
BORROWED = ("ce", "bias")


@pytest.fixture
def recorded(tmp_path: Path, fake_worker: ModuleType) -> Path:
    """A results folder with Table 2's cross-entropy and bias columns, and the product's own column."""
    results = tmp_path / "results"
    results.mkdir()
    for name, columns in (("table2", BORROWED), ("product", ("mean_variance_bias",))):
        cells = [cell for cell in find_table(name).cells if cell.column.id in columns]
        for run in runs_of(cells, range(5)):
            top1 = 60.0 + len(run.cell.column.id) + 0.1 * (run.seed * len(run.cell.id) % 7)
            record = fake_worker.record_of(run, last_top1_percent=top1, best_top1_percent=top1)
            write_record(RunFolder.of(results, run), record)
    return results


def test_the_table_counts_them_and_says_in_a_footnote_where_they_are_recorded(say: Say, recorded: Path) -> None:
    said = say("table", "product", "--format", "json", "--verdicts", "words", "--results", recorded)
    (table,) = json.loads(said.out)["tables"]
    assert (table["runs"]["recorded"], table["runs"]["planned"]) == (75, 75)
    notes = {note["mark"]: note["text"] for note in table["notes"]}
    for row in table["rows"]:
        for cell in row["cells"]:
            assert cell["ours"]["n"] == 5
            assert [("recorded under `table2`" in notes[mark]) for mark in cell["marks"]] == (
                [True] if cell["column"] in BORROWED else []
            )
            assert (cell["judgement"] is None) == (cell["column"] == "ce")
    assert "product: 75 of 75 runs recorded." in said.err


def test_a_sweep_trains_none_of_them_again(
    say: Say, recorded: Path, fake_worker: ModuleType, fake_training: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = ("sweep", "product", "--device", "cpu", "--results", recorded)
    said = say(*sweep, "--dry-run", "--no-measure").out
    assert "0 to train, 75 finished" in said
    assert "50 finished ones are recorded under another table" in said
    assert "All 75 runs are finished." in say(*sweep).out

    own = "product/squeezenet/mean_variance_bias/seed-3"
    (recorded / own / "run.json").unlink()
    assert "1 to train, 74 finished" in say(*sweep, "--dry-run", "--no-measure").out
    monkeypatch.setattr("repro.cli.sweep.steps.make_data_ready", lambda *_: None)
    fake_worker.prepare(recorded, runs_of(find_table("product").cells, range(5)))
    assert say(*sweep).code == 0
    started = [json.loads(line)["run"] for line in (recorded / "started.jsonl").read_text().splitlines()]
    assert started == [own]
    assert not list(recorded.glob("product/*/ce"))


def test_status_counts_them_as_done(say: Say, recorded: Path) -> None:
    said = say("status", "product", "--results", recorded).out
    assert said.count("5/5") == 15
    assert "50 runs of product recorded under table2" in said
    assert "biasrepro sweep product" not in say("status", "--results", recorded).out


def test_figures_and_the_report_draw_and_count_them(say: Say, recorded: Path) -> None:
    product = find_table("product")
    drawing = draw_figure("deltas", gather_recorded([product], recorded))
    (panel,) = drawing.panels
    ours = next(trace for trace in panel.traces if trace.label == "ours")
    assert [point.text.rpartition("n = ")[2] for point in ours.points] == ["5"] * 10
    said = say("report", "product", "--format", "markdown", "--results", recorded).out
    assert "75 of 75 planned runs recorded." in said
    assert "- Runs: 75" in said
    assert "Of 10 differences from cross-entropy" in said
    assert "recorded under `table2`" in said
    page = say("report", "product", "-o", recorded / "page.html", "--results", recorded)
    assert page.code == 0
    assert "under table2" in (recorded / "page.html").read_text()


def test_what_they_took_is_told_once_by_the_table_that_recorded_them(say: Say, recorded: Path) -> None:
    shown = say("table", "product", "--format", "markdown", "--results", recorded).out
    (footnote,) = [line for line in shown.splitlines() if "Compute: " in line]
    assert "Compute: 25 runs, each 1 min; " in footnote
    assert ", 50 borrowed runs not included;" in footnote
    assert "compute  25 runs, each 1 min\n" in say("status", "product", "--results", recorded).out
    both = say("report", "product", "table2", "--format", "markdown", "--results", recorded).out
    assert "We trained 75 runs on " in both
    assert "50 runs recorded under other tables are not included." not in both


def test_an_export_holds_them_as_they_were_recorded(say: Say, recorded: Path) -> None:
    said = say("export", "product", "--level", "runs", "--results", recorded).out
    tables = Counter(line["table"] for line in csv.DictReader(io.StringIO(said)))
    assert tables == {"table2": 50, "product": 25}


def gathered_runs(results: Path, table: Table) -> dict[tuple[str, str], CellRuns]:
    """The runs that count for each row and column of ``table``."""
    evidence = gather_evidence(results, [table])
    counted, _ = count_runs([table], evidence.found, lending=evidence.lending)
    return {(row, column): runs for (_, row, column), runs in counted.items()}


def test_two_tables_of_equal_cells_borrow_alike_whatever_is_named_beside_them(
    say: Say, tmp_path: Path, fake_worker: ModuleType
) -> None:
    for name in ("a", "b"):
        text = (Path(__file__).parents[2] / "experiments" / "demo.yaml").read_text()
        (tmp_path / f"{name}.yaml").write_text(text.replace("table: demo", f"table: mine_{name}"))
    first, second = (str(tmp_path / f"{name}.yaml") for name in ("a", "b"))
    results = tmp_path / "results"
    for run in runs_of(find_table(first).cells, range(3)):
        write_record(RunFolder.of(results, run), fake_worker.record_of(run))
    where = ("--results", results)
    assert "12 to train, 0 finished" in say("sweep", second, "--dry-run", "--no-measure", "--device", "cpu", *where).out
    assert "0 of 12" in say("table", first, second, *where).err
    summary = say("report", first, second, "-f", "markdown", "-o", tmp_path / "r.md", *where)
    assert summary.code == 0
    assert "0 of 12 planned runs recorded" in (tmp_path / "r.md").read_text()


def test_a_papers_table_and_one_with_a_preregistration_borrow_nothing(
    say: Say, recorded: Path, fake_worker: ModuleType
) -> None:
    product_ce = Run(cell=find_table("product").cells[0], seed=7)
    write_record(RunFolder.of(recorded, product_ce), fake_worker.record_of(product_ce))
    sweep = ("sweep", "table2", "--seeds", "7,", "--device", "cpu", "--results", recorded)
    assert "20 to train, 0 finished" in say(*sweep, "--dry-run", "--no-measure").out
    table2, product = find_table("table2"), find_table("product")
    assert lending_cells(recorded, table2) == {}
    assert set(lending_cells(recorded, product)) == {c.id for c in product.cells if c.column.id in BORROWED}
    assert gathered_runs(recorded, product)["squeezenet", "ce"].n == 5
    (recorded / "product" / PREREGISTRATION).touch()
    assert lending_cells(recorded, product) == {}
    assert gathered_runs(recorded, product)["squeezenet", "ce"].n == 0


def test_what_lies_at_a_runs_own_place_decides(say: Say, recorded: Path, fake_worker: ModuleType) -> None:
    product = find_table("product")
    cell = next(cell for cell in product.cells if cell.id == "product/squeezenet/ce")
    own, damaged = Run(cell=cell, seed=0), Run(cell=cell, seed=1)
    write_record(RunFolder.of(recorded, own), fake_worker.record_of(own))
    write_record(RunFolder.of(recorded, damaged), fake_worker.record_of(damaged))
    place = RunFolder.of(recorded, damaged).record
    place.write_bytes(place.read_bytes()[:-40])
    runs = gathered_runs(recorded, product)["squeezenet", "ce"]
    assert [record.table for record in runs.completed] == ["product", "table2", "table2", "table2"]
    assert [(left_out.run, left_out.why) for left_out in runs.left_out] == [(damaged.id, "unusable")]
    states = survey(recorded, runs_of([cell], range(3)), lending_cells(recorded, product))
    assert [(state.stage.value, state.lender) for state in states.values()] == [
        ("done", None),
        ("damaged", None),
        ("done", "table2"),
    ]
    said = say("sweep", "product", "--dry-run", "--results", recorded)
    assert said.code == 2
    assert damaged.id in said.err
