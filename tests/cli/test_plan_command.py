from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer

from repro.cli.plan import plan
from repro.errors import UserError
from repro.experiment.config import find_table
from repro.experiment.schema import Cell, Run
from repro.results import EpochRecord, Provenance, RunFolder, RunRecord, write_record

Plan = Callable[..., str]


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Plan:
    """What ``plan`` says, with its results under the test's folder."""
    app = typer.Typer()
    app.command()(plan)

    def run(*arguments: object) -> str:
        app([*map(str, arguments), "--results", str(tmp_path)], standalone_mode=False)
        return capsys.readouterr().out

    return run


def write_run(results: Path, cell: Cell, seed: int, top1: float, *, device: str, hours: float) -> None:
    run = Run(cell=cell, seed=seed)
    rest = dict.fromkeys(set(EpochRecord.model_fields) - {"epoch", "test_top1_percent"}, 1.0)
    record = RunRecord(
        id=run.id,
        table=cell.table,
        row=cell.row.id,
        column=cell.column.id,
        seed=seed,
        status="completed",
        configuration=run.configuration(),
        configuration_hash=run.hash,
        parameters=1_000_000,
        last_top1_percent=top1,
        best_top1_percent=top1,
        best_epoch=1,
        state_hash="0" * 64,
        execution_in_force={},
        provenance=Provenance(
            biasrepro="0",
            git_commit=None,
            git_dirty=None,
            code_hash="0",
            python="3",
            packages={},
            platform="any",
            host="any",
            device=device,
            device_name="any",
            driver=None,
            threads=1,
            command="",
            started_at="",
            finished_at="",
            duration_seconds=3600 * hours,
            images_per_second=1.0,
        ),
        epochs=tuple(
            EpochRecord(epoch=epoch, test_top1_percent=top1, **rest) for epoch in range(1, cell.recipe.epochs + 1)
        ),
    )
    write_record(RunFolder.of(results, run), record)


def test_a_plan_shows_seeds_cost_and_what_the_budget_answers(planned: Plan) -> None:
    text = planned("table2", "--hours-per-run", 0.5, "--gpu-hours", 12)
    lines = text.splitlines()
    first, second, third = (re.split(r"\s{2,}", line.strip()) for line in lines[:3])
    assert first == ["printed", "seeds"]
    assert second == ["difference", "seeds to", "seeds to", "paired", "new", "GPU-hours", "within"]
    assert third == [
        *("cell", "(points)", "confirm it", "refute it", "so far", "runs", "GPU-hours", "added up", "12 GPU-hours")
    ]
    lines = lines[2:]
    assert lines[1].split() == [
        *("table2/shufflenetv2/inverse_bias", "−0.60", "6", "10", "0", "20", "10.0", "10.0", "yes")
    ]
    assert [line.split()[-1] for line in lines[1:16]] == ["yes"] + ["no"] * 14
    assert re.search(r"^table2/squeezenet/inverse_bias +−0.40 +12 +never", text, re.MULTILINE)
    assert "12.0 GPU-hours pay for 1 of 15 open cells, using 10.0" in text
    assert "chance of 80 %" in text
    commands = re.findall(r"^(?:next|then) +(biasrepro sweep .*) --results", text, re.MULTILINE)
    assert commands == [
        "biasrepro sweep table2 --rows shufflenetv2 --columns ce,inverse_bias --seeds 10",
    ]


def test_without_a_name_both_tables_of_the_paper_are_planned(planned: Plan) -> None:
    text = planned("--hours-per-run", 1)
    assert "all     21 cells" in text
    assert "table1/densenet_k24/bias" in text


def test_without_any_known_cost_the_seeds_are_said_all_the_same(planned: Plan) -> None:
    text = planned("table1")
    assert "cost    unknown for 6 cells" in text
    assert "--hours-per-run" in text
    assert re.search(r"^table1/resnet18/bias +\+1\.10 +5 +13 +0$", text, re.MULTILINE)
    assert "GPU-hours  " not in text  # a column without a figure in it


def test_the_cost_is_that_of_recorded_runs_on_a_gpu(planned: Plan, tmp_path: Path) -> None:
    cell = next(cell for cell in find_table("table2").cells if cell.id == "table2/squeezenet/ce")
    write_run(tmp_path, cell, 0, 69.0, device="cuda", hours=0.25)
    write_run(tmp_path, cell, 1, 69.2, device="cpu", hours=50)
    text = planned("table2")
    # ten pairs, of which two cross-entropy runs are there
    assert re.search(r"^table2/squeezenet/mean_bias .* 18 +4\.5 ", text, re.MULTILINE)
    assert "cost    unknown for 12 cells" in text


