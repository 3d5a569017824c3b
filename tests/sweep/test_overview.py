from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import RunFolder, write_failure
from repro.results.ownership import own as own_run
from repro.sweep.overview import overview, overview_of_folder, table_folders
from repro.sweep.selection import selected_runs
from repro.sweep.survey import Stage


def test_every_run_that_a_table_asks_for_has_a_stage(
    results: Path, demo_runs: list[Run], finish: Callable[..., None]
) -> None:
    finish(demo_runs[0])
    finish(demo_runs[1], status="diverged", reason="not finite")
    write_failure(RunFolder.of(results, demo_runs[2]), "no pixels")
    found = overview(results, find_table("demo"))
    assert found.stages == Counter({Stage.COMPLETED: 1, Stage.DIVERGED: 1, Stage.FAILED: 1, Stage.MISSING: 9})
    assert found.by_cell["demo/shufflenetv2/ce"] == Counter({Stage.COMPLETED: 1, Stage.MISSING: 2})
    assert [(run_id, state.detail) for run_id, state in found.trouble] == [
        (demo_runs[2].id, "no pixels"),
        (demo_runs[1].id, "not finite"),
    ]


def test_seeds_beyond_those_asked_for_count_where_they_are(results: Path, finish: Callable[..., None]) -> None:
    finish(selected_runs(find_table("demo"), (7,))[0])
    found = overview(results, find_table("demo"))
    assert found.stages == Counter({Stage.COMPLETED: 1, Stage.MISSING: 12})


def test_records_of_no_cell_are_unrecognised(results: Path, demo_runs: list[Run], finish: Callable[..., None]) -> None:
    finish(demo_runs[0])
    (results / "demo/shufflenetv2").rename(results / "demo/gone")
    (results / "demo/gone/ce/seed-x").mkdir()
    (results / "notes").mkdir()
    found = overview(results, find_table("demo"))
    assert found.unrecognised == (results / "demo/gone/ce/seed-0/run.json",)
    assert found.stages == Counter({Stage.MISSING: 12})


def test_folders_are_tables_by_name_with_overrides_too(results: Path, finish: Callable[..., None]) -> None:
    table = find_table("demo+recipe.epochs=2")
    finish(selected_runs(table, (0,))[0])
    assert table_folders(results) == [table.id]
    found = overview_of_folder(results, table.id)
    assert found.table == table
    assert found.stages[Stage.COMPLETED] == 1


def test_a_folder_of_an_unknown_table_is_told_by_its_records(
    results: Path, own: Path, finish: Callable[..., None]
) -> None:
    runs = selected_runs(find_table(str(own)), (0, 1))
    for run in runs:
        finish(run)
    RunFolder.of(results, runs[0]).record.write_bytes(b"{}")
    found = overview_of_folder(results, "mine")
    assert found.table is None
    assert found.stages == Counter({Stage.COMPLETED: 3, Stage.DAMAGED: 1})
    assert [run_id for run_id, _ in found.trouble] == [runs[0].id]


def test_no_results_are_no_tables(tmp_path: Path) -> None:
    assert table_folders(tmp_path / "nowhere") == []


def test_runs_without_a_record_of_an_unknown_table_are_seen(
    results: Path, own: Path, finish: Callable[..., None]
) -> None:
    runs = selected_runs(find_table(str(own)), (0, 1))
    finish(runs[0])
    write_failure(RunFolder.of(results, runs[1]), "no pixels")
    RunFolder.of(results, runs[2]).path.mkdir(parents=True)
    with own_run(RunFolder.of(results, runs[3])):
        found = overview_of_folder(results, "mine")
    assert found.stages == Counter({Stage.COMPLETED: 1, Stage.FAILED: 1, Stage.RUNNING: 1})
    assert [run_id for run_id, _ in found.in_training] == [runs[3].id]
    assert [run_id for run_id, _ in found.trouble] == [runs[1].id]


def test_the_empty_folder_of_a_seed_beyond_those_asked_for_asks_for_nothing(
    results: Path, finish: Callable[..., None]
) -> None:
    [run] = selected_runs(find_table("demo"), (7,))[:1]
    finish(run)
    RunFolder.of(results, run).record.unlink()
    assert overview(results, find_table("demo")).stages == Counter({Stage.MISSING: 12})
