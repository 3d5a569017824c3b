"""Looks declared on the command line, and sweeps that follow them from look to look."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from repro.cli.sweep import until_decided
from repro.experiment.config import find_table, load_table
from repro.experiment.schema import Run, Table
from repro.results.record import sealed
from repro.sweep.selection import selected_runs

pytestmark = pytest.mark.usefixtures("fake_training")

Say = Callable[..., Any]
Started = Callable[[], list[dict[str, Any]]]

# One row is answered at the first look, one at the second, one never.
ROWS = """\
  - {id: clear, title: Clear, model: squeezenet, published: {top1_percent: {ce: 90, bias: 92}}}
  - {id: faint, title: Faint, model: shufflenetv2_x0_5, published: {top1_percent: {ce: 90, bias: 91}}}
  - {id: lost, title: Lost, model: mobilenetv2_x0_75, published: {top1_percent: {ce: 90, bias: 90.2}}}
"""
GAIN = {"clear": 2.0, "faint": 0.9, "lost": 0.05}
SPREAD = {"clear": 0.05, "faint": 0.3, "lost": 0.4}
WAVE = (0.9, -1.1, 0.4, -0.6, 1.2, -0.8, 0.1, -0.2, 0.5)


def top1(run: Run) -> float:
    if run.cell.column.id == "ce":
        return 90.0
    row = run.cell.row.id
    return 90.0 + GAIN[row] + SPREAD[row] * WAVE[run.seed]


@pytest.fixture
def study(own: Path, own_text: str, results: Path, fake_worker: ModuleType) -> Table:
    """A table of three rows with published figures; fake workers know nine seeds of it."""
    own.write_text(own_text[: own_text.index("  - {id: squeezenet")] + ROWS)
    table = load_table(own)
    fake_worker.prepare(results, selected_runs(find_table(str(own)), range(9)), reference=str(own), top1=top1)
    return table


@pytest.fixture
def go(say: Say, study: Table, own: Path, results: Path) -> Say:
    """Sweeps the study until it is decided."""
    return lambda *more: say("sweep", own, "--until-decided", *more, "--results", results)


@pytest.fixture
def declared(say: Say, study: Table, own: Path, results: Path) -> Path:
    """Looks at 3, 6 and 9 seeds, in force."""
    said = say("plan", own, "--looks", "3,6,9", "--declare", "--results", results)
    assert said.code == 0, said.err
    return results / "mine" / "looks.json"


def test_a_declaration_is_sealed_dated_and_says_what_follows(say: Say, study: Table, own: Path, results: Path) -> None:
    said = say("plan", own, "--looks", "3,6,9", "--declare", "--results", results)
    assert said.code == 0
    assert "preregistered: mine, interim analyses at 3, 6, 9 seeds (Pocock spending), preregistered on 20" in said.out
    assert "spent   0.023, 0.038, 0.05 of alpha up to each analysis" in said.out
    assert f"biasrepro sweep {own} --until-decided" in said.out
    held = json.loads((results / "mine" / "looks.json").read_text())
    assert held["cells"] == ["mine/clear/bias", "mine/faint/bias", "mine/lost/bias"]
    assert (held["seeds"], held["spending"], held["alpha"]) == ([3, 6, 9], "pocock", 0.05)
    assert len(held["configurations"]) == 6
    assert (held["recorded_before"], held["unseen"]) == ([], False)
    assert say("verify", results).code == 0


def test_it_is_declared_once(say: Say, declared: Path, own: Path, results: Path) -> None:
    before = declared.read_bytes()
    again = say("plan", own, "--looks", "3,6,9", "--declare", "--results", results)
    assert again.code == 0
    assert "already preregistered" in again.out
    for others in (["--looks", "3,6"], ["--looks", "3,6,9", "--spending", "obrien_fleming"]):
        refused = say("plan", own, *others, "--declare", "--unseen", "--results", results)
        assert refused.code == 2
        words = "interim analyses at 3, 6, 9 seeds (Pocock spending), preregistered on 20"
        assert f"different analyses are already preregistered: {words}" in refused.err
    assert declared.read_bytes() == before


def test_after_a_difference_could_be_seen_it_is_refused_unless_stated_unseen(
    say: Say, study: Table, own: Path, results: Path, finish: Callable[..., None]
) -> None:
    declare = ("plan", own, "--looks", "3,6", "--declare", "--results", results)
    runs = {run.id: run for run in selected_runs(study, (0,))}
    finish(runs["mine/clear/ce/seed-0"])
    finish(runs["mine/clear/bias/seed-0"])
    refused = say(*declare)
    assert refused.code == 2
    assert "results exist already: mine/clear/bias." in refused.err
    assert "--unseen" in refused.err
    assert not (results / "mine" / "looks.json").exists()
    said = say(*declare, "--unseen")
    assert said.code == 0
    assert "2 runs had a record, stated to be unseen" in said.out
    shown = say("table", own, "--verdicts", "words", "--results", results).out
    assert "after 2 runs had ended; its author stated that nobody had seen them" in shown


def test_cross_entropy_alone_shows_no_difference_and_is_named(
    say: Say, study: Table, own: Path, results: Path, finish: Callable[..., None]
) -> None:
    finish(selected_runs(study, (0,))[0])
    said = say("plan", own, "--looks", "3,6", "--declare", "--results", results)
    assert said.code == 0
    assert "1 run had a record, too few for any difference" in said.out


def test_without_a_declaration_one_is_asked_for(go: Say, own: Path, started: Started) -> None:
    said = go()
    assert said.code == 2
    assert "no interim analyses are preregistered for mine" in said.err
    assert f"biasrepro plan {own} --looks 5,10,20 --declare" in said.err
    assert started() == []


def test_what_declares_nothing_is_refused(say: Say, results: Path) -> None:
    assert "such as" in say("plan", "--looks", "3,5", "--declare", "--results", results).err.lower()
    said = say("plan", "demo", "--looks", "3,5", "--declare", "--results", results)
    assert "has no published differences to test" in said.err
    assert "has no published differences" in say("sweep", "demo", "--until-decided", "--results", results).err


def test_options_that_choose_runs_are_refused(go: Say, declared: Path) -> None:
    for option, value in (("seeds", "3"), ("rows", "clear"), ("columns", "ce"), ("only", "failed")):
        said = go(f"--{option}", value)
        assert said.code == 2
        assert f"--{option} and --until-decided exclude each other" in said.err


def seeds_run(results: Path) -> dict[str, int]:
    return {
        f"{row}/{column}": len(list((results / "mine" / row / column).glob("seed-*/run.json")))
        for row in GAIN
        for column in ("ce", "bias")
    }


AT_THE_END = {"clear/ce": 3, "clear/bias": 3, "faint/ce": 6, "faint/bias": 6, "lost/ce": 9, "lost/bias": 9}


def verdicts(text: str) -> list[str]:
    return [line for line in text.splitlines() if re.match(r"(reproduced|partly|not reproduced|undecided)", line)]


def test_cells_go_on_from_look_to_look_until_they_are_decided(
    go: Say, say: Say, declared: Path, own: Path, results: Path, started: Started
) -> None:
    said = go()
    assert said.code == 0, said.err
    assert seeds_run(results) == AT_THE_END
    assert len(started()) == sum(AT_THE_END.values())  # none twice
    assert re.findall(r"analysis at (\d) seeds next: (\d+) runs to train", said.out) == [
        ("3", "18"),
        ("6", "12"),
        ("9", "6"),
    ]
    assert "analysed at 3 seeds: 1 reproduced, 2 undecided" in said.out
    clear, faint, lost = verdicts(said.out)
    assert "reproduced  mine/clear/bias  at 3 seeds" in clear
    assert "reproduced  mine/faint/bias  at 6 seeds" in faint
    assert "undecided after the last analysis  mine/lost/bias  at 9 seeds" in lost
    again = go()
    assert again.code == 0
    assert verdicts(again.out) == verdicts(said.out)
    assert len(started()) == sum(AT_THE_END.values())
    shown = say("table", own, "--verdicts", "words", "--results", results).out
    assert (
        "Stopping rule of `mine`: interim analyses at 3, 6, 9 seeds (Pocock spending), cumulative alpha 0.023" in shown
    )
    assert "cumulative alpha 0.023, 0.038, 0.05, preregistered on" in shown
    assert "The latest was at 9 seeds; no cell continues." in shown
    summary = say("report", own, "--format", "markdown", "--results", results).out
    assert "preregistered on" in summary


def test_runs_older_than_the_declaration_that_it_does_not_name_are_counted(
    go: Say, say: Say, declared: Path, own: Path, results: Path
) -> None:
    """The fake workers' records are dated before the declaration, as if it had been put there afterwards."""
    go()
    shown = say("table", own, "--verdicts", "words", "--results", results).out
    assert re.search(
        r"after 36 runs had ended, 36 of which it does not list \(such as `mine/clear/bias/seed-0`\)", shown
    )


