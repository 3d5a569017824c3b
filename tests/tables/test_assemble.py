"""What a table says, number by number: held against arithmetic done here."""

from __future__ import annotations

import math
import statistics
from types import ModuleType

import pytest

from repro.analysis.evidence import variants_of
from repro.analysis.runs import equal_cells
from repro.experiment.config import builtin_names, find_table
from repro.experiment.schema import Row, Table
from repro.results import Found
from repro.tables import AssembledTable, assemble
from repro.tables.structure import AssembledCell, Sample


def cell_of(table: AssembledTable, row: str, column: str) -> AssembledCell:
    found = next(one for one in table.rows if one.id == row)
    return next(cell for cell in found.cells if cell.column == column)


def with_figures(fakes: ModuleType, table: Table, row: str, figures: dict[str, dict[int, float]]) -> list[Found]:
    return [
        fakes.found(fakes.fake_record(fakes.run_of(table, row, column, seed), last_top1_percent=value))
        for column, by_seed in figures.items()
        for seed, value in by_seed.items()
    ]


def test_mean_and_sample_deviation_are_those_of_the_definition() -> None:
    sample = Sample.of({2: 71.0, 0: 69.5, 1: 70.2})
    assert sample is not None
    mean = (69.5 + 70.2 + 71.0) / 3
    squares = (69.5 - mean) ** 2 + (70.2 - mean) ** 2 + (71.0 - mean) ** 2
    assert sample.seeds == (0, 1, 2)
    assert sample.mean == pytest.approx(mean, abs=1e-12)
    assert sample.std == pytest.approx(math.sqrt(squares / 2), abs=1e-12)


def test_a_single_run_has_no_spread_and_nothing_has_no_sample() -> None:
    single = Sample.of({4: 70.0})
    assert single is not None
    assert (single.mean, single.std, single.n) == (70.0, None, 1)
    assert Sample.of({}) is None


def test_the_delta_is_paired_over_the_seeds_that_both_arms_have(fakes: ModuleType) -> None:
    table = find_table("table2")
    figures = {"ce": {0: 69.0, 1: 70.0, 2: 71.0, 7: 60.0}, "bias": {0: 70.5, 2: 71.5, 3: 99.0}}
    shown = assemble(table, with_figures(fakes, table, "squeezenet", figures))
    cell = cell_of(shown, "squeezenet", "bias")
    assert cell.ours is not None
    assert cell.delta is not None
    assert cell.ours.mean == pytest.approx((70.5 + 71.5 + 99.0) / 3)
    assert cell.delta.values == ((0, 1.5), (2, 0.5))
    assert cell.delta.std == pytest.approx(statistics.stdev([1.5, 0.5]))
    assert cell_of(shown, "squeezenet", "ce").delta is None


def test_arms_without_a_common_seed_have_no_delta(fakes: ModuleType) -> None:
    table = find_table("table1")
    shown = assemble(table, with_figures(fakes, table, "resnet18", {"ce": {0: 57.0}, "bias": {1: 58.0}}))
    assert cell_of(shown, "resnet18", "bias").ours is not None
    assert cell_of(shown, "resnet18", "bias").delta is None


def test_the_metric_chooses_the_last_or_the_best_epoch(fakes: ModuleType) -> None:
    table = find_table("table1")
    run = fakes.run_of(table, "resnet18", "ce", 0)
    record = fakes.found(fakes.fake_record(run, last_top1_percent=57.0, best_top1_percent=58.25))
    last, best = (assemble(table, [record], metric=metric) for metric in ("last", "best"))
    assert [cell_of(one, "resnet18", "ce").ours.mean for one in (last, best)] == [57.0, 58.25]


def test_published_deltas_are_those_that_the_paper_prints() -> None:
    deltas = [row.cells[1].published_delta for row in assemble(find_table("table1"), []).rows]
    assert deltas == [0.9, 1.0, 1.1, -0.8, -1.1, -0.9]


