from __future__ import annotations

import pytest

from repro.errors import UserError
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.sweep.selection import make_plan, parse_seeds, refuse_blocked, selected_runs
from repro.sweep.survey import RunState, Stage


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        *((None, (0, 1, 2)), ("5", (0, 1, 2, 3, 4)), ("0,3,7", (0, 3, 7)), ("3,", (3,)), ("7, 1", (7, 1)), ("1", (0,))),
        *(("5-8", (5, 6, 7, 8)), ("0-2, 7", (0, 1, 2, 7)), ("4-4", (4,))),
    ],
)
def test_seeds_are_counted_or_named(text: str | None, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text, 3) == seeds


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0", "from 1 to"),
        ("x", "neither a number nor a list"),
        ("-1", "neither"),
        ("1,,2", "neither"),
        (",", "neither"),
        ("", "neither"),
        ("1.5", "neither"),
        ("²", "neither"),
        ("3-1", "neither"),
        ("1-", "neither"),
        ("1-2-3", "neither"),
        ("1,1", "twice"),
        ("0-3,2", "twice"),
        ("0-99999999", "from 1 to"),
        ("4294967296,", "below 2**32"),
        ("99999999", "from 1 to"),
    ],
)
def test_other_seeds_are_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match="--seeds") as caught:
        parse_seeds(text, 3)
    assert says in str(caught.value)


def test_a_selection_keeps_the_order_of_the_table_seed_by_seed() -> None:
    runs = selected_runs(find_table("table2"), (4, 0), rows=["squeezenet", "mobilenetv2"], columns=["bias", "ce"])
    assert [run.id for run in runs] == [
        f"table2/{row}/{column}/seed-{seed}"
        for seed in (4, 0)
        for row in ("mobilenetv2", "squeezenet")
        for column in ("ce", "bias")
    ]


@pytest.mark.parametrize(
    ("rows", "columns", "says"),
    [(["squeezent"], None, "Did you mean 'squeezenet'?"), (None, ["bais"], "Did you mean 'bias'?")],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    rows: list[str] | None, columns: list[str] | None, says: str
) -> None:
    with pytest.raises(UserError) as caught:
        selected_runs(find_table("table2"), (0,), rows, columns)
    assert says in str(caught.value)


STAGES = (
    Stage.MISSING,
    Stage.COMPLETED,
    Stage.FAILED,
    Stage.DIVERGED,
    Stage.INTERRUPTED,
    Stage.RUNNING,
    Stage.MISSING,
    Stage.COMPLETED,
)


@pytest.fixture
def states(demo_runs: list[Run]) -> dict[str, RunState]:
    return {run.id: RunState(stage) for run, stage in zip(demo_runs, STAGES, strict=True)}


def indices(runs: tuple[Run, ...], of: list[Run]) -> list[int]:
    return [of.index(run) for run in runs]


def test_what_is_finished_is_skipped_and_what_is_owned_is_left_alone(
    demo_runs: list[Run], states: dict[str, RunState]
) -> None:
    plan = make_plan(demo_runs, states)
    assert indices(plan.todo, demo_runs) == [0, 2, 4, 6]
    assert indices(plan.finished, demo_runs) == [1, 3, 7]
    assert indices(plan.elsewhere, demo_runs) == [5]
    assert plan.left_out == plan.blocked == ()


def test_only_failed_and_only_missing_share_out_the_rest(demo_runs: list[Run], states: dict[str, RunState]) -> None:
    failed, missing = make_plan(demo_runs, states, "failed"), make_plan(demo_runs, states, "missing")
    assert indices(failed.todo, demo_runs) == [2]
    assert indices(missing.todo, demo_runs) == [0, 4, 6]
    assert failed.left_out == missing.todo
    assert missing.left_out == failed.todo


def test_records_in_the_way_are_named_before_anything_starts(demo_runs: list[Run], states: dict[str, RunState]) -> None:
    states[demo_runs[0].id] = RunState(Stage.FOREIGN, "recipe.epochs is 2 there, 10 here")
    states[demo_runs[4].id] = RunState(Stage.DAMAGED, "the seal is broken")
    plan = make_plan(demo_runs, states)
    with pytest.raises(UserError) as caught:
        refuse_blocked(plan)
    said = str(caught.value)
    assert f"{demo_runs[0].id}: other configuration: recipe.epochs is 2 there, 10 here" in said
    assert f"{demo_runs[4].id}: damaged: the seal is broken" in said
    assert "Nothing was started" in said
    assert "give the edited table another name" in said
    assert "--results" in said


def test_a_plan_with_nothing_in_the_way_is_not_refused(demo_runs: list[Run], states: dict[str, RunState]) -> None:
    refuse_blocked(make_plan(demo_runs, states))