def test_cells_with_a_verdict_are_done(planned: Plan, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for cell in find_table("table2").cells:
        if cell.row.id == "squeezenet" and cell.column.id in ("ce", "bias"):
            for seed in range(8):
                mean = 70.4 if cell.column.id == "bias" else 69.4
                write_run(tmp_path, cell, seed, mean + float(rng.normal(0, 0.1)), device="cuda", hours=1)
    text = planned("table2", "--hours-per-run", 1)
    assert "done    1 cell with a verdict already" in text
    assert "table2/squeezenet/bias " not in text
    # the cross-entropy runs serve the next cell of the row
    assert re.search(r"--rows squeezenet|squeezenet/inverse_bias", text)


def test_looks_show_what_each_may_cost(planned: Plan) -> None:
    text = planned("table1", "--hours-per-run", 1, "--looks", "5,10,20", "--spending", "obrien_fleming")
    assert "at 5, 10, 20 paired seeds, each at p below 1.5e-05, 0.003, 0.047: together at most 0.05" in text


def test_it_says_what_the_planned_seeds_and_others_can_be_expected_to_answer(planned: Plan) -> None:
    """The figures of docs/report.md, with the spread that they assume."""
    said = planned("--at", "3,5,6,8,10")
    found = re.findall(r"^at (\d+) +seeds .*?, (\S+) of 21 .*\((\S+) %.*none, (\S+) are", said, re.MULTILINE)
    assert [int(n) for n, *_ in found] == [3, 5, 6, 8, 10]
    assert "simulated with a spread of 0.25 points of a run over seeds" in said
    expected = [(6.6, 53.4, 0.6), (16.6, 99.2, 2.5), (17.9, 100.0, 4.5), (19.3, 100.0, 11.1), (20.1, 100.0, 14.5)]
    for (_, *figures), (reproduced, of_large, refuted) in zip(found, expected, strict=True):
        assert float(figures[1]) == pytest.approx(of_large, abs=0.6)
        assert [float(figures[0]), float(figures[2])] == pytest.approx([reproduced, refuted], abs=0.11)
    assert re.search(r"^ +difference +'reproduced' +'not reproduced' +'reproduced'", said, re.MULTILINE)
    assert re.search(r"^cell +\(points\) +at 3 seeds +at 3 seeds +at 5 seeds", said, re.MULTILINE)
    assert re.search(r"^table2/shufflenetv2/bias +\+1\.50 +9[789] % +2[0-9] %", said, re.MULTILINE)
    alone = planned("table2")
    assert "\nat 5    seeds a cell: if every effect is the paper's, 10.9 of 15 cells" in alone
    assert "at 5 seeds" not in alone
    assert ("\nchance  of 'reproduced' if" in said, "\nchance  of" in alone) == (True, False)


def test_a_budget_too_small_for_anything_says_so(planned: Plan) -> None:
    text = planned("table1", "--hours-per-run", 1, "--gpu-hours", 3)
    assert "pay for 0 of 6 open cells" in text
    assert "next    no cell fits the budget" in text


def test_the_released_table_is_a_family_of_its_own(planned: Plan) -> None:
    assert "p below 0.0167" in planned("released", "--hours-per-run", 1)


def test_what_cannot_be_planned_is_refused(planned: Plan) -> None:
    with pytest.raises(UserError, match="nothing is published in Mean times variance"):
        planned("product")
    with pytest.raises(UserError, match="no experiment is called"):
        planned("tabel2")
    with pytest.raises(UserError, match="not a list of seed counts"):
        planned("table2", "--looks", "five")
    for at in ("five", "2", "6,5"):
        with pytest.raises(UserError, match=f"--at {at} is not a list of seed counts"):
            planned("table2", "--at", at)
    with pytest.raises(UserError, match="--unseen is for --declare"):
        planned("table2", "--unseen")
    with pytest.raises(typer.BadParameter):
        planned("table2", "--power", "1.5")


def test_no_command_is_shown_for_an_answer_that_comes_with_another(planned: Plan, tmp_path: Path) -> None:
    for cell in find_table("table2").cells:
        if cell.row.id == "squeezenet" and cell.column.id in ("mean_bias", "bias"):
            for seed in range(14):
                write_run(tmp_path, cell, seed, 69.0 + seed % 3, device="cuda", hours=1)
    said = planned("table2")
    assert re.search(r"squeezenet/\S+ .* 0 +0\.0 ", said)  # its runs are there once the other's baseline is
    assert said.count("--rows squeezenet --columns ce,") == 2  # of three answers
    assert not re.search(r"--seeds 0(\s|$)", said)


def test_a_preregistered_table_is_continued_until_it_is_decided(planned: Plan) -> None:
    planned("table1", "--looks", "3,5", "--declare")
    said = planned("table1", "--hours-per-run", 1)
    assert re.findall(r"^(?:next|then) +biasrepro (.*) --results", said, re.MULTILINE) == [
        "sweep table1 --until-decided"
    ]
