from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.cli.references import find_target
from repro.errors import ConfigError, UserError
from repro.experiment.config import builtin_folder, builtin_names, find_cell, find_table, load_table, runs_of, select
from repro.experiment.schema import Run, Table


@pytest.mark.parametrize("name", ["runs+recipe.epochs=2/own.yaml", "own+recipe.epochs=3.yaml"])
def test_a_file_that_exists_wins_over_an_override_in_its_path(
    name: str, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    own.rename(name)
    table = find_table(name)
    assert (table.id, table.recipe.epochs) == ("mine", 4)
    changed = find_table(f"{name}+recipe.epochs=7")
    assert (changed.id, changed.recipe.epochs) == ("mine+recipe.epochs=7", 7)
    assert find_table(changed.reference) == changed
    assert find_cell(f"{name}/squeezenet/bias").id == "mine/squeezenet/bias"
    assert find_target(name, ["recipe.epochs=7"])[0].id == "mine+recipe.epochs=7/squeezenet/bias"


def test_a_file_of_the_same_form_is_a_table(own: Path) -> None:
    table = find_table(str(own))
    assert table.id == "mine"
    assert [cell.id for cell in table.cells] == ["mine/squeezenet/ce", "mine/squeezenet/bias"]
    assert table.recipe.learning_rate == 0.1
    assert table.recipe.decay_epochs == (2, 3)
    assert table.recipe.batch_size == 128
    assert table.rows[0].published is not None
    assert table.rows[0].published.top1_percent == {"ce": 90.0, "bias": 91.0}


@pytest.mark.parametrize(
    ("override", "table_id", "value"),
    [
        ("recipe.epochs=2", "mine+recipe.epochs=2", 2),
        ("recipe.epochs= 3 ", "mine+recipe.epochs=3", 3),
        ("recipe.learning_rate=1", "mine+recipe.learning_rate=1.0", 1.0),
        ("recipe.learning_rate=1e+1", "mine+recipe.learning_rate=10.0", 10.0),
        ("recipe.learning_rate=1e-7", "mine+recipe.learning_rate=1e-07", 1e-7),
        ("recipe.decay_epochs=[1,3]", "mine+recipe.decay_epochs=[1,3]", (1, 3)),
        ("recipe.decay_epochs=[]", "mine+recipe.decay_epochs=[]", ()),
        ("recipe.augmentation.rotation_degrees=3", "mine+recipe.augmentation.rotation_degrees=3.0", 3.0),
        ("recipe.drop_last=true", "mine+recipe.drop_last=true", True),
        ("recipe.momentum=-0.0", "mine+recipe.momentum=0.0", 0.0),
        ("recipe.label_smoothing=0.1", "mine+recipe.label_smoothing=0.1", 0.1),
        ("dataset.classes=5", "mine+dataset.classes=5", 5),
        ("dataset.name=cifar100", "mine+dataset.name=cifar100", "cifar100"),
        ('weighting.normalization="running"', "mine+weighting.normalization=running", "running"),
        ("execution.precision=bf16", "mine+execution.precision=bf16", "bf16"),
    ],
)
def test_an_override_sets_its_value_and_names_the_table(own: Path, override: str, table_id: str, value: object) -> None:
    table = load_table(own, [override])
    assert table.id == table_id
    found: Any = table
    for part in override.partition("=")[0].split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)
    assert {cell.table for cell in table.cells} == {table_id}


@pytest.mark.parametrize(
    "override",
    [
        *("recipe.epochs=4", "recipe.learning_rate=0.1", "recipe.decay_epochs=[2,3]", "dataset.classes=null"),
        *("recipe.weight_decay=-0.0", "dataset.name=digits", "weighting.alpha=0.3", "execution.deterministic=false"),
    ],
)
def test_what_the_file_says_already_is_no_override(own: Path, override: str) -> None:
    table = load_table(own, [override])
    assert table == load_table(own)
    assert load_table(own, [override, "recipe.epochs=2"]).id == "mine+recipe.epochs=2"


