from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.multitest import multipletests

from repro.analysis.assessment import Assessment, assess
from repro.analysis.claim_evidence import Differences, Evidence, Finding
from repro.analysis.claim_evidence import Tested as Shown
from repro.analysis.claims import QUESTIONS, Answer, Claim, Question, answer_claims, assess_claims
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
    """The claims that are about accuracies."""
    claims = assess_claims(tables, judged(tables, records))
    return {claim.id: claim for claim in claims if claim.id != "mean_and_variance"}


def homogeneous(tables: list[Table]) -> Deltas:
    """The paper's effects, with those of the mean bias loss the same on every network."""
    published = as_published(tables)
    return lambda table, row, column: 0.3 if column == "mean_bias" else published(table, row, column)


def test_all_claims_hold_for_runs_around_what_is_printed(tables: list[Table], make_record: MakeRecord) -> None:
    claims = answers(tables, runs(tables, make_record, homogeneous(tables), std=0.1, seed=3))
    assert {claim.answer for claim in claims.values()} == {Answer.SUPPORTED}
    for claim in claims.values():
        assert claim.statement
        assert claim.source
        assert claim.test
        assert claim.words.startswith("Supported. ")
        assert "after Holm" in claim.words
        assert not claim.missing


def test_by_its_own_numbers_the_papers_mean_gains_on_some_networks_only(
    tables: list[Table], make_record: MakeRecord
) -> None:
    """It prints 78.9 and 78.9 on DenseNet, and gains of 0.0 to 0.7: a mean does not stand for these."""
    claims = answers(tables, runs(tables, make_record, as_published(tables), std=0.1))
    assert claims.pop("mean_between").words.startswith("Partly supported: on average, but the gains of the mean differ")
    assert {claim.answer for claim in claims.values()} == {Answer.SUPPORTED}


def test_without_any_effect_claims_are_contradicted_but_that_the_product_adds_nothing(
    tables: list[Table], make_record: MakeRecord
) -> None:
    claims = answers(tables, runs(tables, make_record, lambda *_: 0.0, seed=1, seeds=10))
    assert claims.pop("product_adds_nothing").answer is Answer.SUPPORTED
    assert {claim.answer for claim in claims.values()} == {Answer.CONTRADICTED}
    assert "smaller than what matters" in claims["compact_gain"].words


def test_with_few_seeds_and_much_spread_they_are_undecided(tables: list[Table], make_record: MakeRecord) -> None:
    claims = answers(tables, runs(tables, make_record, lambda *_: 0.0, seed=2, seeds=3, std=1.5))
    assert {claim.answer for claim in claims.values()} == {Answer.UNDECIDED}
    assert "neither it nor what contradicts it is shown" in claims["crossing"].words


def test_effects_the_other_way_round_contradict(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)

    def opposite(table: str, row: str, column: str) -> float:
        return 2.0 if table == "product" else -published(table, row, column)

    claims = answers(tables, runs(tables, make_record, opposite, std=0.1))
    assert {claim.answer for claim in claims.values()} == {Answer.CONTRADICTED}
    assert all("For what contradicts it, p < 0.001" in claim.words for claim in claims.values())


def test_a_gain_of_another_size_supports_about_one_point_only_in_part(
    tables: list[Table], make_record: MakeRecord
) -> None:
    published = as_published(tables)
    for scale in (0.3, 2.0):
        claims = answers(tables, runs(tables, make_record, lambda *cell, k=scale: k * published(*cell), std=0.05))
        assert claims["compact_gain"].answer is Answer.PARTLY
        assert "not by about 1 point, which the interval does not hold" in claims["compact_gain"].words
        assert claims["large_loss"].answer is Answer.SUPPORTED  # which says no number
        assert claims["crossing"].answer is Answer.SUPPORTED


def test_a_mean_over_networks_that_differ_supports_only_in_part(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)

    def one_carries_all(table: str, row: str, column: str) -> float:
        if table == "table1" and row in ("shufflenetv2", "densenet_k12", "resnet18"):
            return 3.0 if row == "resnet18" else 0.0
        return published(table, row, column)

    claim = answers(tables, runs(tables, make_record, one_carries_all, std=0.1))["compact_gain"]
    assert claim.answer is Answer.PARTLY
    assert "on average, but the networks differ, and not every network is on that side" in claim.words


