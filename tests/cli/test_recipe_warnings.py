"""Epochs of a schedule that training never reaches: a warning with its place, once, wherever runs are planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.experiment.config import builtin_names, find_table, warnings_of

OWN = """\
table: mine
label: Mine
title: A study of my own
kind: study
dataset: {name: digits}
recipe:
  epochs: 4
  learning_rate: 0.1
  decay_epochs: [2, 4, 6]
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: squeezenet, title: SqueezeNet, model: squeezenet, published: {top1_percent: {ce: 90, bias: 91}}}
"""
DRY = ("--dry-run", "--no-measure", "--device", "cpu")


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    Path("own.yaml").write_text(OWN)


@pytest.mark.parametrize(
    ("settings", "place", "epochs"),
    [
        ([], "own.yaml:9:17: recipe.decay_epochs", "epochs 4, 6"),
        (["recipe.epochs=5"], "--set recipe.epochs", "epoch 6"),
        (["recipe.decay_epochs=[1,9]"], "--set recipe.decay_epochs", "epoch 9"),
        (["recipe.epochs=2", "recipe.decay_epochs=[1,2]"], "--set recipe.decay_epochs", "epoch 2"),
    ],
)
def test_what_is_never_reached_is_named_with_its_place(settings: list[str], place: str, epochs: str) -> None:
    warning = warnings_of(find_table("+".join(["own.yaml", *settings])))

    assert warning.startswith(f"{place}: the decay after {epochs} is never reached: training ends with epoch ")
    assert "recipe.decay_epochs" in warning


@pytest.mark.parametrize("reference", [*builtin_names(), "own.yaml+recipe.epochs=7", "own.yaml+recipe.schedule=cosine"])
def test_nothing_is_said_of_a_schedule_that_is_reached(reference: str) -> None:
    assert warnings_of(find_table(reference)) == ""


@pytest.mark.parametrize(
    "command",
    [
        ("sweep", "own.yaml", *DRY),
        ("plan", "own.yaml"),
        ("plan", "own.yaml", "--looks", "5,10", "--declare"),
        ("train", "own.yaml/squeezenet/ce", "--device", "cuda:9"),
    ],
)
def test_every_command_that_trains_or_plans_says_it_once(say: Callable[..., Any], command: tuple[str, ...]) -> None:
    said = say(*command)

    assert said.err.count("warning: own.yaml:9:17: recipe.decay_epochs: the decay after") == 1
    assert "warning" not in said.out
