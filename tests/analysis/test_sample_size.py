from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from repro.analysis.assessment import Assessment, assess
from repro.analysis.preregistration import Declaration
from repro.analysis.sample_size import SeedPlan, next_runs, plan_seeds
from repro.analysis.stats.alpha_spending import Looks
from repro.analysis.stats.decision_rule import SMALLEST_EFFECT, Verdict
from repro.analysis.stats.power import planning_std, seeds_to_refute, seeds_to_show
from repro.errors import UserError
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run, Table
from repro.results import RunRecord

AsPrinted = Callable[..., list[RunRecord]]
MakeRecord = Callable[..., RunRecord]


def one_hour(cell: Cell) -> float:
    return 1.0


def test_without_runs_every_cell_is_planned_from_the_guess(papers: list[Table]) -> None:
    planned = plan_seeds(papers, assess(papers, []), one_hour)
    assert len(planned.steps) == 21
    for step in planned.steps:
        need = step.need
        assert need.std == pytest.approx(planning_std([]))
        assert need.cell.row.published is not None
        none, arms = abs(need.paper_delta) <= 0.1, len(need.cell.row.published.top1_percent)
        assert need.level == pytest.approx(0.05 / (21 if none else 18))
        assert need.confirm == seeds_to_show(need.paper_delta, need.std, level=need.level, none=none, arms=arms)
        assert need.refute == seeds_to_refute(need.paper_delta, need.std, level=0.05 / 21, arms=arms)
        if abs(need.paper_delta) > SMALLEST_EFFECT:
            assert need.seeds == max(need.confirm or 0, need.refute or 0)
        else:
            assert (need.refute, need.seeds) == (None, need.confirm)
    by_id = {step.need.cell.id: step.need.seeds for step in planned.steps}
    assert by_id["table1/resnet18/bias"] == 13
    assert by_id["table2/shufflenetv2/bias"] == 10
    assert by_id["table2/squeezenet/inverse_bias"] == 12


def test_more_power_or_more_spread_takes_more_seeds(papers: list[Table]) -> None:
    assessment = assess(papers, [])
    plain = plan_seeds(papers, assessment, one_hour).hours
    assert plan_seeds(papers, assessment, one_hour, power=0.95).hours > plain
    assert plan_seeds(papers, assessment, one_hour, guessed_run_std=0.3).hours > plain


def test_a_cost_is_asked_for_again_only_where_runs_were_taken(papers: list[Table]) -> None:
    asked: list[str] = []
    planned = plan_seeds(papers, assess(papers, []), lambda cell: asked.append(cell.id) or 1.0)  # type: ignore[func-returns-value]
    assert len(asked) < 10 * len(planned.steps), "for 2,000 cells, asking all of them at each step takes minutes"


def test_no_run_is_planned_twice_and_each_cell_gets_its_pairs(papers: list[Table]) -> None:
    planned = plan_seeds(papers, assess(papers, []), one_hour)
    ids = [run.id for step in planned.steps for run in step.runs]
    assert len(ids) == len(set(ids))
    so_far: set[str] = set()
    for step in planned.steps:
        so_far.update(run.id for run in step.runs)
        for seed in range(step.need.seeds or 0):
            assert f"{step.need.cell.id}/seed-{seed}" in so_far
            assert f"{step.need.baseline.id}/seed-{seed}" in so_far
        assert step.hours == len(step.runs)


def test_the_next_answer_is_always_the_cheapest_left(papers: list[Table]) -> None:
    def hours(cell: Cell) -> float:
        return 5.0 if cell.row.model.startswith("densenet") else 1.0

    planned = plan_seeds(papers, assess(papers, []), hours)
    first = planned.steps[0]
    assert first.need.cell.id == "table2/shufflenetv2/inverse_bias"
    assert first.hours == min(step.hours for step in planned.steps if len(step.runs) == 2 * (step.need.seeds or 0))
    # mean_bias follows on cross-entropy runs that are there already
    order = [step.need.cell.id for step in planned.steps]
    assert order.index("table2/shufflenetv2/mean_bias") < order.index("table2/mobilenetv2/bias")
    assert order.index("table2/nasnet_a/bias") < order.index("table2/densenet_k12/bias")


@pytest.mark.parametrize(("budget", "cells"), [(0.0, 0), (19.9, 0), (20.0, 1), (29.9, 1), (30.0, 2), (1e9, 15)])
def test_a_budget_answers_the_cells_that_fit_it(papers: list[Table], budget: float, cells: int) -> None:
    planned = plan_seeds(papers[1:], assess(papers, []), one_hour, gpu_hours=budget)
    assert planned.affordable == cells
    assert sum(step.hours for step in planned.steps[:cells]) <= budget


