"""The built-in experiments against what was published, typed in here a second time from the supplement's tables."""

from __future__ import annotations

import re

import pytest

from repro.experiment.config import builtin_folder, builtin_names, find_table
from repro.experiment.schema import BASELINE, Table

# Supplement, Table 1: (parameters in millions, CE, Bias), top-1 in percent on Tiny ImageNet. The scan's "TM" is 7M.
TABLE_1 = {
    "ShuffleNetV2 0.5x": (1.4, 51.9, 52.8),
    "DenseNet (k = 12)": (7.0, 57.2, 58.2),
    "ResNet 18": (11.0, 57.5, 58.6),
    "EfficientNet-B4": (19.0, 57.7, 56.9),
    "Inception v3": (24.0, 65.4, 64.3),
    "DenseNet (k = 24)": (27.2, 67.5, 66.6),
}
# The deltas that Table 1 prints beside its Bias column.
PRINTED_DELTAS = (0.9, 1.0, 1.1, -0.8, -1.1, -0.9)
# Supplement, Table 2: (parameters in millions, CE, Inv. Bias, Mean Bias, Bias), top-1 in percent on CIFAR-100.
TABLE_2 = {
    "ShuffleNetV2 0.5x": (1.4, 69.5, 68.9, 70.2, 71.0),
    "MobileNetV2 0.75x": (2.6, 68.0, 67.6, 68.1, 68.6),
    "NASNet-A (N = 4)": (5.3, 77.2, 76.8, 77.8, 78.0),
    "SqueezeNet": (1.25, 69.4, 69.0, 69.5, 70.4),
    "DenseNet (k = 12)": (7.0, 78.9, 78.1, 78.9, 79.9),
}
# README of the authors' released code: (CE, Bias), top-1 in percent on CIFAR-100.
RELEASED = {
    "ResNet18": (None, 74.33, 75.51),
    "DenseNet121": (None, 75.98, 77.83),
    "ShuffleNet V2 0.5x": (None, 71.55, 72.0),
}

MODELS = {
    "table1": [
        "shufflenetv2_x0_5",
        "densenet100_k12",
        "resnet18",
        "efficientnet_b4",
        "inception_v3",
        "densenet100_k24",
    ],
    "table2": ["shufflenetv2_x0_5", "mobilenetv2_x0_75", "nasnet_a", "squeezenet_bn", "densenet100_k12"],
    "released": ["resnet18", "densenet121", "shufflenetv2_x1_0"],
}


def published(table: Table) -> dict[str, tuple[float | None, ...]]:
    rows = {}
    for row in table.rows:
        assert row.published is not None
        top1 = row.published.top1_percent
        assert list(top1) == [column.id for column in table.columns]
        rows[row.title] = (row.published.parameters_millions, *top1.values())
    return rows


@pytest.mark.parametrize(
    ("name", "cells", "numbers"), [("table1", 12, TABLE_1), ("table2", 20, TABLE_2), ("released", 6, RELEASED)]
)
def test_a_table_has_the_published_rows_numbers_and_order(
    name: str, cells: int, numbers: dict[str, tuple[float | None, ...]]
) -> None:
    table = find_table(name)
    assert len(table.cells) == cells
    assert list(published(table).items()) == list(numbers.items())
    assert [row.model for row in table.rows] == MODELS[name]


def test_squeezenet_has_batch_norm_wherever_it_stands_for_table_2_and_the_published_form_is_a_variant() -> None:
    """Without it, training by this recipe ends at chance level (docs/reproducing.md)."""
    for name in ("table2", "product", "normalization"):
        assert {row.id: row.model for row in find_table(name).rows}["squeezenet"] == "squeezenet_bn"
    variant = next(row for row in find_table("table2_variants").rows if row.beside == "squeezenet")
    assert (variant.id, variant.model) == ("squeezenet_published", "squeezenet")
    assert "chance level" in (variant.note or "")


def test_table_1_states_the_deltas_it_prints() -> None:
    deltas = [round(bias - ce, 1) for _, ce, bias in TABLE_1.values()]
    assert tuple(deltas) == PRINTED_DELTAS


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("table1", ["CE loss", "Bias loss"]),
        ("table2", ["CE loss", "Inv. Bias loss", "Mean Bias loss", "Bias loss"]),
        ("released", ["CE loss", "Bias loss"]),
    ],
)
def test_columns_have_the_words_and_the_order_of_the_paper(name: str, columns: list[str]) -> None:
    assert [column.title for column in find_table(name).columns] == columns


def test_the_recipe_of_table_1_is_what_the_supplement_states() -> None:
    table = find_table("table1")
    recipe = table.recipe
    assert (table.dataset.name, table.dataset.num_classes, table.dataset.side_pixels) == ("tiny_imagenet", 200, 64)
    assert (recipe.batch_size, recipe.learning_rate, recipe.epochs) == (128, 0.01, 90)
    assert (recipe.decay_epochs, recipe.decay_factor) == ((30, 60), 0.1)


