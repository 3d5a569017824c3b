"""The whole path, from fake runs to verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
from statsmodels.stats.multitest import multipletests

from repro.analysis.assessment import Assessment, assess
from repro.analysis.cell import CellResult
from repro.analysis.chance import chance_level_percent
from repro.analysis.claims import Answer, assess_claims
from repro.analysis.preregistration import Declaration
from repro.analysis.runs import CellKey, equal_cells
from repro.analysis.sample_size import expected_verdicts, plan_seeds
from repro.analysis.stats.alpha_spending import Looks, look_levels
from repro.analysis.stats.decision_rule import SMALLEST_EFFECT, Printed, Verdict
from repro.analysis.stats.power import seeds_to_be_sure
from repro.analysis.stats.simulation import blocks, judged, measured_cells, with_effects
from repro.experiment.catalog import DATASETS
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, DatasetChoice, Table
from repro.results import RunRecord

Records = list[RunRecord]
MakeRecord = Callable[..., RunRecord]
AsPrinted = Callable[..., Records]
Declare = Callable[..., dict[str, Declaration]]


def cell_of(table: Table, row: str, column: str) -> Cell:
    return next(cell for cell in table.cells if (cell.row.id, cell.column.id) == (row, column))


def with_delta(assessment: Assessment) -> list[CellResult]:
    return [result for result in assessment.cells.values() if result.paper_delta is not None]


def values(records: Records, table: str, row: str, column: str) -> dict[int, float]:
    return {
        record.seed: record.last_top1_percent or 0.0
        for record in records
        if (record.table, record.row, record.column) == (table, row, column)
    }


def arm_runs(make: MakeRecord, table: Table, row: str, column: str, accuracies: dict[int, float]) -> Records:
    return [make(cell_of(table, row, column), seed, accuracy) for seed, accuracy in accuracies.items()]


def rows_of(records: Records, results: list[CellResult]) -> dict[tuple[str, str], dict[str, list[float]]]:
    """The accuracies of each row by column and seed."""
    rows: dict[tuple[str, str], dict[str, list[float]]] = {}
    for result in results:
        for column in ("ce", result.column):
            found = values(records, result.table, result.row, column)
            rows.setdefault((result.table, result.row), {})[column] = [found[seed] for seed in sorted(found)]
    return rows


def test_every_number_is_scipys_and_statsmodels(papers: list[Table], as_printed: AsPrinted) -> None:
    records = as_printed(papers, 5, np.random.default_rng(0))
    results = with_delta(assess(papers, records))
    assert len(results) == 21
    p: dict[str, list[float]] = {"effect": [], "opposite": [], "small": []}
    rows = rows_of(records, results)
    for result in results:
        row = rows[result.table, result.row]
        long = [(name, seed, top1) for name, found in row.items() for seed, top1 in enumerate(found)]
        data = pd.DataFrame(long, columns=["arm", "seed", "top1"])
        fit = smf.ols("top1 ~ C(arm, Treatment('ce')) + C(seed)", data).fit()
        name = f"C(arm, Treatment('ce'))[T.{result.column}]"
        delta = result.delta
        assert delta is not None
        assert delta.mean == pytest.approx(fit.params[name], abs=1e-9)
        assert (delta.low, delta.high) == pytest.approx(tuple(fit.conf_int().loc[name]), abs=1e-7)
        assert delta.std == pytest.approx(np.std(np.subtract(row[result.column], row["ce"]), ddof=1))
        assert delta.correlation == pytest.approx(np.corrcoef(row[result.column], row["ce"])[0, 1], rel=1e-9)
        assert result.runs.mean == pytest.approx(np.mean(row[result.column]), rel=1e-12)
        t = scipy.stats.t(fit.df_resid, 0, fit.bse[name])
        side = -1 if (result.paper_delta or 0) < 0 else 1
        answers = result.answers
        assert answers is not None
        p["small"].append(max(t.sf(0.5 - delta.mean), t.sf(0.5 + delta.mean)))
        assert answers.small.p == pytest.approx(p["small"][-1], rel=1e-7)
        if result.prints_none:
            assert answers.effect is answers.opposite is None
            assert delta.p == answers.small.p
            continue
        assert answers.effect is not None
        p["effect"].append(t.sf(side * delta.mean))
        p["opposite"].append(t.cdf(side * delta.mean))
        assert delta.p == answers.effect.p == pytest.approx(p["effect"][-1], rel=1e-7)
    assert [len(found) for found in p.values()] == [18, 18, 21]
    for question, found in p.items():
        tested = [getattr(result.answers, question) for result in results]
        by_holm = [test.p_adjusted for test in tested if test]
        assert by_holm == pytest.approx(list(multipletests(found, method="holm")[1]), rel=1e-7)


def test_the_papers_deltas_are_differences_of_what_is_printed(papers: list[Table]) -> None:
    deltas = [result.paper_delta for result in with_delta(assess(papers, []))]
    assert deltas[:6] == [0.9, 1.0, 1.1, -0.8, -1.1, -0.9]
    assert deltas[6:] == [-0.6, 0.7, 1.5, -0.4, 0.1, 0.6, -0.4, 0.6, 0.8, -0.4, 0.1, 1.0, -0.8, 0.0, 1.0]


def test_the_order_of_records_and_tables_does_not_matter(papers: list[Table], as_printed: AsPrinted) -> None:
    rng = np.random.default_rng(1)
    records = as_printed(papers, 4, rng)
    straight = assess(papers, records)
    for _ in range(3):
        shuffled = assess(papers[::-1], [records[index] for index in rng.permutation(len(records))])
        assert dict(shuffled.cells) == dict(straight.cells)
        assert sorted(shuffled.left_out, key=str) == sorted(straight.left_out, key=str)


def test_what_no_number_holds_is_named(papers: list[Table], make_record: MakeRecord) -> None:
    table = papers[1]
    ours = arm_runs(make_record, table, "squeezenet", "bias", {0: 70.1, 1: 70.2, 2: 70.6, 6: 99.0, 7: 70.0})
    baseline = arm_runs(make_record, table, "squeezenet", "ce", {0: 69.0, 1: 69.4, 2: 69.5, 3: 69.9})
    bias, ce = cell_of(table, "squeezenet", "bias"), cell_of(table, "squeezenet", "ce")
    spoilt = [
        make_record(bias, 3, None, status="diverged", reason="loss is not finite at step 7 of epoch 2"),
        make_record(ce, 6, 1.0, configuration_hash="0" * 64),
        make_record(ce, 7, 69.0),
        make_record(ce, 7, 69.1),
        make_record(bias, 8, None),
        make_record(ce, 8, 1.0, row="squeezenet_old", id="table2/squeezenet_old/ce/seed-8"),
    ]
    assessment = assess(papers, [*ours, *baseline, *spoilt])
    result = assessment.cells["table2", "squeezenet", "bias"]
    assert result.delta is not None
    assert result.delta.seeds == (0, 1, 2)
    assert result.delta.mean == pytest.approx((1.1 + 0.8 + 1.1) / 3)
    assert {(one.run, one.reason.split(": dataset is None there")[0]) for one in assessment.left_out} == {
        ("table2/squeezenet/bias/seed-3", "diverged: loss is not finite at step 7 of epoch 2"),
        ("table2/squeezenet/ce/seed-6", "recorded under another configuration"),
        ("table2/squeezenet/ce/seed-7", "2 records of this run disagree"),
        ("table2/squeezenet/bias/seed-8", "completed without an accuracy"),
        ("table2/squeezenet_old/ce/seed-8", "the table has no such row or column"),
    }
    assert set(result.unpaired) == {
        "table2/squeezenet/bias/seed-6",
        "table2/squeezenet/bias/seed-7",
        "table2/squeezenet/ce/seed-3",
    }
    # A mean holds every run that counts, paired or not; what is planned and not there is missing.
    assert result.runs.seeds == (0, 1, 2, 6, 7)
    assert result.runs.missing == (4,)
    assert assessment.cells["table2", "squeezenet", "ce"].runs.missing == (4, 8)


@pytest.mark.parametrize(
    ("dataset", "level"),
    [
        (DatasetChoice(name="cifar100"), 1.2985),  # 1 + 3 x 0.0995
        (DatasetChoice(name="tiny_imagenet"), 0.7116),  # 0.5 + 3 x 0.0705
        (DatasetChoice(name="tiny_imagenet", classes=20), 7.0676),  # 5 + 3 x 0.6892, of 1,000 images
        (DatasetChoice(name="digits"), 14.7767),
    ],
)
def test_chance_level_is_three_standard_errors_above_guessing(dataset: DatasetChoice, level: float) -> None:
    assert chance_level_percent(dataset) == pytest.approx(level, abs=1e-4)
    images = round(dataset.num_classes * DATASETS[dataset.name].test_count / DATASETS[dataset.name].num_classes)
    right = np.random.default_rng(0).binomial(images, 1 / dataset.num_classes, 100_000)
    assert 0.0005 < np.mean(100 * right / images > level) < 0.004  # a normal one: 0.00135


@pytest.mark.parametrize("dead", ["ce", "bias"])
def test_nothing_is_concluded_from_a_cell_with_a_run_at_chance_level(
    papers: list[Table], as_printed: AsPrinted, make_record: MakeRecord, dead: str
) -> None:
    whole = as_printed(papers, 5, np.random.default_rng(3), std=0.05)
    place = f"table2/squeezenet/{dead}/seed-2"
    records = [record for record in whole if record.id != place]
    records.append(make_record(cell_of(papers[1], "squeezenet", dead), 2, 1.0))
    before, after = (assess(papers, found).cells for found in (whole, records))
    for key, result in after.items():
        if key[:2] != ("table2", "squeezenet") or key[2] == "ce" or dead not in ("ce", key[2]):
            continue
        assert before[key].verdict in (Verdict.REPRODUCED, Verdict.UNDECIDED)
        assert (result.verdict, result.decided, result.seeds_needed) == (Verdict.CHANCE, True, None)
        whose = "cross-entropy run" if dead == "ce" else "run"
        assert result.verdict_words == f"chance level, with 1 of 5 {whose}s no better than guessing"
        assert result.answers is None
        assert result.delta is not None
        assert (result.delta.std, result.delta.low, result.delta.superiority) == (None, None, None)
    runs = after["table2", "squeezenet", dead].runs
    assert [record.id for record in runs.at_chance] == [place]
    assert runs.n == 5, "it is in the mean"
    assert after["table2", "densenet_k12", "bias"].verdict is before["table2", "densenet_k12", "bias"].verdict
    planned = plan_seeds(papers, assess(papers, records), lambda cell: 1.0)
    assert "table2/squeezenet/bias" not in {need.cell.id for need in planned.needs}


def test_a_claim_is_not_answered_from_a_run_at_chance_level(
    papers: list[Table], as_printed: AsPrinted, make_record: MakeRecord
) -> None:
    whole = as_printed(papers, 5, np.random.default_rng(3))
    records = [record for record in whole if record.id != "table2/squeezenet/ce/seed-0"]
    records.append(make_record(cell_of(papers[1], "squeezenet", "ce"), 0, 1.0))
    claims = {claim.id: claim for claim in assess_claims(papers, assess(papers, records))}
    assert claims["inverse_below_ce"].answer is Answer.UNDECIDED
    assert "too few paired seeds of SqueezeNet" in claims["inverse_below_ce"].words


def test_the_same_record_twice_counts_once(papers: list[Table], as_printed: AsPrinted) -> None:
    records = as_printed(papers, 3, np.random.default_rng(2))
    assert dict(assess(papers, records * 2).cells) == dict(assess(papers, records).cells)


def test_nothing_is_imputed(papers: list[Table], as_printed: AsPrinted) -> None:
    """A seed that cross-entropy lacks is in no number of its row; one that a loss lacks, in none of that loss."""
    records = as_printed(papers, 5, np.random.default_rng(3))
    neither = [record for record in records if record.seed != 2]
    no_baseline = [record for record in records if record.seed != 2 or record.column != "ce"]
    pairs = zip(with_delta(assess(papers, no_baseline)), with_delta(assess(papers, neither)), strict=True)
    for with_one, with_none in pairs:
        assert with_one.delta == with_none.delta
        assert with_one.verdict == with_none.verdict
        assert len(with_one.unpaired) == 1
    no_loss = assess(papers, [record for record in records if record.seed != 2 or record.column != "bias"])
    key = ("table2", "squeezenet", "bias")
    lacking, beside = no_loss.cells[key].delta, no_loss.cells["table2", "squeezenet", "mean_bias"].delta
    without = assess(papers, neither).cells[key].delta
    assert lacking is not None
    assert beside is not None
    assert without is not None
    assert (lacking.seeds, lacking.mean, lacking.low, lacking.p) == (
        without.seeds,
        without.mean,
        without.low,
        without.p,
    )
    assert (beside.n, beside.df) == (5, 11)  # 19 runs less 4 arms and 4 more seeds


def test_two_seeds_have_a_mean_and_no_spread(papers: list[Table], as_printed: AsPrinted) -> None:
    for result in with_delta(assess(papers, as_printed(papers, 2, np.random.default_rng(4)))):
        assert result.delta is not None
        assert result.delta.n == 2
        assert (result.delta.std, result.delta.low, result.delta.superiority) == (None, None, None)
        assert (result.delta.p, result.verdict) == (1.0, Verdict.UNDECIDED)


def test_without_runs_there_is_no_verdict_but_the_seeds_it_takes(papers: list[Table]) -> None:
    assessment = assess(papers, [])
    for result in with_delta(assessment):
        assert result.verdict is result.delta is None
        assert result.seeds_needed is not None
        assert result.level == pytest.approx(0.05 / (21 if result.prints_none else 18))
        assert result.small_level == pytest.approx(0.05 / 21)
    assert assessment.cells["table2", "shufflenetv2", "bias"].seeds_needed == 10
    assert all(result.verdict is None for result in assessment.cells.values())


def test_the_seeds_still_needed_are_said_until_there_is_a_verdict(papers: list[Table], as_printed: AsPrinted) -> None:
    records = as_printed(papers, 24, np.random.default_rng(5))
    still_open = []
    for n in (3, 6, 12, 24):
        results = with_delta(assess(papers, [record for record in records if record.seed < n]))
        for result in results:
            refutable = abs(result.paper_delta or 0) > SMALLEST_EFFECT
            if result.verdict is not Verdict.UNDECIDED or refutable or n < 12:
                assert (result.seeds_needed is None) == (result.verdict is not Verdict.UNDECIDED)
            assert result.seeds_needed is None or result.seeds_needed > 0
        still_open.append(sum(result.seeds_needed is not None for result in results))
    assert still_open == sorted(still_open, reverse=True)
    assert still_open[-1] <= 6  # two deltas of 0.1, and the 0.4s


def test_a_family_is_both_tables_whatever_was_run(papers: list[Table], as_printed: AsPrinted) -> None:
    records = as_printed(papers[1:], 5, np.random.default_rng(6))
    few = assess(papers, [record for record in records if record.row == "squeezenet"])
    for result in with_delta(few):
        if result.row == "squeezenet" and result.delta:
            others = 18 if result.prints_none else 15  # of its own row, three may be found before it
            assert result.delta.p_adjusted >= min(1, others * result.delta.p)
    for key, after in assess(papers, records).cells.items():
        before = few.cells[key]
        if key[1] == "squeezenet" and before.delta and after.delta:
            assert before.delta.p == after.delta.p
            assert before.delta.p_adjusted >= after.delta.p_adjusted


def test_another_row_changes_no_estimate_and_another_loss_of_the_row_sharpens_it(
    papers: list[Table], as_printed: AsPrinted
) -> None:
    records = as_printed(papers, 5, np.random.default_rng(16))
    key = ("table2", "squeezenet", "bias")
    row = [record for record in records if record.row == "squeezenet"]
    pair_only = [record for record in row if record.column in ("ce", "bias")]
    everything, alone, pair = (assess(papers, found).cells[key] for found in (records, row, pair_only))
    assert everything.delta is not None
    assert alone.delta is not None
    assert pair.delta is not None
    assert (everything.delta.mean, everything.delta.low) == (alone.delta.mean, alone.delta.low)
    assert everything.delta.p == alone.delta.p
    assert (alone.delta.df, pair.delta.df) == (12, 4)
    assert pair.delta.mean == alone.delta.mean
    assert pair.delta.std == alone.delta.std


def test_runs_at_chance_level_of_another_loss_do_not_widen_a_cell(
    papers: list[Table], as_printed: AsPrinted, make_record: MakeRecord
) -> None:
    whole = as_printed(papers[1:], 5, np.random.default_rng(3))
    records = [record for record in whole if record.id != "table2/squeezenet/mean_bias/seed-2"]
    records.append(make_record(cell_of(papers[1], "squeezenet", "mean_bias"), 2, 1.0))
    result = assess(papers, records).cells["table2", "squeezenet", "bias"]
    assert result.delta is not None
    assert result.delta.df == 8  # of the three other arms
    assert result.delta.pooled_std is not None
    assert result.delta.pooled_std < 1


def test_diverged_runs_are_in_the_words_of_the_verdict(
    papers: list[Table], as_printed: AsPrinted, make_record: MakeRecord, declared: Declare
) -> None:
    records = as_printed(papers, 5, np.random.default_rng(3), std=0.05)
    bias, ce = (cell_of(papers[1], "squeezenet", column) for column in ("bias", "ce"))
    lost = [make_record(bias, seed, None, status="diverged", reason="nan") for seed in range(5, 10)]
    result = assess(papers, [*records, *lost]).cells["table2", "squeezenet", "bias"]
    assert result.verdict is Verdict.REPRODUCED
    assert result.verdict_words == "reproduced, with 5 of 10 runs diverged"
    lost.append(make_record(ce, 7, None, status="diverged", reason="nan"))
    both = assess(papers, [*records, *lost]).cells["table2", "squeezenet", "bias"]
    assert both.verdict_words == "reproduced, with 5 of 10 runs diverged and 1 of 6 cross-entropy runs diverged"
    looks = declared(papers[1:], Looks((5, 10), "pocock"))  # at the first of which none had
    decided = assess(papers, [*records, *lost], looks=looks).cells["table2", "squeezenet", "bias"]
    assert (decided.look, decided.verdict_words) == (5, "reproduced")


def test_an_effect_the_other_way_is_its_own_verdict(papers: list[Table], as_printed: AsPrinted) -> None:
    results = with_delta(assess(papers, as_printed(papers, 6, np.random.default_rng(5), scale=-1.0, std=0.05)))
    assert {result.verdict for result in results if not result.prints_none} == {Verdict.OPPOSITE}
    for result in results:
        if not result.prints_none:
            assert result.delta is not None
            assert result.answers is not None
            assert result.answers.opposite is not None
            assert result.delta.p_adjusted == result.answers.opposite.p_adjusted < 0.05


def test_a_difference_within_its_rounding_is_asked_for_equivalence_alone(
    papers: list[Table], as_printed: AsPrinted
) -> None:
    results = with_delta(assess(papers, as_printed(papers, 10, np.random.default_rng(15))))
    none = {(result.row, result.column): result for result in results if result.prints_none}
    assert set(none) == {("mobilenetv2", "mean_bias"), ("squeezenet", "mean_bias"), ("densenet_k12", "mean_bias")}
    for result in none.values():
        assert result.answers is not None
        assert result.answers.effect is None
        assert result.verdict is (Verdict.REPRODUCED if result.answers.small.holds else Verdict.UNDECIDED)


def test_our_baseline_is_flagged_when_it_is_more_than_a_point_off(
    papers: list[Table], as_printed: AsPrinted, make_record: MakeRecord
) -> None:
    for offset, far in ((0.9, False), (1.1, True), (-1.1, True)):
        records = arm_runs(make_record, papers[1], "squeezenet", "ce", dict.fromkeys(range(3), 69.4 + offset))
        result = assess(papers, records).cells["table2", "squeezenet", "bias"]
        assert result.baseline_offset == pytest.approx(offset)
        assert result.baseline_is_far is far
    assert not assess(papers, []).cells["table2", "squeezenet", "bias"].baseline_is_far


def test_the_chance_of_beating_cross_entropy_is_on_the_paper_s_side(papers: list[Table], as_printed: AsPrinted) -> None:
    for result in with_delta(assess(papers, as_printed(papers, 10, np.random.default_rng(7)))):
        assert result.paper_delta is not None
        assert result.delta is not None
        assert result.delta.superiority is not None
        if abs(result.paper_delta) >= 0.6:
            assert (result.delta.superiority - 0.5) * np.sign(result.paper_delta) > 0.3


def test_the_best_epoch_is_another_assessment(papers: list[Table], make_record: MakeRecord) -> None:
    cells = [cell_of(papers[1], "squeezenet", column) for column in ("ce", "bias")]
    records = [
        make_record(cell, seed, 69.0 + seed / 10 + index, best_top1_percent=70.0 + seed / 10 + 2 * index)
        for index, cell in enumerate(cells)
        for seed in range(3)
    ]
    last, best = (assess(papers, records, metric).cells["table2", "squeezenet", "bias"] for metric in ("last", "best"))
    assert last.delta is not None
    assert best.delta is not None
    assert (last.delta.mean, best.delta.mean) == (pytest.approx(1.0), pytest.approx(2.0))
    assert last.runs.mean == pytest.approx(70.1)


def test_a_changed_protocol_stands_beside_nothing(make_record: MakeRecord) -> None:
    table = find_table("table2+recipe.epochs=2")
    runs = [
        run
        for column, mean in (("ce", 30.0), ("bias", 31.0))
        for run in arm_runs(make_record, table, "squeezenet", column, {s: mean + s % 2 for s in range(3)})
    ]
    result = assess([table], runs).cells[table.id, "squeezenet", "bias"]
    assert (result.paper_delta, result.paper_top1, result.verdict, result.baseline_offset) == (None, None, None, None)
    assert result.delta is not None


def test_a_variant_is_held_against_the_row_it_stands_beside(papers: list[Table], make_record: MakeRecord) -> None:
    variants = find_table("table2_variants")
    runs = [
        run
        for column, mean in (("ce", 69.5), ("bias", 71.0))
        for run in arm_runs(
            make_record,
            variants,
            "shufflenetv2_x1_0",
            column,
            {s: mean + [0.1, -0.2, 0.1, 0.3, 0][s] for s in range(5)},
        )
    ]
    runs[1] = runs[1].model_copy(update={"last_top1_percent": 69.5})
    result = assess([*papers, variants], runs).cells["table2_variants", "shufflenetv2_x1_0", "bias"]
    assert result.paper_delta == 1.5
    assert result.verdict is Verdict.REPRODUCED
    # a family of its own, so that it costs the paper's tables nothing
    assert result.delta is not None
    cells = sum(
        len(variants.columns) - 1
        for row in variants.rows
        if assess([*papers, variants], runs).cells["table2_variants", row.id, "bias"].paper_delta is not None
    )
    assert cells > 1
    assert result.delta.p_adjusted < cells * result.delta.p + 1e-12
    assert assess([variants], runs).cells["table2_variants", "shufflenetv2_x1_0", "bias"].verdict is None


def test_the_product_takes_table_2s_runs_and_table_2_takes_nobodys(
    papers: list[Table], make_record: MakeRecord, as_printed: AsPrinted
) -> None:
    product = find_table("product")
    records = as_printed(papers, 5, np.random.default_rng(8))
    own = make_record(cell_of(product, "squeezenet", "bias"), 0, 12.5)
    only_here = make_record(cell_of(product, "squeezenet", "bias"), 30, 12.5)
    assessment = assess([*papers, product], [*records, own, only_here], lending=equal_cells(product, papers))
    borrowed = assessment.cells["product", "squeezenet", "ce"].runs
    assert borrowed.top1_percent == assessment.cells["table2", "squeezenet", "ce"].runs.top1_percent
    assert borrowed.completed[0].id == "table2/squeezenet/ce/seed-0"
    mixed = assessment.cells["product", "squeezenet", "bias"].runs
    assert [record.id for record in mixed.completed[:2]] == [
        "product/squeezenet/bias/seed-0",
        "table2/squeezenet/bias/seed-1",
    ]
    assert mixed.seeds == (0, 1, 2, 3, 4, 30)
    assert assessment.cells["table2", "squeezenet", "bias"].runs.seeds == (0, 1, 2, 3, 4)


def test_of_two_tables_that_could_lend_a_run_the_same_one_always_does(
    papers: list[Table], make_record: MakeRecord
) -> None:
    lenders = [papers[1], find_table("normalization")]
    records = [make_record(cell_of(table, "squeezenet", "ce"), 0, 60.0 + i) for i, table in enumerate(lenders)]
    product = find_table("product")
    lending = equal_cells(product, lenders)
    for order in (records, records[::-1]):
        arm = assess([*lenders, product], order, lending=lending).cells["product", "squeezenet", "ce"].runs
        assert [record.id for record in arm.completed] == ["normalization/squeezenet/ce/seed-0"]


def test_with_looks_a_cell_is_judged_at_the_one_that_answers_it_or_the_last(
    papers: list[Table], as_printed: AsPrinted, declared: Declare
) -> None:
    looks = Looks((4, 8), "pocock")
    records = as_printed(papers, 9, np.random.default_rng(9))
    fixed = assess(papers, [record for record in records if record.seed < 4])
    at_first: set[CellKey] = set()
    for n, look in ((3, None), (4, 4), (6, 4), (8, 8), (9, 8)):
        enough = [record for record in records if record.seed < n]
        assessment = assess(papers, enough, looks=declared(papers, looks))
        for key, result in assessment.cells.items():
            if result.paper_delta is None:
                continue
            if look is None:
                assert (result.delta, result.look, result.verdict) == (None, None, Verdict.UNDECIDED)
                assert result.seeds_needed == 1
                continue
            if n == 4 and result.decided:
                at_first.add(key)
            assert result.look == (4 if key in at_first else look)
            assert result.delta is not None
            assert result.delta.seeds == tuple(range(result.look or 0))
            if result.verdict is Verdict.UNDECIDED:
                assert result.seeds_needed == (8 - n if n < 8 else None)
            if result.look == 4:
                before = fixed.cells[result.table, result.row, result.column].delta
                assert before is not None
                assert before.mean == result.delta.mean
                assert result.delta.p > before.p
                assert result.delta.high is not None
                assert before.high is not None
                t = scipy.stats.t(before.df)
                half = t.isf(float(look_levels(looks, 0.05)[0]) / 2) / t.isf(0.025)
                assert result.delta.high - result.delta.mean == pytest.approx(half * (before.high - before.mean))


LARGE = 0.85  # points: eight cells print more
SEEDS = 6


def reproductions(papers: list[Table], as_printed: AsPrinted, scale: float, count: int) -> list[Assessment]:
    rng = np.random.default_rng([int(10 * scale), count])
    return [assess(papers, as_printed(papers, SEEDS, rng, scale=scale)) for _ in range(count)]


def shares(assessment: Assessment) -> list[float]:
    """The share of each verdict among the cells with a large printed delta."""
    given = [result.verdict for result in with_delta(assessment) if abs(result.paper_delta or 0) > LARGE]
    return [given.count(verdict) / len(given) for verdict in Verdict]


def expected_shares(papers: list[Table], scale: float, draws: int) -> np.ndarray:
    """The same shares, (draws, verdicts), by arrays: fresh arms for each row, Holm over the 21 cells."""
    rows: dict[tuple[str, str], list[float]] = {}
    for result in with_delta(assess(papers, [])):
        rows.setdefault((result.table, result.row), []).append(result.paper_delta or 0.0)
    deltas = list(rows.values())
    paper = np.array([delta for row in deltas for delta in row])
    of_blocks = []
    for noise in blocks(deltas, SEEDS, 0.25, draws):
        of_blocks.append(judged(measured_cells(with_effects(noise, deltas, scale), SEEDS), Printed.of(paper))[0])
    verdicts = np.concatenate(of_blocks)
    large = verdicts[:, np.abs(paper) > LARGE]
    return np.stack([(large == verdict).mean(axis=1) for verdict in Verdict], axis=1)


def assert_the_path_holds(papers: list[Table], as_printed: AsPrinted, count: int) -> None:
    """Through everything: no effect, half of the paper's, and the paper's, in every cell of both tables."""
    for scale in (0.0, 0.5, 1.0):
        assessments = reproductions(papers, as_printed, scale, count)
        expected = expected_shares(papers, scale, draws=4_000)
        tolerance = 4 * expected.std(axis=0) * math.sqrt(1 / count + 1 / len(expected)) + 1e-3
        assert (np.abs(np.mean([*map(shares, assessments)], axis=0) - expected.mean(axis=0)) < tolerance).all(), scale
        deltas = [(one.delta, scale * (one.paper_delta or 0)) for each in assessments for one in with_delta(each)]
        covered = [one.low <= truth <= one.high for one, truth in deltas if one and one.low and one.high]
        assert len(covered) == 21 * count
        # the cells of a row share its cross-entropy: errors as of 11 rows, not of 21 cells
        assert abs(np.mean(covered) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / (11 * count))
        if scale == 0:
            effects = [[one.answers.effect for one in with_delta(each) if one.answers] for each in assessments]
            found = [any(effect.holds for effect in tests if effect) for tests in effects]
            assert np.mean(found) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / count)


def test_the_whole_path_gives_the_rates_that_the_protocol_implies(papers: list[Table], as_printed: AsPrinted) -> None:
    assert_the_path_holds(papers, as_printed, count=30)


@pytest.mark.slow
def test_and_gives_them_over_many_more_reproductions(papers: list[Table], as_printed: AsPrinted) -> None:
    assert_the_path_holds(papers, as_printed, count=150)


def of_verdict(verdict: Verdict) -> int:
    return list(Verdict).index(verdict)


def test_the_chances_that_a_plan_shows_are_those_of_the_protocol(papers: list[Table]) -> None:
    there, none = (expected_shares(papers, scale, draws=4_000).mean(axis=0) for scale in (1.0, 0.0))
    planned = [one for one in expected_verdicts(papers, assess(papers, []), SEEDS) if abs(one.paper_delta) > LARGE]
    assert len(planned) == 8
    reproduced, refuted = (fmean(getattr(one, name) for one in planned) for name in ("reproduced", "refuted"))
    assert reproduced == pytest.approx(there[of_verdict(Verdict.REPRODUCED)], abs=0.015)
    assert refuted == pytest.approx(none[of_verdict(Verdict.NOT_REPRODUCED)], abs=0.015)
    # which tables are shown changes no chance: the family is the same
    alone = expected_verdicts(papers[1:], assess(papers, []), SEEDS)
    assert [one.cell for one in alone] == [result_id for result_id in _ids(papers) if result_id.startswith("table2")]
    assert {one.cell: one.reproduced for one in alone if abs(one.paper_delta) > LARGE}.items() <= {
        one.cell: one.reproduced for one in planned
    }.items()


def _ids(papers: list[Table]) -> list[str]:
    return [f"{one.table}/{one.row}/{one.column}" for one in with_delta(assess(papers, []))]


def test_six_seeds_tell_effects_of_a_point_from_none(papers: list[Table]) -> None:
    """With Holm over both tables, at six seeds: what is there is found, and what is not is never called reproduced."""
    there, none = (expected_shares(papers, scale, draws=4_000).mean(axis=0) for scale in (1.0, 0.0))
    assert there[of_verdict(Verdict.REPRODUCED)] > 0.98
    assert there[of_verdict(Verdict.NOT_REPRODUCED)] < 0.001
    assert none[of_verdict(Verdict.REPRODUCED)] < 0.005
    assert none[of_verdict(Verdict.NOT_REPRODUCED)] > 0.2


def test_a_column_of_which_nothing_is_printed_changes_no_preregistered_answer(
    papers: list[Table], as_printed: AsPrinted, declared: Declare
) -> None:
    """Nobody waits for its runs, so whoever adds them later could choose among verdicts."""
    records = as_printed(papers[1:], 6, np.random.default_rng(4))
    rows = []
    for row in papers[1].rows:
        assert row.published is not None
        printed = {name: row.published.top1_percent[name] for name in ("ce", "bias")}
        rows.append(row.model_copy(update={"published": row.published.model_copy(update={"top1_percent": printed})}))
    table = papers[1].model_copy(update={"rows": tuple(rows)})
    looks = declared([table], Looks((4, 8), "pocock"))
    only = assess([table], [record for record in records if record.column in printed], looks=looks)
    everything = assess([table], records, looks=looks)
    for key in [key for key in only.cells if key[2] == "bias"]:
        assert only.cells[key].look == 4
        assert (only.cells[key].delta, only.cells[key].verdict) == (
            everything.cells[key].delta,
            everything.cells[key].verdict,
        )


def test_the_seeds_that_decide_any_cell_reckon_with_an_effect_the_other_way(
    papers: list[Table], as_printed: AsPrinted, make_record: MakeRecord
) -> None:
    """When most effects are shown, one the other way is still tested at the strictest level."""
    n, place = 50, ("table1", "resnet18", "bias")
    others = [record for record in as_printed(papers, n, np.random.default_rng(7), std=0.1) if record.row != "resnet18"]
    wave = np.resize([1.0, -1.0], n) * 0.7 * math.sqrt((n - 1) / n)
    ours = [make_record(cell_of(papers[0], "resnet18", "bias"), seed, 69.74 + wave[seed]) for seed in range(n)]
    base = [make_record(cell_of(papers[0], "resnet18", "ce"), seed, 70.0) for seed in range(n)]
    result = assess(papers, [*others, *ours, *base]).cells[place]
    assert result.verdict is Verdict.UNDECIDED
    assert result.opposite_level is not None
    assert result.level is not None
    assert result.opposite_level < result.level
    assert result.seeds_needed is not None
    assert result.seeds_needed > 10
    assert result.small_level is not None
    total = n + result.seeds_needed
    levels = {"level": result.opposite_level, "small_level": result.small_level}
    assert total == seeds_to_be_sure(result.paper_delta or 0.0, 0.7, **levels)