def test_a_value_of_the_table_s_overrides_those_of_rows_and_columns(own: Path, own_text: str) -> None:
    own.write_text(own_text.replace("loss: bias}", "loss: bias, weighting: {alpha: 0.7}}"))
    assert load_table(own, ["weighting.alpha=0.3"]).id == "mine+weighting.alpha=0.3"
    own.write_text(own_text.replace("{name: digits}", "{name: digits, classes: 5}"))
    assert load_table(own, ["dataset.classes=null"]).id == "mine+dataset.classes=null"
    own.write_text(own_text.replace("  epochs: 4\n", ""))
    assert load_table(own, ["recipe.epochs=4"]).id == "mine+recipe.epochs=4"


@pytest.mark.parametrize(
    ("override", "key", "left"),
    [("schedule=cosine", "decay_epochs", ()), ("optimizer=adamw", "momentum", 0.9)],
)
def test_an_overriding_choice_leaves_out_the_keys_of_the_files_own(
    own: Path, own_text: str, refusal: Callable[..., str], override: str, key: str, left: object
) -> None:
    text = own_text.replace("epochs: 4", "epochs: 4\n  momentum: 0.5")
    own.write_text(text)
    table = load_table(own, [f"recipe.{override}"])
    assert table.id == f"mine+recipe.{override}"
    assert getattr(table.recipe, key) == left
    assert find_table(f"{own}+recipe.{override}") == table
    told = refusal(text, f"recipe.{override}", f"recipe.{key}={'[1]' if key == 'decay_epochs' else 0.5}")
    assert told.startswith(f"--set recipe.{key}: ")
    assert f"has no '{key}'" in told


def test_overrides_are_ordered_by_key_and_the_last_for_a_key_holds(own: Path) -> None:
    table = load_table(own, ["recipe.epochs=9", "recipe.batch_size=4", "recipe.epochs=2"])
    assert table.id == "mine+recipe.batch_size=4+recipe.epochs=2"


def test_an_override_wins_over_what_a_row_or_a_column_sets(own: Path, own_text: str) -> None:
    text = own_text.replace("loss: bias}", "loss: bias, weighting: {alpha: 0.7}}")
    own.write_text(text.replace("model: squeezenet", "model: squeezenet, execution: {compile: true}"))
    overridden = load_table(own, ["weighting.alpha=0.5", "execution.compile=false"]).cells[1]
    assert (overridden.weighting.alpha, overridden.execution.compile) == (0.5, False)
    beside_it = load_table(own, ["weighting.beta=0.1", "execution.deterministic=true"]).cells[1]
    assert (beside_it.weighting.alpha, beside_it.weighting.beta) == (0.7, 0.1)
    assert (beside_it.execution.compile, beside_it.execution.deterministic) == (True, True)


def test_a_column_adds_to_the_weighting_of_the_table(own: Path, own_text: str) -> None:
    text = own_text.replace("loss: bias}", "loss: bias, weighting: {normalization: running}}")
    own.write_text(text.replace("columns:", "weighting: {alpha: 0.7}\ncolumns:"))
    weighting = load_table(own).cells[1].weighting
    assert (weighting.alpha, weighting.normalization) == (0.7, "running")


def test_so_many_overrides_that_no_folder_can_have_their_name_are_refused(
    own: Path, refusal: Callable[..., str], own_text: str
) -> None:
    overrides = [f"recipe.augmentation.{key}" for key in ("crop_padding_pixels=1", "rotation_degrees=1")]
    overrides += [
        f"recipe.{key}" for key in ("decay_epochs=[1,2]", "learning_rate=0.123456789", "weight_decay=0.1234567")
    ]
    assert len(load_table(own, overrides).id) < 200
    assert "make the name of the results folder too long" in refusal(
        own_text, *overrides, "execution.memory_format=contiguous"
    )


