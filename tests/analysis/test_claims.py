from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from repro.analysis.assessment import Assessment, assess
from repro.analysis.claims import QUESTIONS, Answer, Claim, assess_claims
from repro.analysis.preregistration import Declaration
from repro.analysis.runs import equal_cells
from repro.analysis.stats.alpha_spending import Looks
from repro.experiment.config import find_table
from repro.experiment.schema import Table
from repro.results import RunRecord

MakeRecord = Callable[..., RunRecord]
Deltas = Callable[[str, str, str], float]  # table, row, column -> the true delta against cross-entropy

TABLE_1 = ("shufflenetv2", "densenet_k12", "resnet18", "efficientnet_b4", "inception_v3", "densenet_k24")


@pytest.fixture(scope="module")
def tables(papers: list[Table]) -> list[Table]:
    return [*papers, find_table("product")]


def as_published(tables: list[Table]) -> Deltas:
    """The paper's deltas; of the product, those of the bias loss."""
    printed: dict[tuple[str, str], Mapping[str, float]] = {
        (table.id, row.id): row.published.top1_percent for table in tables for row in table.rows if row.published
    }

    def delta(table: str, row: str, column: str) -> float:
        if table == "product":
            table, column = "table2", "bias"
        return printed[table, row][column] - printed[table, row]["ce"]

    return delta


def runs(
    tables: list[Table], make: MakeRecord, delta: Deltas, *, seeds: int = 6, std: float = 0.2, seed: int = 0
) -> list[RunRecord]:
    """Runs around 70% under cross-entropy; the product's own column only, the rest it takes from Table 2."""
    rng = np.random.default_rng(seed)
    made = []
    for table in tables:
        for cell in table.cells:
            row, column = cell.row.id, cell.column.id
            if table.id == "product" and column != "mean_variance_bias":
                continue
            mean = 70.0 + (0.0 if column == "ce" else delta(table.id, row, column))
            made += [make(cell, n, mean + float(noise)) for n, noise in enumerate(rng.normal(0, std, seeds))]
    return made


def judged(tables: list[Table], records: list[RunRecord], **looks: Any) -> Assessment:
    """``tables`` judged; the product, which is the last of three, takes what Table 2 recorded."""
    return assess(tables, records, lending=equal_cells(tables[-1], tables[:2]), **looks)


def answers(tables: list[Table], records: list[RunRecord]) -> dict[str, Claim]:
    return {claim.id: claim for claim in assess_claims(tables, judged(tables, records))}


def test_all_claims_hold_for_runs_around_what_is_printed(tables: list[Table], make_record: MakeRecord) -> None:
    claims = answers(tables, runs(tables, make_record, as_published(tables), std=0.1))
    assert {claim.answer for claim in claims.values()} == {Answer.SUPPORTED}
    for claim in claims.values():
        assert claim.statement
        assert claim.source
        assert claim.test
        assert claim.words.startswith("Supported. ")
        assert "after Holm" in claim.words
        assert not claim.missing


def test_none_is_supported_by_runs_without_any_effect_but_that_the_product_adds_nothing(
    tables: list[Table], make_record: MakeRecord
) -> None:
    claims = answers(tables, runs(tables, make_record, lambda *_: 0.0, seed=1))
    assert claims.pop("product_adds_nothing").answer is Answer.SUPPORTED
    assert {claim.answer for claim in claims.values()} == {Answer.UNDECIDED}


def test_effects_the_other_way_round_contradict(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)

    def opposite(table: str, row: str, column: str) -> float:
        return 2.0 if table == "product" else -published(table, row, column)

    claims = answers(tables, runs(tables, make_record, opposite, std=0.1))
    assert {claim.answer for claim in claims.values()} == {Answer.CONTRADICTED}
    assert all("the opposite" in claim.words for claim in claims.values())


def test_a_gain_under_half_of_the_papers_supports_only_in_part(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)
    claims = answers(tables, runs(tables, make_record, lambda *cell: 0.3 * published(*cell), std=0.05))
    for name in ("compact_gain", "large_loss"):
        assert claims[name].answer is Answer.PARTLY
        assert "less than half of the paper's mean" in claims[name].words
    assert claims["crossing"].answer is Answer.SUPPORTED


def test_every_means_every(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)

    def but_one(table: str, row: str, column: str) -> float:
        lost = (table, row, column) in {("table1", "resnet18", "bias"), ("table2", "squeezenet", "inverse_bias")}
        return 0.0 if lost else published(table, row, column)

    claims = answers(tables, runs(tables, make_record, but_one, std=0.1))
    assert claims["crossing"].answer is Answer.UNDECIDED
    assert "5 of 6 networks" in claims["crossing"].words
    assert claims["inverse_below_ce"].answer is Answer.PARTLY
    assert "4 of 5 networks" in claims["inverse_below_ce"].words
    assert claims["compact_gain"].answer is Answer.SUPPORTED


