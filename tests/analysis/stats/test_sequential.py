"""Declared looks, from fake runs to decisions: errors, savings, purity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from repro.analysis.assessment import Assessment, assess
from repro.analysis.preregistration import Declaration
from repro.analysis.sample_size import next_runs, runs_to_last_look
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import THREE_ANSWERS, Asked, Printed, Rule, Verdict, cell_p
from repro.analysis.stats.estimates import Estimate, p_two_sided, paired
from repro.analysis.stats.half_delta_rule import HALF_DELTA
from repro.analysis.stats.holm import holm
from repro.analysis.stats.row import Measured
from repro.analysis.stats.sequential import Followed, follow
from repro.analysis.stats.simulation import expected_course, measured_cells
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run, Table
from repro.results import RunRecord

MakeRecord = Callable[..., RunRecord]
Declare = Callable[..., dict[str, Declaration]]

LOOKS = Looks((5, 10, 20), "pocock")
TABLE_2 = [[-0.6, 0.7, 1.5], [-0.4, 0.1, 0.6], [-0.4, 0.6, 0.8], [-0.4, 0.1, 1.0], [-0.8, 0.0, 1.0]]
TABLE_1 = [0.9, 1.0, 1.1, -0.8, -1.1, -0.9]
FAMILY = 21


def summary(differences: np.ndarray) -> Estimate:
    n = differences.shape[-1]
    return paired(differences.mean(-1), differences.std(-1, ddof=1), np.full(differences.shape[:-1], n))


def courses(paper: Sequence[float], truth: Sequence[float], looks: Looks, draws: int, *, family: int) -> Followed:
    """Cells of one row that share their cross-entropy, followed to the end; the family's other cells print a point."""
    rng = np.random.default_rng(4)
    row = rng.normal(0, 0.25, (draws, len(paper) + 1, looks.seeds[-1])) + np.array([0.0, *truth])[:, None]
    measured = [measured_cells([row], n, others_before=looks.seeds[0]) for n in looks.seeds]
    reached = np.ones((draws, len(paper), len(looks.seeds)))
    others = Printed.of([1.0] * (family - len(paper)))
    return follow(measured, reached, Printed.of(paper), looks, others=others)


@pytest.mark.parametrize("looks", [LOOKS, Looks((3, 5, 8, 10)), Looks(tuple(range(3, 11)), "pocock")])
def test_without_any_effect_the_family_s_error_is_at_most_alpha_however_one_stops(looks: Looks) -> None:
    draws, cells = 20_000, 4
    found = courses([1.0, -0.8, 0.6, 1.5], [0.0] * cells, looks, draws, family=cells)
    for test in (Asked.EFFECT, Asked.OPPOSITE):
        wrong = float(np.mean((found.p_adjusted[test] < 0.05).any(axis=1)))
        assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
        assert wrong > 0.015  # and it is not bought by never finding anything
    wrong = float(np.mean((found.p_adjusted[Asked.EFFECT] < 0.05).any(axis=1)))
    found_ours = np.isin(found.verdict, [Verdict.REPRODUCED.value, Verdict.PARTLY.value])
    assert found_ours.any(axis=1).mean() < wrong + 1e-12


def test_true_effects_in_some_cells_do_not_raise_the_error_of_the_others() -> None:
    draws = 20_000
    found = courses([1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 0.0, 0.0], LOOKS, draws, family=4)
    effect = found.p_adjusted[Asked.EFFECT]
    wrong = float(np.mean((effect[:, 2:] < 0.05).any(axis=1)))
    assert wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)
    assert (effect[:, :2] < 0.05).mean() > 0.99


@pytest.mark.parametrize(("first", "last", "expected"), [(3, 10, 0.167), (3, 7, 0.134), (5, 10, 0.125), (3, 20, 0.230)])
def test_looking_without_correction_at_one_cell_fails_the_very_same_test(
    first: int, last: int, expected: float
) -> None:
    """A look after each seed from ``first`` to ``last``, p below 0.05: the figures of docs/report.md."""
    draws = 20_000
    differences = np.random.default_rng(5).normal(0, 0.35, (draws, last))
    naive = np.stack([p_two_sided(summary(differences[:, :n])) for n in range(first, last + 1)], axis=-1) < 0.05
    rate = float(naive.any(axis=1).mean())
    assert rate == pytest.approx(expected, abs=0.01)
    assert rate > 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