@pytest.mark.parametrize(
    ("name", "override"),
    [
        (name, override)
        for name in builtin_names()
        for override in (None, "recipe.epochs=2", "recipe.decay_epochs=[1,3]", "dataset.name=digits")
        # A table of a part of the classes counts those of its own data set: the digits have fewer.
        if not (override == "dataset.name=digits" and find_table(name).dataset.classes)
    ],
)
def test_a_built_in_table_is_found_again_by_its_id(name: str, override: str | None) -> None:
    table = find_table(name if override is None else f"{name}+{override}")
    is_idle = override is None or (name, override) == ("demo", "dataset.name=digits")
    assert table.id == (name if is_idle else f"{name}+{override}")
    assert table.reference == table.id
    assert find_table(table.id) == table
    assert table.comparable is is_idle
    assert find_cell(table.cells[-1].id) == table.cells[-1]


def test_a_users_table_is_found_again_by_its_reference(own: Path) -> None:
    table = find_table(f"{own}+recipe.learning_rate=1e+1+recipe.epochs=2")
    assert table.id == "mine+recipe.epochs=2+recipe.learning_rate=10.0"
    assert table.reference == f"{own}+recipe.epochs=2+recipe.learning_rate=10.0"
    assert find_table(table.reference) == table
    assert find_cell(f"{table.reference}/squeezenet/bias") == table.cells[1]


def test_execution_alone_leaves_a_table_comparable() -> None:
    assert find_table("table2+execution.precision=bf16").comparable
    assert not find_table("table2+execution.precision=bf16+recipe.epochs=2").comparable


def test_an_edited_file_is_read_again(own: Path, own_text: str) -> None:
    before = find_table(str(own))
    stamp = own.stat().st_mtime_ns
    own.write_text(own_text.replace("epochs: 4", "epochs: 5"))
    os.utime(own, ns=(stamp, stamp))
    assert (before.recipe.epochs, find_table(str(own)).recipe.epochs) == (4, 5)


def test_a_relative_path_follows_the_working_folder(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_text: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / own.name).write_text(own_text.replace("epochs: 4", "epochs: 5"))
    monkeypatch.chdir(tmp_path)
    assert find_table("own.yaml").recipe.epochs == 4
    monkeypatch.chdir(other)
    assert find_table("own.yaml").recipe.epochs == 5


def test_a_copy_of_a_built_in_file_may_keep_its_name_until_it_is_changed(
    own: Path, refusal: Callable[..., str]
) -> None:
    text = (builtin_folder() / "table2.yaml").read_text()
    own.write_text(text)
    assert load_table(own).id == "table2"
    assert load_table(own, ["recipe.epochs=2"]).id == "table2+recipe.epochs=2"
    assert "is the name of a built-in experiment" in refusal(text.replace("batch_size: 128", "batch_size: 64"))