def test_every_means_every(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)

    def but_one(table: str, row: str, column: str) -> float:
        lost = (table, row, column) in {("table1", "resnet18", "bias"), ("table2", "squeezenet", "inverse_bias")}
        return 0.0 if lost else published(table, row, column)

    claims = answers(tables, runs(tables, make_record, but_one, std=0.05, seed=4))
    assert claims["crossing"].answer is Answer.CONTRADICTED
    assert "the effect on ResNet 18 is smaller than what matters" in claims["crossing"].words
    assert "5 of 6 networks" in claims["crossing"].words
    assert claims["inverse_below_ce"].answer is Answer.PARTLY
    assert "shown is only: on average over the networks" in claims["inverse_below_ce"].words
    assert claims["table_2_order"].answer is Answer.PARTLY
    assert "shown is only: the bias loss is the best in every network" in claims["table_2_order"].words


def test_table_2_is_contradicted_if_another_loss_is_the_best_somewhere(
    tables: list[Table], make_record: MakeRecord
) -> None:
    published = as_published(tables)

    def inverse_wins(table: str, row: str, column: str) -> float:
        return 3.0 if (row, column) == ("nasnet_a", "inverse_bias") else published(table, row, column)

    claim = answers(tables, runs(tables, make_record, inverse_wins, std=0.1))["table_2_order"]
    assert claim.answer is Answer.CONTRADICTED
    assert "another loss is better on NASNet-A" in claim.words


def test_a_mean_as_good_as_the_variance_is_only_half_of_what_is_said(
    tables: list[Table], make_record: MakeRecord
) -> None:
    published = as_published(tables)

    def mean_for_variance(table: str, row: str, column: str) -> float:
        return published(table, row, "bias" if column == "mean_bias" else column)

    claim = answers(tables, runs(tables, make_record, mean_for_variance, seed=2))["mean_between"]
    assert claim.answer is Answer.PARTLY
    assert "shown is only: the mean bias loss gains; against the rest: the mean gains as much" in claim.words
    few = answers(tables, runs(tables, make_record, mean_for_variance, seed=3, seeds=3, std=0.5))["mean_between"]
    assert few.answer is Answer.PARTLY
    assert "shown is only: the mean bias loss gains" in few.words


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
            (1.0,),
        )
        assert "Inception v3" in claims[name].words
        assert claims[name].findings  # those networks that there are, are shown
    assert claims["compact_gain"].answer is Answer.SUPPORTED
    nothing = answers(tables, [])
    assert {claim.answer for claim in nothing.values()} == {Answer.NOT_RUN}
    assert {claim.words for claim in nothing.values()} == {"Not run."}
    only_papers = answers(tables[:2], records)
    assert only_papers["product_adds_nothing"].answer is Answer.NOT_RUN


def test_a_claim_with_a_single_pair_of_runs_is_undecided_and_not_called_not_run(
    tables: list[Table], make_record: MakeRecord
) -> None:
    records = runs(tables, make_record, as_published(tables), seeds=1)
    row = [record for record in records if (record.table, record.row) == ("table1", "shufflenetv2")]
    assert [record.column for record in row] == ["ce", "bias"]
    claims = answers(tables, row)
    about_it = {"compact_gain", "crossing", "gain_against_size"}
    assert {name for name, claim in claims.items() if claim.answer is Answer.UNDECIDED} == about_it
    assert {claim.answer for name, claim in claims.items() if name not in about_it} == {Answer.NOT_RUN}
    assert "too few paired seeds of ShuffleNetV2 0.5x" in claims["compact_gain"].words
    assert {claim.answer for claim in answers(tables, row[:1]).values()} == {Answer.NOT_RUN}  # no pair yet


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


def test_the_p_of_every_is_the_largest_of_the_rows_one_sided_ones(tables: list[Table], make_record: MakeRecord) -> None:
    records = runs(tables, make_record, as_published(tables))
    assessment = assess(tables, records)
    p = []
    for row in tables[1].rows:
        answers_of_cell = assessment.cells["table2", row.id, "inverse_bias"].answers
        assert answers_of_cell is not None
        assert answers_of_cell.effect is not None
        p.append(answers_of_cell.effect.p)
    assert answers(tables, records)["inverse_below_ce"].p[0] == pytest.approx(max(p), rel=1e-6)


