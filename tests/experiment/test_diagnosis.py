from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.errors import ConfigError
from repro.experiment.catalog import LOSSES, Loss
from repro.experiment.config import load_table


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("  epochs: 4", "  epoch: 4", "own.yaml:7:3: unknown key 'epoch' in recipe. Did you mean 'epochs'?"),
        ("  epochs: 4\n", "", "own.yaml:7:3: recipe: key 'epochs' is missing"),
        ("table: mine\n", "", "own.yaml:1:1: key 'table' is missing"),
        ("epochs: 4", "epochs: four", "own.yaml:7:11: recipe.epochs: must be a whole number, not 'four'"),
        ("epochs: 4", "epochs: 4.0", "own.yaml:7:11: recipe.epochs: must be a whole number, not 4.0"),
        ("epochs: 4", "epochs: '4'", "own.yaml:7:11: recipe.epochs: must be a whole number, not '4'"),
        ("epochs: 4", "epochs: true", "own.yaml:7:11: recipe.epochs: must be a whole number, not true"),
        ("epochs: 4", "epochs:", "own.yaml:7:10: recipe.epochs: must be a whole number, not empty"),
        ("epochs: 4", "epochs: 0", "own.yaml:7:11: recipe.epochs: must be greater than or equal to 1, not 0"),
        ("epochs: 4", "epochs: " + "9" * 5000, "own.yaml:7:11: recipe.epochs: must be a whole number, not '999"),
        ("learning_rate: 1e-1", "learning_rate: .nan", "own.yaml:8:18: recipe.learning_rate: must be a number, not"),
        ("learning_rate: 1e-1", "learning_rate: 1e999", "own.yaml:8:18: 1e999 is too large for a number"),
        ("[2, 3]", "[2, x]", "own.yaml:9:21: recipe.decay_epochs.1: must be a whole number, not 'x'"),
        ("[2, 3]", "2", "own.yaml:9:17: recipe.decay_epochs: must be a list, not 2"),
        ("[2, 3]", "[3, 2]", "own.yaml:9:17: recipe.decay_epochs: the epochs must increase"),
        ("[2, 3]", "[2, 2]", "own.yaml:9:17: recipe.decay_epochs: the epochs must increase"),
        ("{name: digits}", "{name: digit}", "own.yaml:5:17: dataset.name: unknown data set 'digit'. Did you"),
        ("{name: digits}", "digits", "own.yaml:5:10: dataset: must be a mapping of keys to values, not 'digits'"),
        ("digits}", "digits, classes: 11}", "own.yaml:5:34: dataset.classes: digits has 10 classes, not 11"),
        (
            "loss: bias}",
            "loss: bais}",
            "own.yaml:12:40: columns.1.loss: unknown loss 'bais'. Did you mean",
        ),
        ("bias: 91}", "bais: 91}", "top1_percent.bais: no column is called 'bais'. Did you mean 'bias'?"),
        ("table: mine", "table: Mine", "own.yaml:1:8: table: must be lowercase letters, digits, '_', '-' and '.',"),
        ("table: mine", "table: ../mine", "own.yaml:1:8: table: must be lowercase letters, digits, '_', '-' and '.',"),
        ("table: mine", "table: table2", "own.yaml:1:8: table: 'table2' is the name of a built-in experiment, and"),
        (
            "label: Mine",
            'label: "a\\nb"',
            "own.yaml:2:8: label: must be one line of at most 400 characters, not 'a\\nb'",
        ),
        ("label: Mine", "label: Mine\noverrides: []", "own.yaml:3:1: unknown key 'overrides'"),
        ("label: Mine", "label: Mine\norigin: x", "own.yaml:3:1: unknown key 'origin'"),
        ("label: Mine", "label: Mine\n7: x", "own.yaml:3:1: unknown key '7'. Valid: table, label, title,"),
        ("label: Mine", "label: Mine\ninterval: 3", "own.yaml:3:1: unknown key 'interval'. Valid: table, label,"),
        (
            "model: squeezenet",
            "model: squeezenet, options: {stem_stride: true}",
            "stem_stride: must be a whole number, not",
        ),
        (
            "model: squeezenet",
            "model: squeezenet, options: {stem_stride: 2.0}",
            "stem_stride: must be a whole number, not",
        ),
        ("model: squeezenet", "model: squeezenet, options: {stem_stride: 3}", "stem_stride: must be 1 or 2, not 3"),
    ],
)
def test_a_wrong_file_is_one_message_with_place_key_reason_and_name(
    refusal: Callable[..., str], before: str, after: str, message: str, own_text: str
) -> None:
    assert before in own_text
    told = refusal(own_text.replace(before, after, 1))
    assert message in told
    assert told.count("\n") == 0, "one problem is told once"


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("optimizer: adam", "recipe.optimizer: unknown name 'adam'. Did you mean 'adamw'?"),
        ("optimizer: [adamw]", "recipe.optimizer: must be 'sgd' or 'adamw', not a list"),
        (
            "optimizer: adamw\n  momentum: 0.9",
            "optimizer 'adamw' has no 'momentum'. Leave it out. Keys of 'adamw': betas",
        ),
        (
            "optimizer: adamw\n  nesterov: false",
            "optimizer 'adamw' has no 'nesterov'. Leave it out. Keys of 'adamw': b",
        ),
        ("betas: [0.9, 0.999]", "optimizer 'sgd' has no 'betas'. Leave it out. Keys of 'sgd': momentum, nesterov."),
        ("epsilon: 1e-8", "optimizer 'sgd' has no 'epsilon'. Leave it out. Keys of 'sgd': momentum, nesterov."),
        ("optimizer: adamw\n  betas: 0.9", "recipe.betas: must be a list, not 0.9"),
        ("optimizer: adamw\n  betas: [0.9]", "recipe.betas: must have at least 2 items, not 1"),
        ("optimizer: adamw\n  betas: [0.9, 0.99, 0.999]", "recipe.betas: must have at most 2 items, not 3"),
        ("optimizer: adamw\n  betas: [0.9, 1]", "recipe.betas.1: must be less than 1, not 1"),
        ("optimizer: adamw\n  betas: [-0.1, 0.9]", "recipe.betas.0: must be greater than or equal to 0, not -0.1"),
        ("optimizer: adamw\n  epsilon: 0", "recipe.epsilon: must be greater than 0, not 0"),
        ("schedule: cosin", "recipe.schedule: unknown name 'cosin'. Did you mean 'cosine'?"),
        (
            "schedule: cosine",
            "schedule 'cosine' has no 'decay_epochs'. Leave it out. Keys of 'cosine': final_learning_rate.",
        ),
        (
            "final_learning_rate: 0.01",
            "schedule 'steps' has no 'final_learning_rate'. Leave it out. Keys of 'steps': decay",
        ),
        (
            "final_learning_rate: 1.0",
            "schedule 'steps' has no 'final_learning_rate'. Leave it out. Keys of 'steps': decay",
        ),
        ("label_smoothing: 1", "recipe.label_smoothing: must be less than 1, not 1"),
        ("label_smoothing: -0.1", "recipe.label_smoothing: must be greater than or equal to 0, not -0.1"),
        ("label_smoothing: true", "recipe.label_smoothing: must be a number, not true"),
    ],
)
def test_a_wrong_optimizer_schedule_or_smoothing_is_one_message(
    refusal: Callable[..., str], added: str, message: str, own_text: str
) -> None:
    told = refusal(own_text.replace("epochs: 4", f"epochs: 4\n  {added}", 1))
    assert message in told
    assert told.count("\n") == 0