@pytest.mark.parametrize(
    ("reference", "way_out"),
    [
        ("tabel2", "Did you mean 'table2'?"),
        ("nothing-like-it", "Valid: controls, "),
        ("", "Valid: controls, "),
        ("x" * 300, "Valid: controls, "),
        ("a\0b", "Valid: controls, "),
        ("table2+recipe.epochs", "An override is +key=value after the name"),
        ("table2+", "An override is +key=value after the name"),
    ],
)
def test_an_unknown_name_is_told_with_the_way_out(reference: str, way_out: str) -> None:
    with pytest.raises(UserError, match=r"^no experiment is called") as caught:
        find_table(reference)
    assert way_out in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("table2", "'table2' is not a cell"),
        ("table2/squeezenet/bais", "no column of table2 is called 'bais'\n  Did you mean 'bias'?"),
        ("table2/sqeezenet/bias", "no row of table2 is called 'sqeezenet'\n  Did you mean 'squeezenet'?"),
        ("table3/squeezenet/bias", "no experiment is called 'table3'"),
    ],
)
def test_an_unknown_cell_is_told_with_the_nearest(reference: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        find_cell(reference)
    assert str(caught.value).startswith(message)


def test_a_selection_keeps_the_order_of_the_table() -> None:
    rows = find_table("table2").rows
    assert [row.id for row in select(rows, ["squeezenet", "shufflenetv2", "squeezenet"], "row")] == [
        "shufflenetv2",
        "squeezenet",
    ]


def test_runs_come_seed_by_seed() -> None:
    cells = find_table("demo").cells[:2]
    assert [run.id for run in runs_of(cells, [0, 3])] == [
        "demo/shufflenetv2/ce/seed-0",
        "demo/shufflenetv2/inverse_bias/seed-0",
        "demo/shufflenetv2/ce/seed-3",
        "demo/shufflenetv2/inverse_bias/seed-3",
    ]


def test_the_hash_covers_what_determines_the_numbers_and_nothing_else(own: Path, own_text: str) -> None:
    def hash_of(text: str, *overrides: str, seed: int = 0) -> str:
        own.write_text(text)
        return Run(cell=load_table(own, overrides).cells[1], seed=seed).hash

    plain = hash_of(own_text)
    for shown in ("title: A study of my own", "label: Mine", "title: Bias loss", "table: mine"):
        assert hash_of(own_text.replace(shown, f"{shown}1")) == plain, shown
    assert hash_of(own_text.replace("ce: 90", "ce: 80")) == plain
    assert hash_of(own_text.replace("1e-1", "0.1")) == plain
    others = [
        hash_of(own_text, seed=1),
        hash_of(own_text.replace("loss: bias", "loss: mean_bias")),
        hash_of(own_text.replace("model: squeezenet", "model: resnet18")),
        hash_of(own_text.replace("model: squeezenet", "model: squeezenet, options: {stem_stride: 2}")),
        *(
            hash_of(own_text, override)
            for override in (
                "dataset.classes=5",
                "recipe.epochs=5",
                "recipe.nesterov=true",
                "recipe.augmentation.horizontal_flip=false",
                "weighting.alpha=0.31",
                "weighting.normalization=running",
                "execution.precision=bf16",
            )
        ),
    ]
    assert len({plain, *others}) == len(others) + 1


def test_a_run_crosses_a_process_border_as_json() -> None:
    for name in builtin_names():
        for run in runs_of(find_table(name).cells, [0]):
            assert Run.model_validate_json(run.model_dump_json()) == run
            assert Run.model_validate_json(run.model_dump_json()).hash == run.hash


def test_tables_are_frozen() -> None:
    table = find_table("table2")
    with pytest.raises(ValueError, match="frozen"):
        table.recipe.epochs = 3  # type: ignore[misc]
    assert isinstance(table, Table)


@pytest.mark.parametrize(
    ("before", "after", "key", "reason"),
    [
        ("loss: ce", "loss: bias", "loss", "is cross-entropy wherever it is named"),
        (
            "model: squeezenet",
            "model: squeezenet, options: {feature_point: before_norm}",
            "feature_point",
            "has no option",
        ),
    ],
)
def test_what_no_run_could_honour_is_refused_where_it_stands(
    own: Path, own_text: str, before: str, after: str, key: str, reason: str
) -> None:
    assert before in own_text
    own.write_text(own_text.replace(before, after, 1))
    with pytest.raises(ConfigError, match=reason) as caught:
        load_table(own)
    text = str(caught.value)
    assert key in text
    assert re.search(rf"{re.escape(str(own))}:\d+:\d+", text)


def test_a_batch_that_no_epoch_can_fill_is_refused() -> None:
    settings = ("recipe.batch_size=2000", "recipe.drop_last=true")
    with pytest.raises(ConfigError, match="less than a batch"):
        find_table("demo+" + "+".join(settings))
    assert find_table("demo+recipe.batch_size=2000").recipe.batch_size == 2000


def test_cross_entropy_is_the_same_run_under_every_weighting() -> None:
    plain, weighted = (find_table(name) for name in ("table2", "table2+weighting.alpha=0.5"))
    same = [one.hash == other.hash for one, other in zip(plain.cells, weighted.cells, strict=True)]
    assert same == [cell.column.loss == "ce" for cell in plain.cells]
