"""The comparison of two results folders, against scipy and against what is changed on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from repro.analysis.comparison import Comparison, Likeness, compare, compare_runs
from repro.experiment.config import load_table
from repro.experiment.schema import Run
from repro.results import Found, RunRecord
from repro.results.epochs import Epochs
from repro.results.record import Imported

Make = Callable[..., RunRecord]


@pytest.fixture
def make(own: Path, fake_runs: Any) -> Make:
    """A run of the first cell of a small study, or of another."""
    table = load_table(own)
    return lambda seed=0, cell=0, **changes: fake_runs.record(Run(cell=table.cells[cell], seed=seed), **changes)


def with_epoch(record: RunRecord, index: int, **figures: float) -> RunRecord:
    """The record with other numbers in one epoch."""
    epochs = [epoch.model_copy(update=figures) if at == index else epoch for at, epoch in enumerate(record.epochs)]
    return record.model_copy(update={"epochs": Epochs(epochs)})


def with_provenance(record: RunRecord, **changes: Any) -> RunRecord:
    return record.model_copy(update={"provenance": record.provenance.model_copy(update=changes)})


def test_one_record_copied_and_one_run_repeated_are_identical(make: Make) -> None:
    record = make()
    elsewhere = with_epoch(with_provenance(record, host="other", started_at="2027"), 1, train_seconds=99.0)
    unhashed = record.model_copy(update={"state_hash": None})
    for first, second in ((record, record), (record, elsewhere), (unhashed, unhashed)):
        pair = compare_runs(first, second)
        assert (pair.likeness, pair.apart_at) == (Likeness.IDENTICAL, None)


@pytest.mark.parametrize("hashes", [("5" * 64, None), (None, "5" * 64), (None, None)])
def test_without_a_hash_of_the_final_state_nothing_is_identical(make: Make, hashes: tuple[str | None, ...]) -> None:
    records = [make(state_hash=state, host=f"host-{index}") for index, state in enumerate(hashes)]
    assert compare_runs(*records).likeness is Likeness.NOT_KNOWN


def test_where_two_histories_part(make: Make) -> None:
    record = make()
    least = record.epochs[2].test_loss * (1 + 2**-52)
    for figure in ({"test_loss": least}, {"train_top1_percent": 1.0}, {"weight_max": 2.0}):
        pair = compare_runs(record, with_epoch(record, 2, **figure))
        assert (pair.likeness, pair.apart_at, pair.why) == (Likeness.DIFFERENT, 3, "the same final state")
    shorter = record.model_copy(update={"epochs": Epochs(record.epochs[:2]), "status": "diverged"})
    pair = compare_runs(record, shorter)
    assert (pair.apart_at, pair.why) == (3, "completed in A, diverged in B")


def test_a_number_that_older_records_lack_is_not_compared(make: Make) -> None:
    record = make()
    assert compare_runs(record, with_epoch(record, 1, feature_correlation=0.5)).likeness is Likeness.IDENTICAL
    first, second = (with_epoch(record, 1, feature_correlation=value) for value in (0.25, 0.5))
    assert compare_runs(first, second).apart_at == 2


def test_another_final_state_alone_is_a_difference(make: Make) -> None:
    pair = compare_runs(make(), make(state_hash="6" * 64))
    assert (pair.likeness, pair.apart_at, pair.delta_points) == (Likeness.DIFFERENT, None, 0.0)
    assert pair.why == "another final state alone"


def test_another_configuration_is_named_and_never_compared(make: Make, own: Path, fake_runs: Any) -> None:
    other = fake_runs.record(Run(cell=load_table(own, ["recipe.momentum=0.5"]).cells[0], seed=0))
    other = other.model_copy(update={"id": "mine/squeezenet/ce/seed-0", "table": "mine"})
    found = compare(*([_found(record)] for record in (make(), other)))
    [pair] = found.runs
    assert (pair.likeness, pair.why) == (Likeness.OTHER, "recipe.momentum is 0.9 in A, 0.5 in B")
    assert found.cells == ()
    assert not found.all_identical


def test_an_imported_run_is_never_identical(make: Make) -> None:
    imported = Imported(file="runs.csv", sha256="0" * 64, line=2, at="2027")
    trained = make()
    record = make(parameters=None, state_hash=None, imported=imported, epochs=trained.epochs)
    pair = compare_runs(trained, record)
    assert (pair.likeness, pair.why) == (Likeness.NOT_KNOWN, "imported in B")
    [cell] = compare([_found(trained)], [_found(record)]).cells
    assert [arm.imported for arm in cell.arms] == [(), (0,)]


def test_what_only_one_has_and_what_cannot_be_used(make: Make) -> None:
    damaged = replace(_found(make(2)), record=None, problem="the seal is broken")
    found = compare([_found(make(0)), _found(make(1)), damaged], [_found(make(0)), _found(make(2)), _found(make(3))])
    place = "mine/squeezenet/ce/seed-"
    assert found.only == ((f"{place}1",), (f"{place}3",))
    assert found.unusable == ({f"{place}2": "the seal is broken"}, {})
    assert [pair.likeness for pair in found.runs] == [Likeness.IDENTICAL]
    assert not found.all_identical
    assert compare([_found(make(0))], [_found(make(0)), _found(make(3))]).all_identical
    assert not compare([_found(make(0))], [_found(make(3))]).all_identical  # nothing was compared


FIRST = {0: 43.0, 1: 44.5, 2: 42.25, 3: 43.75}
SECOND = {1: 44.0, 2: 42.5, 3: 44.25, 4: 45.0, 5: 41.0}


def test_pairs_are_those_of_the_shared_seeds(make: Make) -> None:
    [cell] = _compared(make, FIRST, SECOND).cells
    shared = [1, 2, 3]
    by_scipy = stats.ttest_rel([SECOND[seed] for seed in shared], [FIRST[seed] for seed in shared])
    low, high = by_scipy.confidence_interval(0.95)
    assert (cell.how, cell.seeds) == ("paired", (1, 2, 3))
    assert (cell.delta_points, cell.low, cell.high) == pytest.approx((0.25 / 3, low, high))
    assert [arm.n for arm in cell.arms] == [4, 5]


def test_without_three_shared_seeds_it_is_welchs(make: Make) -> None:
    second = {seed + 2: top1 for seed, top1 in SECOND.items()}
    [cell] = _compared(make, FIRST, second).cells
    by_scipy = stats.ttest_ind(list(second.values()), list(FIRST.values()), equal_var=False)
    low, high = by_scipy.confidence_interval(0.95)
    delta = sum(second.values()) / 5 - sum(FIRST.values()) / 4
    assert (cell.how, cell.seeds) == ("unpaired", (3,))
    assert (cell.delta_points, cell.low, cell.high) == pytest.approx((delta, low, high))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({0: 43.0}, {0: 44.0}),
        ({0: 43.0, 1: 44.0}, SECOND),
        (dict.fromkeys(range(3), 43.0), dict.fromkeys(range(3), 44.0)),
    ],
)
def test_few_runs_and_no_spread_give_no_interval(
    make: Make, first: Mapping[int, float], second: Mapping[int, float]
) -> None:
    [cell] = _compared(make, first, second).cells
    assert (cell.low, cell.high) == (None, None)


def test_a_diverged_run_is_in_no_mean(make: Make) -> None:
    diverged = make(4, status="diverged", reason="the loss is nan")
    [cell] = compare([_found(make(0)), _found(diverged)], [_found(make(0))]).cells
    assert (cell.arms[0].n, cell.arms[0].diverged) == (1, (4,))


def test_what_the_runs_were_made_with_is_said_once_where_it_differs(make: Make) -> None:
    first = [_found(make(seed)) for seed in range(3)]
    second = [_found(make(seed, device_name="CPU", threads=2, code_hash="d" * 64)) for seed in range(2)]
    found = compare(first, second)
    assert {made.what: dict(made.counts) for made in found.made_with} == {
        "device": {"NVIDIA H200": (3, 0), "CPU": (0, 2)},
        "threads": {"1": (3, 0), "2": (0, 2)},
    }
    assert found.other_code == 2
    assert compare(first, first).made_with == ()


def _compared(make: Make, first: Mapping[int, float], second: Mapping[int, float]) -> Comparison:
    folders = []
    for by_seed in (first, second):
        folders.append(
            [_found(make(seed).model_copy(update={"last_top1_percent": top1})) for seed, top1 in by_seed.items()]
        )
    return compare(*folders)


def _found(record: RunRecord) -> Found:
    return Found(Path("results") / record.id / "run.json", record, None)