def test_holm_at_every_look_without_correction_for_the_looks_does_not_hold_the_family() -> None:
    draws, columns = 4_000, [1] * 6 + [len(row) for row in TABLE_2]
    rng = np.random.default_rng(7)
    rows = [rng.normal(0, 0.25, (draws, k, 10)) - rng.normal(0, 0.25, (draws, 1, 10)) for k in columns]
    differences = np.concatenate(rows, axis=1)
    assert differences.shape[1] == FAMILY
    looked = [(holm(p_two_sided(summary(differences[..., :n]))) < 0.05).any(axis=1) for n in range(3, 11)]
    assert max(map(np.mean, looked)) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)  # a single look does
    assert np.any(looked, axis=0).mean() == pytest.approx(0.22, abs=0.02)


def test_with_the_same_looks_declared_it_holds() -> None:
    draws = 20_000
    every = Looks(tuple(range(3, 11)), "pocock")
    ours = courses([1.0], [0.0], every, draws, family=1)
    assert float((ours.p_adjusted[Asked.EFFECT] < 0.05).mean()) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


def test_a_true_effect_of_the_paper_s_size_is_seldom_called_not_reproduced() -> None:
    draws = 20_000
    found = courses([1.0], [1.0], LOOKS, draws, family=FAMILY)
    assert float((found.verdict == Verdict.NOT_REPRODUCED.value).mean()) < 0.001
    half = courses([1.0], [0.5], LOOKS, draws, family=FAMILY)
    missed = float((half.verdict == Verdict.NOT_REPRODUCED.value).mean())
    assert missed < 0.01  # at the smallest effect of interest, all looks together, after Holm


@pytest.mark.parametrize(("delta", "truth", "seeds", "answered"), [(1.0, 1.0, 7.3, 1.0), (1.0, 0.0, 17.0, 0.99)])
def test_stopping_saves_seeds_of_twenty_for_an_effect_of_a_point(
    delta: float, truth: float, seeds: float, answered: float
) -> None:
    found = courses([delta], [truth], LOOKS, 20_000, family=FAMILY)
    stopped = np.array(LOOKS.seeds)[found.look]
    assert stopped.mean() == pytest.approx(seeds, abs=1.0)
    assert (found.verdict != Verdict.UNDECIDED.value).mean() == pytest.approx(answered, abs=0.02)


def test_all_of_table_2_takes_212_of_400_runs_if_the_effects_are_the_paper_s_and_318_if_there_are_none() -> None:
    paper, none = (expected_course(TABLE_2, LOOKS, others=Printed.of(TABLE_1), scale=scale) for scale in (1.0, 0.0))
    assert paper.runs == pytest.approx(212, abs=4)
    assert none.runs == pytest.approx(318, abs=4)
    assert paper.decided == pytest.approx(0.985, abs=0.02)
    assert none.decided == pytest.approx(0.80, abs=0.02)
    for row, shared in zip(paper.cell_seeds, paper.baseline_seeds, strict=True):
        assert shared >= max(row) - 1e-9  # pairs need cross-entropy as long as any cell of the row goes on
    late = expected_course(TABLE_2, Looks((5, 10, 20)), others=Printed.of(TABLE_1), scale=1.0)
    assert late.runs > paper.runs + 50  # almost nothing may be spent early, and Student's t asks for much at 5 seeds


def test_under_the_rule_of_before_the_course_is_what_it_was() -> None:
    """Of a preregistration without a rule: 288 of 400 runs, and 311 without effects."""
    paper, none = (
        expected_course(TABLE_2, LOOKS, others=Printed.of(TABLE_1), scale=scale, rule=HALF_DELTA)
        for scale in (1.0, 0.0)
    )
    assert paper.runs == pytest.approx(288, abs=6)
    assert none.runs == pytest.approx(311, abs=6)
    assert paper.decided == pytest.approx(0.85, abs=0.02)


def alone(estimate: Estimate) -> Measured:
    return Measured(estimate, estimate, estimate)


@pytest.mark.parametrize("rule", [THREE_ANSWERS, HALF_DELTA])
def test_one_look_is_the_protocol_without_looks(rule: Rule) -> None:
    rng = np.random.default_rng(6)
    differences = rng.normal(0.5, 0.35, (300, 5, 7))
    measured, printed = alone(summary(differences)), Printed.of([1.0, -0.8, 0.6, 0.5, 0.0])
    found = follow([measured], np.ones((300, 5, 1)), printed, Looks((7,)), rule=rule)
    # above 0.6 a sequential p is as good as 1
    expected = holm(rule.p(measured, printed))
    np.testing.assert_allclose(np.minimum(found.p_adjusted, 0.6), np.minimum(expected, 0.6), rtol=1e-4)
    np.testing.assert_allclose(found.confidence, 0.95)
    assert (found.verdict == rule.judge(measured, printed, expected, 0.05, 0.95)).all()