def test_what_is_there_is_not_planned_again(papers: list[Table], as_printed: AsPrinted) -> None:
    assessment = assess(papers, as_printed(papers, 4, np.random.default_rng(0)))
    planned = plan_seeds(papers, assessment, one_hour)
    recorded = {record.id for result in assessment.cells.values() for record in result.runs.completed}
    assert not recorded & {run.id for step in planned.steps for run in step.runs}
    assert all(step.need.paired == 4 for step in planned.steps)
    decided = {(one.table, one.row, one.column) for one in planned.decided}
    open_cells = {tuple(step.need.cell.id.split("/")) for step in planned.steps}
    assert len(decided | open_cells) == 21
    assert not decided & open_cells
    for one in planned.decided:
        assert one.verdict not in (None, Verdict.UNDECIDED)


def test_a_lost_seed_is_replaced_by_the_next_one(papers: list[Table], make_record: MakeRecord) -> None:
    cells = {cell.id: cell for cell in papers[1].cells}
    records = [
        make_record(cells["table2/shufflenetv2/bias"], 1, None, status="diverged", reason="step 3"),
        make_record(cells["table2/shufflenetv2/bias"], 2, 71.0),
        make_record(cells["table2/shufflenetv2/ce"], 0, 69.5),
    ]
    planned = plan_seeds(papers[1:], assess(papers, records), one_hour)
    step = next(step for step in planned.steps if step.need.cell.id == "table2/shufflenetv2/bias")
    assert step.need.seeds == 10
    of_bias = {run.seed for run in planned_runs(planned) if run.cell.id == "table2/shufflenetv2/bias"}
    assert of_bias == {0, *range(3, 11)}  # seed 1 is lost, seed 2 is there: ten pairs from eleven seeds


def between(papers: list[Table], make: MakeRecord, row: str, column: str, mean: float, seeds: int) -> Assessment:
    """One cell whose differences scatter by 0.35 points around ``mean``: too small to show, too large for none."""
    cells = {cell.id: cell for table in papers for cell in table.cells}
    noise = np.random.default_rng(0).normal(0, 1, seeds)
    noise = 0.35 * (noise - noise.mean()) / noise.std(ddof=1)
    return assess(
        papers,
        [make(cells[f"{row}/ce"], seed, 60.0) for seed in range(seeds)]
        + [make(cells[f"{row}/{column}"], seed, 60.0 + mean + float(noise[seed])) for seed in range(seeds)],
    )


def test_an_open_cell_with_the_planned_seeds_is_planned_those_it_lacks(
    papers: list[Table], make_record: MakeRecord
) -> None:
    assessment = between(papers, make_record, "table1/resnet18", "bias", 0.25, 15)
    result = assessment.cells["table1", "resnet18", "bias"]
    assert result.verdict is Verdict.UNDECIDED
    planned = plan_seeds(papers, assessment, one_hour)
    step = next(step for step in planned.steps if step.need.cell.id == "table1/resnet18/bias")
    assert (step.need.refute or 0) <= 15
    assert len(step.runs) == 2 * (result.seeds_needed or 0) > 0
    assert all(step.runs for step in planned.steps)


def test_a_cell_that_no_number_of_seeds_is_sure_to_answer_is_out_of_reach(
    papers: list[Table], make_record: MakeRecord
) -> None:
    assessment = between(papers, make_record, "table2/squeezenet", "inverse_bias", -0.25, 12)
    result = assessment.cells["table2", "squeezenet", "inverse_bias"]
    assert (result.paper_delta, result.verdict, result.seeds_needed) == (-0.4, Verdict.UNDECIDED, None)
    planned = plan_seeds(papers, assessment, one_hour)
    assert [need.cell.id for need in planned.out_of_reach] == ["table2/squeezenet/inverse_bias"]


def test_after_the_last_interim_analysis_nothing_more_is_planned(
    papers: list[Table], as_printed: AsPrinted, declared: Callable[..., dict[str, Declaration]]
) -> None:
    looks = declared(papers[1:], Looks((3, 4), "pocock"))
    records = [record for record in as_printed(papers, 4, np.random.default_rng(0)) if record.table == "table2"]
    assessment = assess(papers, records, looks=looks)
    planned = plan_seeds(papers[1:], assessment, one_hour)
    assert planned.out_of_reach
    assert not planned.steps


def test_a_preregistered_cell_is_planned_to_its_next_interim_analysis(
    papers: list[Table], make_record: MakeRecord, declared: Callable[..., dict[str, Declaration]]
) -> None:
    looks = declared(papers[1:], Looks((5, 10, 20), "pocock"))
    cells = {cell.id: cell for cell in papers[1].cells}

    def planned(of_squeezenet: int, of_others: int) -> SeedPlan:
        noise, records = np.random.default_rng(0), []
        for cell in cells.values():
            seeds = of_squeezenet if cell.row.id == "squeezenet" else of_others
            records += [make_record(cell, seed, 60.0 + float(noise.normal(0, 2))) for seed in range(seeds)]
        return plan_seeds(papers[1:], assess(papers, records, looks=looks), one_hour)

    first = planned(14, 10)  # all are open after the second analysis
    for step in first.steps:
        assert (step.need.seeds, step.need.paired) == (20, 14 if step.need.cell.row.id == "squeezenet" else 10)
    in_all = {run.id for step in first.steps for run in step.runs}
    assert len(in_all) == 4 * 6 + 16 * 10
    for waits_for_others in (planned(10, 7), planned(5, 3)):
        assert {need.cell.row.id for need in waits_for_others.waiting} == {"squeezenet"}
        assert all(step.runs for step in waits_for_others.steps if step.need.cell.column.id != "ce")