@pytest.mark.slow
def test_interrupted_between_looks_and_on_the_way_it_ends_the_same(
    go: Say, declared: Path, results: Path, started: Started
) -> None:
    """With the records of the first so many runs that ended, as an interruption leaves them."""
    whole = go()
    order = [note["run"] for note in started()]
    for kept in (1, 17, 18, 31):
        for run in order[kept:]:
            shutil.rmtree(results / run)
        before = len(started())
        said = go()
        assert said.code == 0
        assert verdicts(said.out) == verdicts(whole.out)
        assert seeds_run(results) == AT_THE_END
        assert sorted(note["run"] for note in started()[before:]) == sorted(order[kept:])


@pytest.mark.slow
def test_further_seeds_change_no_answer(go: Say, say: Say, declared: Path, own: Path, results: Path) -> None:
    whole = go()
    assert say("sweep", own, "--seeds", "9", "--results", results).code == 0
    again = go()
    assert verdicts(again.out) == verdicts(whole.out)


def test_a_look_waits_for_runs_that_failed(go: Say, declared: Path, results: Path, behave: Any) -> None:
    behave({"mine/faint/bias/seed-1": "fail"})
    said = go()
    assert said.code == 1
    assert "The analysis at 3 seeds is waiting for 1 run, such as mine/faint/bias/seed-1." in said.out
    assert not (results / "mine/lost/bias/seed-3").exists()
    behave({})
    assert go().code == 0
    assert seeds_run(results) == AT_THE_END