def test_the_family_s_cells_elsewhere_count_as_never_rejected() -> None:
    measured = alone(summary(np.random.default_rng(6).normal(0.5, 0.35, (1, 2, 7))))
    printed = Printed.of([1.0, 0.1])
    others = Printed.of([0.7, 0.0, math.nan, -0.8])
    found = follow([measured], np.ones((1, 2, 1)), printed, Looks((7,)), others=others)
    p = cell_p(measured, printed)
    assert found.p_adjusted[Asked.EFFECT, 0, 0] == pytest.approx(3 * p[Asked.EFFECT, 0, 0], rel=1e-3)
    assert np.isnan(found.p_adjusted[Asked.EFFECT, 0, 1])
    smallest = p[Asked.SMALL, 0].min()
    assert found.p_adjusted[Asked.SMALL, 0].min() == pytest.approx(min(5 * smallest, 1), rel=1e-3)


def test_a_look_waits_for_every_open_cell_and_for_no_decided_one() -> None:
    differences = np.array([[1.0], [0.2], [0.2]]) + np.array([[0.1], [0.5], [0.5]]) * np.tile([1, -1], 4)
    measured = [alone(summary(differences[:, :n])) for n in (4, 8)]
    paper = Printed.of([1.0, 0.4, 0.4])

    def looked(*seeds: int) -> list[int]:
        reached = [[n >= 4, n >= 8] for n in seeds]
        return list(follow(measured, reached, paper, Looks((4, 8), "pocock")).look)

    assert looked(4, 4, 3) == [-1, -1, -1]
    assert looked(4, 4, 4) == [0, 0, 0]
    assert looked(4, 8, 7) == [0, 0, 0]
    assert looked(4, 8, 8) == [0, 1, 1]
    assert looked(8, 8, 8) == [0, 1, 1]


def test_a_decided_cell_keeps_its_verdict_whatever_the_others_become() -> None:
    """Holm's adjustment of one cell falls once another is found; its own analysis stays what it was."""
    first = Estimate(np.array([0.15, 0.9]), np.array([0.05, 0.5]), np.array([3.0, 3.0]))
    later = Estimate(first.value, np.array([0.05, 0.01]), np.array([7.0, 7.0]))
    single = Estimate(first.value, np.array([0.2, 0.2]), first.df)
    measured = [Measured(first, first, single), Measured(later, later, single)]
    looks, printed = Looks((4, 8), "pocock"), Printed.of([1.0, 1.0])
    after_one = follow(measured, [[True, False]] * 2, printed, looks)
    both = follow(measured, [[True, True]] * 2, printed, looks)
    assert list(after_one.verdict) == [Verdict.NOT_REPRODUCED.value, Verdict.UNDECIDED.value]
    assert list(both.verdict) == [Verdict.NOT_REPRODUCED.value, Verdict.REPRODUCED.value]
    assert after_one.p_adjusted[Asked.EFFECT, 0] > 0.05 > both.p_adjusted[Asked.EFFECT, 0]


def test_a_cell_that_has_ended_gets_no_verdict_from_a_look_that_it_does_not_take() -> None:
    std = np.array([0.4, 0.5])
    first = Estimate(np.array([1.0, 0.9]), std, np.array([9.0, 3.0]))
    later = Estimate(first.value, np.array([0.4, 0.01]), np.array([9.0, 7.0]))
    measured = [Measured(one, one, Estimate(first.value, np.array([0.3, 0.3]), first.df)) for one in (first, later)]
    looks, printed = Looks((4, 8), "pocock"), Printed.of([1.0, 1.0])
    found = follow(measured, [[True, False], [True, True]], printed, looks, ended=[True, False])
    assert list(found.look) == [0, 1]
    assert list(found.verdict) == [Verdict.UNDECIDED.value, Verdict.REPRODUCED.value]
    assert found.p_adjusted[Asked.EFFECT, 0] < 0.05  # since the other was rejected


@pytest.fixture(scope="module")
def table2() -> Table:
    return find_table("table2")


def one_hour(cell: Cell) -> float:
    return 1.0