def planned_runs(planned: SeedPlan) -> list[Run]:
    return [run for step in planned.steps for run in step.runs]


def test_a_cell_of_its_own_spread_is_planned_with_it(papers: list[Table], as_printed: AsPrinted) -> None:
    narrow = assess(papers, as_printed(papers, 5, np.random.default_rng(1), std=0.02))
    wide = assess(papers, as_printed(papers, 5, np.random.default_rng(1), std=1.5))
    assert max(step.need.std for step in plan_seeds(papers, wide, one_hour).steps) > 1.0
    tight = [step.need.std for step in plan_seeds(papers, narrow, one_hour).steps]
    assert all(std < 0.3 for std in tight)
    # cells without runs take the spread of those with some, each row counted once, however many losses it has
    half = assess(papers, [r for r in as_printed(papers, 5, np.random.default_rng(1), std=1.5) if r.table == "table1"])
    assert all(step.need.std > 1.5 for step in plan_seeds(papers[1:], half, one_hour).steps)
    both = [r for r in as_printed(papers, 5, np.random.default_rng(1)) if r.row in ("shufflenetv2", "squeezenet")]
    known = assess(papers, [r for r in both if r.table == "table2"])
    spreads = {
        key[1]: (delta.pooled_std or 0.0, delta.df) for key, cell in known.cells.items() if (delta := cell.delta)
    }
    assert len(spreads) == 2
    for step in plan_seeds(papers[:1], known, one_hour).steps:
        assert step.need.std == pytest.approx(planning_std(list(spreads.values())))


def test_unknown_costs_and_answers_out_of_reach_are_set_apart(papers: list[Table]) -> None:
    def hours(cell: Cell) -> float | None:
        return None if cell.row.id == "nasnet_a" else 1.0

    planned = plan_seeds(papers[1:], assess(papers, []), hours, guessed_run_std=8.0)
    assert {need.cell.row.id for need in planned.unknown_cost} == {"nasnet_a"}
    assert {need.cell.id for need in planned.out_of_reach} == {
        f"table2/{row}/inverse_bias" for row in ("mobilenetv2", "nasnet_a", "squeezenet")
    }
    assert len(planned.needs) == 15


def test_a_table_without_published_figures_has_nothing_to_plan() -> None:
    product = find_table("product")
    planned = plan_seeds([product], assess([product], []), one_hour)
    assert (planned.needs, planned.decided, planned.hours) == ((), (), 0)


def test_until_decided_every_look_brings_the_open_cells_to_the_next(
    papers: list[Table], make_record: MakeRecord, declared: Callable[..., dict[str, Declaration]]
) -> None:
    looks = declared(papers[1:], Looks((4, 8), "pocock"))
    rng = np.random.default_rng(2)
    records: list[RunRecord] = []
    rounds = []
    for _ in range(5):
        assessment = assess(papers, records, looks=looks)
        runs = next_runs(papers[1], assessment)
        if not runs:
            break
        rounds.append(runs)
        for run in runs:
            assert run.cell.row.published is not None
            accuracy = run.cell.row.published.top1_percent[run.cell.column.id] + rng.normal(0, 0.2)
            records.append(make_record(run.cell, run.seed, float(accuracy)))
    first, second = rounds
    assert len(first) == 20 * 4
    assert len({run.id for run in (*first, *second)}) == len(first) + len(second)
    assert {run.seed for run in second} == {4, 5, 6, 7}
    last = assess(papers, records, looks=looks)
    stopped = [key for key, one in last.cells.items() if key[0] == "table2" and one.decided and one.runs.n == 4]
    assert stopped  # some cells were answered at the first look, and not run on
    assert not {run.cell.id for run in second} & {"/".join(key) for key in stopped}
    for result in last.cells.values():
        if result.table == "table2" and result.paper_delta is not None:
            assert result.decided or (result.delta is not None and result.delta.n == 8)


def test_seeds_without_declared_looks_are_refused(papers: list[Table]) -> None:
    mine = papers[1].model_copy(update={"origin": "my lab/study.yaml"})
    with pytest.raises(UserError, match="no interim analyses are preregistered") as refused:
        next_runs(mine, assess(papers, []))
    assert "biasrepro plan 'my lab/study.yaml' --looks 5,10,20 --declare" in str(refused.value)