def test_a_diverged_seed_is_named_left_out_and_not_replaced(
    go: Say, declared: Path, results: Path, behave: Any
) -> None:
    behave({"mine/clear/bias/seed-1": "diverge"})
    said = go()
    assert said.code == 1  # as any sweep in which a run diverged
    assert "left out  mine/clear/bias/seed-1: diverged: not finite at step 3" in said.out
    assert len(verdicts(said.out)) == 3, said.out + said.err
    clear = verdicts(said.out)[0]
    assert "mine/clear/bias  at 6 seeds" in clear  # two pairs are no test: it went on
    assert seeds_run(results)["clear/bias"] == 6
    assert go().code == 0


def test_fail_fast_ends_the_course(go: Say, declared: Path, behave: Any, results: Path) -> None:
    behave({"mine/clear/ce/seed-0": "diverge"})
    assert go("--fail-fast").code == 1
    assert sum(seeds_run(results).values()) < 18


def test_a_dry_run_shows_looks_cost_and_what_to_expect(
    go: Say, declared: Path, results: Path, started: Started
) -> None:
    said = go("--dry-run")
    assert said.code == 0
    assert started() == []
    assert re.search(r"^ +3 +0\.023 +0\.023$", said.out, re.MULTILINE)
    assert "next        18 runs, hours unknown" in said.out
    assert "at most     54 runs" in said.out
    expected = [int(n) for n in re.findall(r"^expected +(\d+) runs", said.out, re.MULTILINE)]
    assert len(expected) == 2
    assert all(18 < n < 54 for n in expected)
    done = go()
    assert done.code == 0, done.out
    after = go("--dry-run").out
    assert "next        0 runs, 0.0 run-hours" in after
    assert "analysed at 9 seeds: 2 reproduced, 1 undecided" in after