def test_a_final_rate_above_the_full_one_is_refused(refusal: Callable[..., str], own_text: str) -> None:
    told = refusal(own_text.replace("decay_epochs: [2, 3]", "schedule: cosine\n  final_learning_rate: 0.2"))
    assert told == "own.yaml:10:24: recipe.final_learning_rate: 0.2 is above the learning rate, 0.1"


def test_smoothing_for_a_loss_without_it_is_refused(
    refusal: Callable[..., str], own_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSES, "focal", Loss("focal", "additions:FocalLoss"))
    text = own_text.replace("loss: bias", "loss: focal")
    told = refusal(text.replace("epochs: 4", "epochs: 4\n  label_smoothing: 0.1"))
    assert "recipe.label_smoothing: the loss 'focal' has no label smoothing. Leave it out, or take" in told


def test_columns_have_ids_of_their_own_and_a_baseline_among_them(refusal: Callable[..., str], own_text: str) -> None:
    assert "own.yaml:12:10: columns.1.id: two columns are called 'ce'" in refusal(
        own_text.replace("id: bias", "id: ce")
    )
    assert "own.yaml:11:3: columns: no column is called 'ce', the baseline" in refusal(
        own_text.replace("id: ce", "id: c")
    )


def test_every_problem_is_told(refusal: Callable[..., str], own_text: str) -> None:
    told = refusal(
        own_text.replace("epochs: 4", "epochs: x").replace("loss: bias", "loss: bais").replace("kind", "kin")
    )
    assert [line.split(": ")[0] for line in told.splitlines()] == [
        "own.yaml:4:1",
        "own.yaml:7:11",
        "own.yaml:12:40",
    ]