def outcome(run: Run, std: float = 0.1) -> float:
    """The accuracy of a run by its id: the same whenever it is trained."""
    assert run.cell.row.published is not None
    noise = np.random.default_rng([*run.id.encode()]).normal(0, std)
    return run.cell.row.published.top1_percent[run.cell.column.id] + float(noise)


def go_on(
    papers: list[Table], looks: dict[str, Declaration], records: list[RunRecord], make: MakeRecord
) -> tuple[Assessment, list[RunRecord]]:
    """Train what is next until nothing is, as a sweep does."""
    table, records = papers[1], list(records)
    while runs := next_runs(table, assess(papers, records, looks=looks), one_hour):
        records += [make(run.cell, run.seed, outcome(run)) for run in runs]
    return assess(papers, records, looks=looks), records


def answers(assessment: Assessment) -> dict[str, tuple[object, ...]]:
    return {
        "/".join(key): (one.verdict, one.look, one.delta)
        for key, one in assessment.cells.items()
        if key[0] == "table2" and one.paper_delta is not None
    }


def test_interrupted_after_any_run_it_ends_with_the_same_runs_and_answers(
    papers: list[Table], make_record: MakeRecord, declared: Declare
) -> None:
    looks = declared(papers[1:], Looks((4, 6), "pocock"))
    whole, records = go_on(papers, looks, [], make_record)
    assert {one.next_look for one in whole.cells.values()} == {None}
    for kept in range(0, len(records), 7):
        again, trained = go_on(papers, looks, records[:kept], make_record)
        assert {one.id for one in trained} == {one.id for one in records}
        assert answers(again) == answers(whole)


def test_neither_further_seeds_nor_the_other_table_change_an_answer(
    papers: list[Table], make_record: MakeRecord, declared: Declare, as_printed: Callable[..., list[RunRecord]]
) -> None:
    looks = declared(papers[1:], Looks((3, 7), "pocock"))
    whole, records = go_on(papers, looks, [], make_record)
    assert {one.look for one in whole.cells.values() if one.look} == {3, 7}
    there = {record.id for record in records}
    every = [Run(cell=cell, seed=seed) for cell in papers[1].cells for seed in range(12)]
    more = [make_record(run.cell, run.seed, 10.0) for run in every if run.id not in there]
    more += as_printed(papers[:1], 6, np.random.default_rng(0))
    assert answers(assess(papers, [*more, *records], looks=looks)) == answers(whole)


def test_a_seed_that_is_missing_keeps_the_look_waiting_and_a_diverged_one_is_left_out(
    papers: list[Table], make_record: MakeRecord, declared: Declare
) -> None:
    looks = declared(papers[1:], Looks((4, 6), "pocock"))
    cells = papers[1].cells
    records = [make_record(cell, seed, outcome(Run(cell=cell, seed=seed))) for cell in cells for seed in range(4)]
    bias = next(cell for cell in cells if cell.id == "table2/squeezenet/bias")
    key = ("table2", "squeezenet", "bias")
    without = [record for record in records if record.id != f"{bias.id}/seed-1"]
    # no substitute for the seed that is missing
    ce = next(cell for cell in cells if cell.id == "table2/squeezenet/ce")
    later = [make_record(bias, 4, 99.0), make_record(ce, 4, 69.0)]
    missing = assess(papers, [*without, *later], looks=looks)
    assert {one.look for one in missing.cells.values()} == {None}
    assert [run.id for run in next_runs(papers[1], missing)] == [f"{bias.id}/seed-1"]
    diverged = make_record(bias, 1, None, status="diverged", reason="loss is nan")
    lost = assess(papers, [*without, *later, diverged], looks=looks).cells[key]
    assert lost.look == 4
    assert lost.delta is not None
    assert lost.delta.seeds == (0, 2, 3)
    assert [one.reason for one in lost.runs.left_out] == ["diverged: loss is nan"]
    alone = [make_record(bias, 0, None, status="diverged", reason="loss is nan")]
    wanted = {run.id for run in next_runs(papers[1], assess(papers, alone, looks=looks)) if run.cell.id == bias.id}
    assert wanted == {f"{bias.id}/seed-{seed}" for seed in (1, 2, 3)}
    doubtful = make_record(bias, 1, 70.0, configuration_hash="0" * 64)
    in_doubt = assess(papers, [*without, doubtful], looks=looks)
    assert {one.look for one in in_doubt.cells.values()} == {None}


