"""What a table says of how its runs were configured."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from repro.experiment.config import find_table
from repro.tables.configuration_words import configuration_lines


class Run(NamedTuple):
    row: str
    column: str
    configuration: dict[str, object]


def runs_of(reference: str) -> list[Run]:
    return [Run(cell.row.id, cell.column.id, cell.determinants()) for cell in find_table(reference).cells]


def lines_of(reference: str) -> dict[str, str]:
    return dict(configuration_lines(runs_of(reference)))


def test_a_recipe_is_said_once_and_whole() -> None:
    assert lines_of("tiny20") == {
        "Data": "Tiny ImageNet, its first 20 classes",
        "Training": "12 epochs in batches of 128, SGD, learning rate 0.1, times 0.1 after epochs 7 and 10, 1 epoch of "
        "linear warm-up, momentum 0.9, weight decay 0.0005, random crops with 4 pixels of padding and horizontal flips",
        "Weights z": "alpha 0.3, beta 0.3, normalization batch",
    }


@pytest.mark.parametrize(
    ("override", "heading", "words"),
    [
        ("recipe.epochs=5", "Training", "5 epochs in batches of 128, SGD, learning rate 0.1, 1 epoch of linear"),
        ("recipe.decay_epochs=[3]", "Training", "times 0.1 after epoch 3,"),
        ("recipe.nesterov=true", "Training", "momentum 0.9 (Nesterov)"),
        ("recipe.drop_last=true", "Training", "an epoch's last short batch left out"),
        ("recipe.augmentation.rotation_degrees=15", "Training", "flips and rotations by up to 15 degrees"),
        ("recipe.label_smoothing=0.1", "Training", "weight decay 0.0005, labels smoothed by 0.1,"),
        ("weighting.alpha=0.5", "Weights z", "alpha 0.5, beta 0.3"),
        ("dataset.classes=7", "Data", "its first 7 classes"),
    ],
)
def test_what_is_changed_is_said(override: str, heading: str, words: str) -> None:
    assert words in lines_of(f"tiny20+{override}")[heading]


def test_an_optimizer_says_its_own_settings_alone() -> None:
    recipe = {**find_table("demo").cells[0].determinants()["recipe"], "optimizer": "adamw", "schedule": "cosine"}
    recipe |= {"learning_rate": 0.001, "decay_epochs": [], "warmup_epochs": 1}
    (of_run,) = configuration_lines([Run("a", "b", {"recipe": recipe})])
    assert of_run[1].startswith(
        "5 epochs in batches of 32, AdamW, learning rate 0.001, falling to 0 along a cosine, 1 epoch of linear "
        "warm-up, betas 0.9 and 0.999, epsilon 1e-08, weight decay 0.0005, random"
    )


def test_what_differs_is_said_of_the_rows_or_columns_that_have_it() -> None:
    assert lines_of("normalization")["Weights z of bias_running"] == "alpha 0.3, beta 0.3, normalization running"
    assert lines_of("released")["Networks of densenet121"] == "feature point before_norm"
    both = configuration_lines([*runs_of("table1"), *runs_of("table1+recipe.epochs=2")])
    trained = [text.partition(" in ")[0] for heading, text in both if heading == "Training of 12 runs"]
    assert trained == ["90 epochs", "2 epochs"]