@pytest.mark.parametrize("name", builtin_names())
def test_rows_and_columns_are_the_files_in_order(name: str) -> None:
    table = find_table(name)
    shown = assemble(table, [])
    assert [row.title for row in shown.rows] == [row.title for row in table.rows]
    assert [heading.title for heading in shown.columns] == [column.title for column in table.columns]
    assert [heading.id for heading in shown.columns if heading.baseline] == ["ce"]
    assert (shown.recorded_runs, shown.planned_runs) == (0, len(table.cells) * table.seeds)


def test_what_must_not_be_averaged_is_left_out_and_named(fakes: ModuleType) -> None:
    table = find_table("table1")
    shown = assemble(table, fakes.troubled_runs(table))
    assert [(one.run.removeprefix("table1/"), one.why) for one in shown.left_out] == [
        ("shufflenetv2/bias/seed-2", "diverged"),
        ("densenet_k12/ce/seed-1", "configuration"),
        ("densenet_k12/bias/seed-0", "configuration"),
        ("densenet_k12/bias/seed-1", "unusable"),
        ("resnet18/bias/seed-0", "diverged"),
        ("gone/ce/seed-0", "unknown"),
    ]
    assert cell_of(shown, "shufflenetv2", "bias").ours.seeds == (0, 1)
    assert cell_of(shown, "shufflenetv2", "bias").diverged_seeds == (2,)
    assert cell_of(shown, "densenet_k12", "ce").ours.seeds == (0,)
    assert cell_of(shown, "densenet_k12", "bias").ours is None
    texts = {note.mark: note.text for note in shown.notes}
    for row, column, words in (
        ("shufflenetv2", "bias", ("seed-2", "the loss is nan at step 17 of epoch 3")),
        ("densenet_k12", "ce", ("2 runs recorded under another configuration: left out", "densenet_k12/ce/seed-1")),
        ("densenet_k12", "bias", ("`results/table1/densenet_k12/bias/seed-1/run.json`: the seal is broken",)),
        ("shufflenetv2", "bias", ("`shufflenetv2/bias/seed-1`: torch 2.14.0 -> 2.15.0",)),
    ):
        noted = " ".join(texts[mark] for mark in cell_of(shown, row, column).marks)
        assert all(word in noted for word in words), noted


def test_a_run_at_chance_level_is_in_the_mean_and_in_a_footnote(fakes: ModuleType) -> None:
    table = find_table("table2")
    shown = assemble(table, with_figures(fakes, table, "squeezenet", {"ce": {0: 69.0, 1: 1.0}, "bias": {0: 70.0}}))
    cell = cell_of(shown, "squeezenet", "ce")
    assert cell.ours is not None
    assert cell.ours.mean == 35.0
    (mark,) = cell.marks
    assert {note.mark: note.text for note in shown.notes}[mark] == (
        "1 run ended at chance level, up to 1.30 % here: in the mean, but nothing is concluded from it "
        "(`squeezenet/ce/seed-1`: 1.00)."
    )
    assert cell_of(shown, "squeezenet", "bias").marks == ()


def test_a_diverged_run_is_recorded_but_a_foreign_one_is_not(fakes: ModuleType) -> None:
    table = find_table("table1")
    assert assemble(table, fakes.troubled_runs(table)).recorded_runs == 3 + 3 + 1 + 1


def test_further_seeds_count_in_the_mean_and_not_among_the_planned(fakes: ModuleType) -> None:
    table = find_table("table1")
    shown = assemble(table, fakes.every_run(table, [0, 99]))
    assert shown.recorded_runs == len(table.cells)
    assert cell_of(shown, "resnet18", "ce").ours.seeds == (0, 99)


def test_parameters_that_differ_between_runs_are_not_shown_as_one(fakes: ModuleType) -> None:
    table = find_table("table1")
    runs = [fakes.run_of(table, "resnet18", "ce", seed) for seed in (0, 1)]
    records = [fakes.found(fakes.fake_record(run, parameters=11_000_000 + run.seed)) for run in runs]
    row = next(row for row in assemble(table, records).rows if row.id == "resnet18")
    assert row.counted_parameters is None
    assert row.marks