def test_a_cell_at_chance_level_asks_for_no_more_seeds_and_what_was_decided_stays(
    papers: list[Table], as_printed: Callable[..., list[RunRecord]], make_record: MakeRecord, declared: Declare
) -> None:
    looks = declared(papers[1:], Looks((4, 7), "pocock"))
    ce, bias = (
        next(cell for cell in papers[1].cells if cell.id == f"table2/squeezenet/{name}") for name in ("ce", "bias")
    )
    dead = [make_record(bias, 0, 1.0)]
    assessment = assess(papers, dead, looks=looks)
    assert assessment.cells["table2", "squeezenet", "bias"].verdict is Verdict.CHANCE
    assert bias.id not in {run.cell.id for run in next_runs(papers[1], assessment)}
    assert bias.id not in {run.cell.id for run in runs_to_last_look(papers[1], assessment)}
    others, _ = go_on(papers, looks, dead, make_record)  # do not wait for it
    unanswered = [key for key, cell in others.cells.items() if cell.look is None and cell.paper_delta is not None]
    assert [key for key in unanswered if key[0] == "table2"] == [("table2", "squeezenet", "bias")]
    whole, records = go_on(papers, looks, [], make_record)
    decided = {key for key, cell in whole.cells.items() if key[1] == "squeezenet" and cell.look == 4 and cell.decided}
    assert decided
    later = [record for record in records if record.id != f"{ce.id}/seed-5"] + [make_record(ce, 5, 1.0)]
    after = assess(papers, later, looks=looks)
    assert {key: after.cells[key].verdict for key in decided} == {key: whole.cells[key].verdict for key in decided}


def test_an_arm_that_always_diverges_comes_to_an_end(
    papers: list[Table], make_record: MakeRecord, declared: Declare
) -> None:
    looks = declared(papers[1:], Looks((3, 5), "pocock"))
    records: list[RunRecord] = []
    for _ in range(5):
        for run in next_runs(papers[1], assess(papers, records, looks=looks)):
            lost = run.cell.id == "table2/squeezenet/bias"
            fields = {"status": "diverged", "reason": "nan"} if lost else {}
            records.append(make_record(run.cell, run.seed, None if lost else outcome(run), **fields))
    assessment = assess(papers, records, looks=looks)
    assert next_runs(papers[1], assessment) == ()
    result = assessment.cells["table2", "squeezenet", "bias"]
    assert (result.look, result.delta, result.verdict) == (5, None, Verdict.UNDECIDED)
    assert (result.next_look, result.seeds_needed) == (None, None)


def test_the_cheapest_cells_come_first_and_cross_entropy_goes_on_with_its_row(
    papers: list[Table], make_record: MakeRecord, declared: Declare, table2: Table
) -> None:
    looks = declared(papers[1:], Looks((4, 6), "pocock"))

    def hours(cell: Cell) -> float:
        return 9.0 if cell.row.id.startswith(("densenet", "nasnet")) else 1.0

    first = next_runs(table2, assess(papers, [], looks=looks), hours)
    assert len(first) == len({run.id for run in first}) == 20 * 4
    costs = [hours(run.cell) for run in first]
    assert costs == sorted(costs)
    records = [make_record(run.cell, run.seed, outcome(run)) for run in first]
    assessment = assess(papers, records, looks=looks)
    second = next_runs(table2, assessment, hours)
    open_rows = {key[1] for key, one in assessment.cells.items() if one.next_look is not None}
    decided = {"/".join(key) for key, one in assessment.cells.items() if one.decided}
    assert decided
    assert not {run.cell.id for run in second} & decided
    assert {run.cell.row.id for run in second if run.cell.column.id == "ce"} == open_rows
    assert {run.id for run in second} == {run.id for run in runs_to_last_look(table2, assessment)}


def test_p_never_grows_from_look_to_look(papers: list[Table], make_record: MakeRecord, declared: Declare) -> None:
    looks = declared(papers[1:], Looks((3, 5, 8)))
    cells = papers[1].cells
    records = [make_record(cell, seed, outcome(Run(cell=cell, seed=seed))) for cell in cells for seed in range(8)]
    courses = [assess(papers, [one for one in records if one.seed < n], looks=looks) for n in (3, 5, 8)]
    for before, after in pairwise(courses):
        for key, one in before.cells.items():
            then = after.cells[key]
            if one.delta and then.delta and key[0] == "table2":
                assert then.delta.p_adjusted <= one.delta.p_adjusted + 1e-12
                assert one.verdict is then.verdict or not one.decided
