"""The claims on the controls: supported by runs made so, contradicted by the opposite, open without runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from repro.analysis.assessment import assess
from repro.analysis.claims import Answer, Claim
from repro.analysis.controls import assess_controls
from repro.experiment.config import find_table
from repro.experiment.schema import Table
from repro.results import RunRecord

MakeRecord = Callable[..., RunRecord]
EFFECT = {"bias": 1.5, "mean_one_bias": 1.5, "constant_bias": 0.0, "shuffled_bias": 0.0, "ce": 0.0}


@pytest.fixture(scope="module")
def table() -> Table:
    return find_table("controls")


def claims(table: Table, make: MakeRecord, effect: dict[str, float], seeds: int = 6) -> tuple[Claim, ...]:
    rng = np.random.default_rng(0)
    runs = []
    for cell in table.cells:
        for seed, noise in enumerate(rng.normal(0, 0.15, seeds)):
            runs.append(make(cell, seed, 70.0 + effect[cell.column.id] + float(noise)))
    return assess_controls(table, assess([table], runs))


def answers(table: Table, make: MakeRecord, effect: dict[str, float], seeds: int = 6) -> dict[str, Answer]:
    return {claim.id: claim.answer for claim in claims(table, make, effect, seeds)}


def test_where_the_features_matter_all_three_are_supported(table: Table, make_record: MakeRecord) -> None:
    assert set(answers(table, make_record, EFFECT).values()) == {Answer.SUPPORTED}


def test_where_only_the_scale_matters_all_three_are_contradicted(table: Table, make_record: MakeRecord) -> None:
    scale = {"bias": 1.5, "mean_one_bias": 0.0, "constant_bias": 1.5, "shuffled_bias": 1.5, "ce": 0.0}
    assert set(answers(table, make_record, scale).values()) == {Answer.CONTRADICTED}


def test_they_are_open_without_runs_and_are_asked_of_no_other_table(table: Table, make_record: MakeRecord) -> None:
    assert set(answers(table, make_record, EFFECT, seeds=0).values()) == {Answer.NOT_RUN}
    assert set(answers(table, make_record, EFFECT, seeds=2).values()) <= {Answer.NOT_RUN, Answer.UNDECIDED}
    for name in ("table1", "table2", "tiny20", "demo"):
        other = find_table(name)
        assert assess_controls(other, assess([other], [])) == ()
    for name in ("controls_table1", "controls20"):
        other = find_table(name)
        assert len(assess_controls(other, assess([other], []))) == 3


def test_they_are_a_family_of_their_own(table: Table, make_record: MakeRecord) -> None:
    found = claims(table, make_record, {name: 0.2 * effect for name, effect in EFFECT.items()})
    adjusted = multipletests([claim.p[0] for claim in found], method="holm")[1]
    assert [claim.p_adjusted[0] for claim in found] == pytest.approx(list(adjusted))