def test_the_parts_of_all_claims_are_adjusted_as_one_family(tables: list[Table], make_record: MakeRecord) -> None:
    claims = assess_claims(tables, judged(tables, runs(tables, make_record, as_published(tables), seeds=3, std=0.4)))
    assert len(claims) == len(QUESTIONS)
    p = [p for claim in claims for p in claim.p]
    assert len(p) == sum(len(question.parts) for question in QUESTIONS)
    adjusted = [p for claim in claims for p in claim.p_adjusted]
    assert adjusted == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_what_weakens_answers_is_adjusted_among_itself() -> None:
    def reserved(p: float) -> Evidence:
        return Evidence((Finding("gain", 1.0, 0.9, 1.1),), p=(0.001,), reservations=(Shown("networks differ", p),))

    questions = [
        Question(str(number), "it gains", "a source", "a test", lambda _, p=p: reserved(p), ("the claim",))
        for number, p in enumerate((0.015, 0.5, 0.5))
    ]
    claims = answer_claims(lambda *_: Differences(), questions=questions)
    assert [claim.answer for claim in claims] == [Answer.PARTLY, Answer.SUPPORTED, Answer.SUPPORTED]  # 3 x 0.015 < 0.05


def test_with_declared_looks_only_the_first_looks_seeds_count(
    tables: list[Table], make_record: MakeRecord, declared: Callable[..., dict[str, Declaration]]
) -> None:
    records = runs(tables, make_record, as_published(tables), seeds=8)
    looked = assess_claims(tables, judged(tables, records, looks=declared(tables[:2], Looks((4, 8)))))
    first = assess_claims(tables, judged(tables, [record for record in records if record.seed < 4]))
    assert looked == first
    early = [record for record in records if record.seed < (4 if record.row == "squeezenet" else 3)]
    before = assess_claims(tables, judged(tables, early, looks=declared(tables[:2], Looks((4, 8)))))
    assert {claim.answer for claim in before} == {Answer.UNDECIDED, Answer.NOT_RUN}
    assert "too few paired seeds of ShuffleNetV2" in " ".join(claim.words for claim in before)


@pytest.mark.parametrize(
    ("correlations", "answer", "words"),
    [
        ([0.8] * 5, Answer.SUPPORTED, "Mean of the 5 networks: +0.80"),
        ([0.3] * 5, Answer.PARTLY, "below 0.5 in at least one network"),
        ([0.0] * 5, Answer.CONTRADICTED, "on average, they hardly correlate"),
        ([0.9, 0.9, 0.9, 0.9, -0.9], Answer.CONTRADICTED, "not in DenseNet (k = 12)"),
    ],
)
def test_the_correlation_of_mean_and_variance_is_tested_on_what_training_recorded(
    tables: list[Table], make_record: MakeRecord, correlations: list[float], answer: Answer, words: str
) -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, (5, 4))
    records = []
    for row, correlation, of_seeds in zip(tables[1].rows, correlations, noise, strict=True):
        cell = next(cell for cell in tables[1].cells if (cell.row.id, cell.column.id) == (row.id, "bias"))
        for seed, one in enumerate(of_seeds):
            last = SimpleNamespace(feature_correlation=correlation + float(one))
            records.append(make_record(cell, seed, 70.0, epochs=(last,)))
    claim = assess_claims(tables, judged(tables, records))[-1]
    assert (claim.id, claim.answer) == ("mean_and_variance", answer)
    assert words in claim.words
    older = [record.model_copy(update={"epochs": ()}) for record in records]
    assert assess_claims(tables, judged(tables, older))[-1].answer is Answer.NOT_RUN


def test_a_part_that_is_shown_keeps_its_reservation(tables: list[Table], make_record: MakeRecord) -> None:
    published = as_published(tables)

    def uneven(table: str, row: str, column: str) -> float:
        gain = 2.5 if row in ("squeezenet", "mobilenetv2", "nasnet_a") else -1.5
        return gain if column in ("mean_bias", "bias") else published(table, row, column)

    claim = answers(tables, runs(tables, make_record, uneven, seeds=5))["mean_between"]
    assert claim.answer is Answer.PARTLY
    assert "shown is only: the mean bias loss gains; on average, but the gains of the mean differ" in claim.words