def test_a_mean_as_good_as_the_variance_is_only_half_of_what_is_said(
    tables: list[Table], make_record: MakeRecord
) -> None:
    published = as_published(tables)

    def mean_for_variance(table: str, row: str, column: str) -> float:
        return published(table, row, "bias" if column == "mean_bias" else column)

    claim = answers(tables, runs(tables, make_record, mean_for_variance, seed=2))["mean_between"]
    assert claim.answer is Answer.PARTLY
    assert "mean bias loss minus cross-entropy" in claim.words


def test_a_small_gain_of_the_product_is_no_nothing(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)

    def slightly_better(table: str, row: str, column: str) -> float:
        return published(table, row, column) + (0.25 if table == "product" else 0)

    claim = answers(tables, runs(tables, make_record, slightly_better, std=0.05))["product_adds_nothing"]
    assert claim.answer is Answer.PARTLY
    assert "there is a gain" in claim.words


def test_without_all_of_its_networks_a_claim_waits(tables: list[Table], make_record: MakeRecord) -> None:
    records = runs(tables, make_record, as_published(tables), std=0.1)
    kept = [record for record in records if record.row != "inception_v3" or record.seed < 2]
    claims = answers(tables, kept)
    for name in ("large_loss", "crossing", "gain_against_size"):
        assert (claims[name].answer, claims[name].missing, claims[name].p) == (
            Answer.UNDECIDED,
            ("Inception v3",),
            1.0,
        )
        assert "Inception v3" in claims[name].words
        assert claims[name].findings  # those networks that there are, are shown
    assert claims["compact_gain"].answer is Answer.SUPPORTED
    nothing = answers(tables, [])
    assert {claim.answer for claim in nothing.values()} == {Answer.NOT_RUN}
    assert {claim.words for claim in nothing.values()} == {"Not run."}
    only_papers = answers(tables[:2], records)
    assert only_papers["product_adds_nothing"].answer is Answer.NOT_RUN


def test_the_slope_is_that_of_a_least_squares_line(tables: list[Table], make_record: MakeRecord) -> None:
    records = runs(tables, make_record, as_published(tables))
    assessment = assess(tables, records)
    means = []
    for name in TABLE_1:
        delta = assessment.cells["table1", name, "bias"].delta
        assert delta is not None
        means.append(delta.mean)
    line = scipy.stats.linregress(np.log10([1.4, 7, 11, 19, 24, 27.2]), means)
    found = answers(tables, records)["gain_against_size"].findings[0]
    assert found.estimate == pytest.approx(line.slope, rel=1e-9)
    assert found.low < found.estimate < found.high


def test_the_p_of_every_is_the_largest_of_the_rows_two_sided_ones(tables: list[Table], make_record: MakeRecord) -> None:
    records = runs(tables, make_record, as_published(tables))
    assessment = assess(tables, records)
    p = [
        scipy.stats.ttest_rel(pairs.ours, pairs.baseline).pvalue
        for pairs in (assessment.pairs("table2", row.id, "inverse_bias") for row in tables[1].rows)
    ]
    assert answers(tables, records)["inverse_below_ce"].p == pytest.approx(max(p), rel=1e-9)


def test_claims_are_adjusted_as_one_family(tables: list[Table], make_record: MakeRecord) -> None:
    claims = list(answers(tables, runs(tables, make_record, as_published(tables), seeds=3, std=0.4)).values())
    assert len(claims) == len(QUESTIONS) == 7
    adjusted = multipletests([claim.p for claim in claims], method="holm")[1]
    assert [claim.p_adjusted for claim in claims] == pytest.approx(list(adjusted))


def test_no_claim_is_made_without_an_effect_more_often_than_one_time_in_twenty(
    tables: list[Table], make_record: MakeRecord
) -> None:
    count = 60
    wrong = 0
    for seed in range(count):
        claims = answers(tables, runs(tables, make_record, lambda *_: 0.0, seeds=4, seed=100 + seed))
        del claims["product_adds_nothing"]  # which is true of these
        wrong += any(claim.p_adjusted < 0.05 for claim in claims.values())
    assert wrong / count < 0.05 + 4 * math.sqrt(0.05 * 0.95 / count)


def test_with_declared_looks_only_the_first_looks_seeds_count(
    tables: list[Table], make_record: MakeRecord, declared: Callable[..., dict[str, Declaration]]
) -> None:
    records = runs(tables, make_record, as_published(tables), seeds=8)
    looked = assess_claims(tables, judged(tables, records, looks=declared(tables[:2], Looks((4, 8)))))
    first = assess_claims(tables, judged(tables, [record for record in records if record.seed < 4]))
    assert looked == first