def test_the_recipe_of_table_2_is_what_the_supplement_states() -> None:
    table = find_table("table2")
    recipe = table.recipe
    assert (table.dataset.name, table.dataset.num_classes, table.dataset.side_pixels) == ("cifar100", 100, 32)
    assert (recipe.momentum, recipe.weight_decay, recipe.learning_rate) == (0.9, 5e-4, 0.1)
    assert (recipe.decay_epochs, recipe.decay_factor) == ((60, 120, 160), 0.2)
    assert (recipe.augmentation.horizontal_flip, recipe.augmentation.rotation_degrees) == (True, 15.0)


def test_the_recipe_of_the_released_code_is_its_own() -> None:
    table = find_table("released")
    recipe = table.recipe
    assert (recipe.learning_rate, recipe.decay_epochs, recipe.decay_factor) == (0.1, (80, 122), 0.1)
    assert (recipe.epochs, recipe.weight_decay, recipe.momentum, recipe.batch_size) == (160, 1e-4, 0.9, 128)
    assert recipe.drop_last
    assert table.weighting.normalization == "running"


@pytest.mark.parametrize("name", [name for name in builtin_names() if name != "demo"])
def test_alpha_is_0_3_and_beta_too_but_in_the_first_released_code(name: str) -> None:
    beta = 0.7 if name in ("released", "table1_formula_2021", "table2_formula_2021") else 0.3
    assert {(cell.weighting.alpha, cell.weighting.beta) for cell in find_table(name).cells} == {(0.3, beta)}


@pytest.mark.parametrize("name", builtin_names())
def test_every_file_has_its_own_name_and_compares_with_cross_entropy(name: str) -> None:
    table = find_table(name)
    assert table.id == name
    assert table.columns[0].id == BASELINE
    assert table.columns[0].loss == "ce"
    assert [column.loss for column in table.columns if column.loss == "ce"] == ["ce"]


@pytest.mark.parametrize("name", builtin_names())
def test_every_file_opens_with_its_command_expected_accuracy_and_cost(name: str) -> None:
    text = (builtin_folder() / f"{name}.yaml").read_text()
    header = text[: text.index("\ntable: ")].splitlines()
    assert all(line.startswith("#") for line in header)
    for word, content in (("run", f"biasrepro sweep {name}"), ("expected", ""), ("cost", "")):
        assert any(re.match(rf"#\s+{word}\s+{re.escape(content)}", line) for line in header), word


def test_the_cells_and_cost_of_each_header_are_counted_right() -> None:
    for name in builtin_names():
        table = find_table(name)
        header = (builtin_folder() / f"{name}.yaml").read_text().split("\ntable: ")[0]
        for cells, epochs in re.findall(r"(\d+) cells x (\d+) epochs", header):
            assert (int(cells), int(epochs)) == (len(table.cells), table.recipe.epochs), name
        for runs in re.findall(r"(\d+) runs of", header):
            assert int(runs) == len(table.cells) * table.seeds, name


def test_only_the_papers_own_tables_stand_for_the_paper() -> None:
    kinds = {name: find_table(name).kind for name in builtin_names()}
    assert [name for name, kind in kinds.items() if kind == "paper"] == ["table1", "table2"]
    assert kinds["released"] == "released"
    assert kinds["demo"] == "demo"
    for name, kind in kinds.items():
        has_numbers = any(row.published for row in find_table(name).rows)
        assert has_numbers == (kind in ("paper", "released")), name


def test_variants_stand_beside_rows_that_exist_and_share_the_recipe() -> None:
    for name in ("table1_variants", "table2_variants"):
        table = find_table(name)
        assert table.beside is not None
        printed = find_table(table.beside)
        rows = {row.id: row for row in printed.rows}
        assert (table.dataset, table.recipe, table.weighting) == (printed.dataset, printed.recipe, printed.weighting)
        assert [column.loss for column in table.columns] == [column.loss for column in printed.columns]
        for row in table.rows:
            assert row.beside in rows
            assert (row.model, row.options) != (rows[row.beside].model, rows[row.beside].options)
            assert row.note


def test_the_variants_that_the_printed_rows_leave_open_are_there() -> None:
    models = {row.model for row in find_table("table2_variants").rows}
    assert {"shufflenetv2_x1_0", "mobilenetv2_x1_0"} <= models
    strides = {(row.model, row.options.stem_stride) for row in find_table("table1_variants").rows}
    assert ("shufflenetv2_x1_0", None) in strides
    assert ("densenet100_k24", 1) in strides


@pytest.mark.parametrize(
    ("name", "beta"), [("table1_formula_2021", 0.7), ("table2_formula_2021", 0.7), ("released_formula_2022", 0.3)]
)
def test_the_other_formula_stands_beside_every_row_and_differs_in_beta_alone(name: str, beta: float) -> None:
    table = find_table(name)
    assert table.beside is not None
    shown = find_table(table.beside)
    assert (table.dataset, table.recipe, table.columns) == (shown.dataset, shown.recipe, shown.columns)
    assert [(row.beside, row.model, row.options) for row in table.rows] == [
        (row.id, row.model, row.options) for row in shown.rows
    ]
    assert table.weighting.beta == beta != shown.weighting.beta
    assert table.weighting == shown.weighting.model_copy(update={"beta": beta})