def test_of_thousands_of_problems_ten_are_told(refusal: Callable[..., str], own_text: str) -> None:
    lines = refusal(own_text.replace("[2, 3]", "[" + "x, " * 99 + "x]")).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "... and 90 more problems"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "- 1\n", "3\n", "null\n", "---\n"])
def test_what_is_no_mapping_is_no_experiment(refusal: Callable[..., str], text: str) -> None:
    assert re.match("own.yaml:[12]:[1-4]: (the file is empty|an experiment is a mapping)", refusal(text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("recipe.epochs", "'recipe.epochs' is not an override\n  Write --set key=value, such as recipe.epochs=2."),
        ("=3", "'=3' is not an override"),
        ("recipe.epochs=", "--set recipe.epochs: must be a whole number, not empty"),
        ("recipe.epochs='2'", "--set recipe.epochs: must be a whole number, not '2'"),
        ("recipe.epochs=" + "9" * 5000, "--set recipe.epochs: must be a whole number, not '999"),
        ("recipe.learning_rate=1e999", "--set recipe.learning_rate:1:1: 1e999 is too large for a number"),
        ("recipe.learning_rate=[", "--set recipe.learning_rate:1:2: not YAML"),
        ("recipe.epoch=3", "--set recipe.epoch: unknown key 'epoch'\n  Did you mean 'epochs'?"),
        ("recipe.=3", "--set recipe.: unknown key ''"),
        ("recipe..epochs=3", "--set recipe..epochs: unknown key ''"),
        ("recipe.epochs.most=3", "--set recipe.epochs.most: 'recipe.epochs' is a value, without keys"),
        ("recipe.epochs.most.of=3", "--set recipe.epochs.most.of: 'recipe.epochs' is a value, without keys"),
        (
            "recipe.augmentation={}",
            "--set recipe.augmentation: 'recipe.augmentation' is a group of keys\n  Set them one",
        ),
        ("recipe=3", "--set recipe: 'recipe' is a group of keys"),
        ("rows=3", "--set rows: 'rows' cannot be set from the command line"),
        ("table=other", "--set table: 'table' cannot be set from the command line"),
        ("origin=x", "--set origin: 'origin' cannot be set from the command line"),
        ("overrides.x=3", "--set overrides.x: 'overrides' cannot be set from the command line"),
        ("dataset.classes=11", "--set dataset.classes: digits has 10 classes, not 11"),
        (
            "recipe.warmup_epochs=5",
            "--set recipe.warmup_epochs: 5 epochs of warm-up are more than the 4 epochs of training",
        ),
        ("recipe.decay_epochs=[3,2]", "--set recipe.decay_epochs: the epochs must increase"),
        ("recipe.decay_epochs=[2,x]", "--set recipe.decay_epochs: must be a whole number, not 'x'"),
        ("recipe.betas=[0.9,0.95]", "--set recipe.betas: optimizer 'sgd' has no 'betas'. Leave it out."),
        ("recipe.optimizer=[adamw]", "--set recipe.optimizer: must be 'sgd' or 'adamw', not a list"),
        (
            "recipe.final_learning_rate=-1",
            "--set recipe.final_learning_rate: must be greater than or equal to 0, not -1",
        ),
        (
            "weighting.normalization=runing",
            "--set weighting.normalization: unknown name 'runing'. Did you",
        ),
    ],
)
def test_an_override_is_checked_like_the_file(
    refusal: Callable[..., str], override: str, message: str, own_text: str
) -> None:
    assert refusal(own_text, override).startswith(message)


def test_a_refusal_is_a_configuration_error(own: Path) -> None:
    own.write_text("a: [")
    with pytest.raises(ConfigError) as caught:
        load_table(own)
    assert caught.value.exit_code == 2


def test_settings_that_torch_refuses_together_are_refused_before_training(
    refusal: Callable[..., str], own_text: str
) -> None:
    said = refusal(own_text, "recipe.nesterov=true", "recipe.momentum=0")
    assert said.startswith("--set recipe.nesterov: Nesterov's momentum needs a momentum above 0")
    both = ("execution.compile=true", "execution.recompute=true")
    said = refusal(own_text.replace("model: squeezenet", "model: densenet100_k12"), *both)
    assert said.startswith("--set execution.compile: torch cannot compile densenet100_k12 with execution.recompute")
    of_row = own_text.replace(
        "model: squeezenet", "model: densenet100_k12, execution: {compile: true, recompute: true}"
    )
    assert re.match(r"own\.yaml:\d+:\d+: rows\.0\.execution\.compile: torch cannot compile", refusal(of_row))


def test_a_network_that_recomputes_nothing_may_be_compiled(own: Path) -> None:
    assert load_table(own, ("execution.compile=true", "execution.recompute=true")).execution.compile