def test_what_to_expect_is_of_the_decimals_that_are_printed(
    go: Say, declared: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units: list[Any] = []
    real = until_decided.expected_course

    def noted(*given: Any, **named: Any) -> Any:
        units.append(named["unit"])
        return real(*given, **named)

    monkeypatch.setattr(until_decided, "expected_course", noted)
    own.write_text(own.read_text().replace("bias: 92}", "bias: 92.05}"))
    assert go("--dry-run").code == 0
    assert units == [[0.01] * 3] * 2


def test_a_dry_run_refuses_what_a_real_one_refuses(go: Say, declared: Path) -> None:
    said = go("--dry-run", "--partition", "main")
    assert said.code == 2
    assert "--partition is for --executor slurm" in said.err


def test_the_hours_are_those_of_the_devices_of_the_cluster(
    go: Say, declared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = until_decided.hours_in_records

    def noted(records: Any, device: str) -> Any:
        asked.append(device)
        return real(records, device)

    monkeypatch.setattr(until_decided, "hours_in_records", noted)
    monkeypatch.setattr("repro.sweep.backends.require_installed", lambda backend: None)
    monkeypatch.setattr("repro.cli.sweep.request.require_installed", lambda backend: None)
    for options in ((), ("--executor", "slurm", "--gpus-per-job", "1"), ("--executor", "slurm")):
        assert go("--dry-run", *options).code == 0
    assert asked == ["cpu", "cuda", "cpu"]


def test_an_edited_declaration_is_refused_wherever_a_verdict_is_given(
    go: Say, say: Say, declared: Path, own: Path, results: Path
) -> None:
    declared.write_text(declared.read_text().replace('"pocock"', '"obrien_fleming"'))
    for said in (
        go(),
        say("table", own, "--verdicts", "words", "--results", results),
        say("report", own, "--results", results),
    ):
        assert said.code == 2
        assert "the seal is broken: the preregistration was edited" in said.err
    checked = say("verify", results)
    assert checked.code == 1
    assert "restore it from version control" in checked.out


def test_looks_of_another_configuration_are_refused(go: Say, declared: Path, own: Path) -> None:
    own.write_text(own.read_text().replace("epochs: 4", "epochs: 5"))
    said = go()
    assert said.code == 2
    assert "for a different configuration of mine/" in said.err


def test_a_declaration_of_another_alpha_is_refused(say: Say, own: Path, declared: Path, results: Path) -> None:
    body = declared.read_bytes().partition(b',\n  "seal"')[0]
    declared.write_bytes(sealed(body.replace(b'"alpha": 0.05', b'"alpha": 0.5')))
    said = say("table", own, "--verdicts", "words", "--results", results)
    assert said.code != 0
    assert "use alpha 0.5, not 0.05" in said.err


def test_a_declaration_that_is_a_link_to_nowhere_is_never_taken_for_none(
    say: Say, declared: Path, own: Path, results: Path, go: Say
) -> None:
    """Without it, verdicts would be those of a fixed number of seeds, whenever somebody looked."""
    declared.unlink()
    declared.symlink_to("/annex/objects/looks.json")
    (results.parent / "runs.csv").write_text("row,column,seed,top1\nclear,ce,0,90\n")
    for command in (
        ("table", own, "--verdicts", "words"),
        ("report", own, "-f", "markdown"),
        ("sweep", own, "--until-decided"),
        ("plan", own, "--looks", "3,6", "--declare"),
        ("import", results.parent / "runs.csv", "--table", own),
    ):
        said = say(*command, "--results", results)
        assert said.code != 0, command
        assert "looks.json" in said.err, command
    assert declared.is_symlink()


def test_after_a_run_and_without_any_the_way_on_is_the_next_analysis(
    say: Say, declared: Path, own: Path, results: Path
) -> None:
    command = f"biasrepro sweep {own} --until-decided --results {results}"
    drawn = say("figure", "deltas", own, "-o", results.parent / "deltas.svg", "--results", results)
    assert f"`{command}` trains them" in drawn.err
    run = selected_runs(load_table(own), (0,))[0]
    (results.parent / "runs.csv").write_text(f"row,column,seed,top1\n{run.cell.row.id},{run.cell.column.id},0,90\n")
    kept = declared.read_bytes()
    declared.unlink()
    assert say("import", results.parent / "runs.csv", "--table", own, "--results", results).code == 0
    declared.write_bytes(kept)
    trained = say("train", f"{own}/{run.cell.row.id}/{run.cell.column.id}", "--results", results)
    assert f"next    {command}\n" in trained.out