@pytest.mark.parametrize("reference", ["table1+recipe.epochs=2", "demo", "released+recipe.momentum=0.5"])
def test_nothing_published_stands_beside_what_cannot_be_compared(reference: str) -> None:
    table = find_table(reference)
    # were the demo's file to print figures, they would still not be shown
    published = find_table("table1").rows[0].published
    rows = tuple(Row(**(dict(row) | {"published": published})) for row in table.rows)
    shown = assemble(table.model_copy(update={"rows": rows}), [])
    assert shown.published_as is None
    assert all(row.published_parameters_millions is None for row in shown.rows)
    assert all(cell.published is None and cell.published_delta is None for row in shown.rows for cell in row.cells)


def test_an_override_of_the_execution_alone_leaves_the_paper_beside_and_is_named() -> None:
    shown = assemble(find_table("table1+execution.precision=bf16"), [])
    assert cell_of(shown, "resnet18", "ce").published == 57.5
    assert [note.text for note in shown.notes if "`execution.precision=bf16`" in note.text]


def test_variants_stand_under_their_rows_once_they_are_recorded(fakes: ModuleType) -> None:
    table = find_table("table2")
    variants = find_table("table2_variants")
    assert variants in variants_of(table)
    recorded = [fakes.found(fakes.fake_record(fakes.run_of(variants, "mobilenetv2_x1_0", "mean_bias", 0)))]

    def rows(found: list[Found], show: bool | None) -> list[str]:
        shown = assemble(table, found, variants=[variants], show_variants=show)
        assert all(("†" in row.marks) == row.variant for row in shown.rows)
        return [row.id for row in shown.rows]

    own = [row.id for row in table.rows]
    assert rows([], None) == own
    assert rows(recorded, False) == own
    assert rows(recorded, None) == [*own[:2], "mobilenetv2_x1_0", *own[2:]]


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_several_variants_keep_their_order_under_their_rows(name: str) -> None:
    table = find_table(name)
    shown = assemble(table, [], variants=variants_of(table), show_variants=True)
    others = [row for variant in variants_of(table) for row in variant.rows]
    expected = []
    for row in table.rows:
        expected += [row.id, *(other.id for other in others if other.beside == row.id)]
    assert [row.id for row in shown.rows] == expected
    assert len(expected) == len(table.rows) + len(others)


def test_variants_of_an_overridden_table_are_overridden_alike() -> None:
    assert [one.id for one in variants_of(find_table("table1+dataset.classes=20"))] == [
        "table1_formula_2021+dataset.classes=20",
        "table1_variants+dataset.classes=20",
    ]
    assert variants_of(find_table("table1_variants")) == []


def test_many_notes_get_letters_beyond_the_alphabet_and_none_ticks_a_box() -> None:
    table = find_table("table1")
    row = table.rows[0]
    rows = tuple(row.model_copy(update={"id": f"row{i}", "note": f"note {i}"}) for i in range(60))
    marks = [row.marks[0] for row in assemble(table.model_copy(update={"rows": rows}), []).rows]
    assert len(set(marks)) == 60
    assert marks[:3] == ["a", "b", "c"]
    assert marks[25:27] == ["aa", "ab"]
    assert "x" not in marks


def test_a_variant_whose_runs_are_all_borrowed_is_not_shown(fakes: ModuleType) -> None:
    table, variant = find_table("table1"), find_table("table1_formula_2021")
    lending = equal_cells(variant, [table])
    ce = fakes.found(fakes.fake_record(fakes.run_of(table, "resnet18", "ce", 0)))
    shown = assemble(table, [ce], variants=[variant], lending=lending)
    assert not [row.id for row in shown.rows if row.variant]
    own = fakes.found(fakes.fake_record(fakes.run_of(variant, "resnet18", "bias", 0)))
    (row,) = (row for row in assemble(table, [ce, own], variants=[variant], lending=lending).rows if row.variant)
    assert [cell.ours is not None for cell in row.cells] == [True, True]
