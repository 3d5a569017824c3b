from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from repro.cli.console import percent, plain_lines, rate, size
from repro.cli.sweep.dry_run import seeds_text
from repro.cli.sweep.view import PlainSweepView, RichSweepView, running_table, shown, whole_line
from repro.cli.train_view import epoch_line, fraction_done, say_result
from repro.experiment.config import find_table
from repro.progress import Progress
from repro.results import RunFolder
from repro.sweep.executor import Job
from repro.sweep.selection import selected_runs
from repro.sweep.sweep_state import SweepState
from repro.wording import counted, device_hours, duration


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def jobs() -> list[Job]:
    runs = selected_runs(find_table("demo"), (0, 1))
    return [Job(run, RunFolder.of(Path("results"), run), ()) for run in runs]


@pytest.fixture
def sweep(jobs: list[Job]) -> SweepState:
    """Two runs in training, the first half done; four waiting; one failed, one done; three done before."""
    sweep = SweepState(jobs, before=3, capacity=2)
    sweep.start(jobs[2], "cuda:0", now=0.0)
    sweep.end(jobs[2], "failed", "the pixels ran out", now=1.0)
    sweep.start(jobs[3], "cuda:0", now=0.0)
    sweep.end(jobs[3], "completed", None, now=20.0)
    for job, epoch in ((jobs[0], 6), (jobs[1], 1)):
        sweep.start(job, "cuda:1", now=0.0)
        sweep.hear(job, progress(job, epoch))
    return sweep


def progress(job: Job, epoch: int, step: int = 0, eta_seconds: float = 30.0) -> Progress:
    return Progress(
        job.id,
        "training",
        epoch=epoch,
        epochs=10,
        step=step,
        steps=4,
        train_loss=0.123,
        test_top1_percent=91.5,
        images_per_second=2140.0,
        eta_seconds=eta_seconds,
    )


def drawn(view: RichSweepView, height: int = 30, width: int = 160) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    view._console = console
    console.print(view._draw())
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_live_picture_has_a_line_a_running_run_and_one_for_the_whole(sweep: SweepState) -> None:
    view = RichSweepView(clock=lambda: 10.0)
    assert "starting" in drawn(view)
    view.tick(sweep)
    first, second, whole = drawn(view).splitlines()
    for text in (
        "cuda:1",
        "shufflenetv2/ce/seed-0",
        "epoch 6/10",
        "loss 0.123",
        "91.5 %",
        "2,140 images/s",
        "30 s left",
    ):
        assert text in first
    assert "shufflenetv2/inverse_bias/seed-0" in second
    assert "4 of 11 done  1 failed  2 running  4 waiting  about" in whole


def test_the_live_picture_fits_the_terminal(sweep: SweepState) -> None:
    view = RichSweepView(clock=lambda: 10.0)
    view.tick(sweep)
    view.stopping(sweep, "interrupted")
    shown = drawn(view, height=5)
    assert "… and 1 more" in shown
    assert "stopping, interrupted: waiting for 2 running runs to save a checkpoint" in shown
    assert "inverse_bias/seed-0" not in shown
    assert len(shown.splitlines()) == 4


@pytest.mark.parametrize(
    ("width", "figures"),
    [
        (80, ["epoch 6/10", "91.5 %"]),
        (90, ["epoch 6/10", "loss 0.123", "91.5 %"]),
        (105, ["epoch 6/10", "loss 0.123", "91.5 %", "2,140 images/s"]),
    ],
)
def test_on_a_narrow_terminal_speed_and_loss_and_then_the_name_give_way(
    sweep: SweepState, jobs: list[Job], width: int, figures: list[str]
) -> None:
    for job in jobs[:2]:
        sweep.hear(job, progress(job, 6, eta_seconds=4_800))
    console = Console(width=width, file=io.StringIO())
    console.print(running_table(list(sweep.running.values()), width))
    assert isinstance(console.file, io.StringIO)
    first, second = console.file.getvalue().splitlines()
    assert first.split()[0] == "cuda:1"
    assert re.search(" +".join([r"ce/seed-0", *figures, "1 h 20 min left"]) + "$", first)
    assert second.split()[1].endswith("s/seed-0")


@pytest.mark.parametrize("width", [80, 100])
def test_the_live_picture_is_never_cut_or_wrapped(sweep: SweepState, width: int) -> None:
    view = RichSweepView(clock=lambda: 10.0)
    view.tick(sweep)
    lines = drawn(view, width=width).splitlines()
    assert len(lines) == 3
    assert "4 of 11 done  1 failed  2 running  4 waiting  about" in lines[-1]
    assert lines[-1].rstrip().endswith("left")
    assert "…" not in lines[-1]


def test_the_whole_says_nothing_of_what_is_not(jobs: list[Job]) -> None:
    assert whole_line(SweepState([], before=12, capacity=2), now=0.0) == "12 of 12 done"
    assert whole_line(SweepState(jobs, before=0, capacity=2), now=0.0) == "0 of 8 done  8 waiting"


def test_off_a_terminal_a_run_speaks_each_tenth_but_not_too_often(
    jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    view = PlainSweepView(clock)
    sweep = SweepState(jobs, before=0, capacity=2)
    sweep.start(jobs[0], "cpu", now=0.0)
    view.started(sweep, sweep.running[jobs[0].id])
    capsys.readouterr()
    spoken = []
    reports = [(1, 1, 2), (4, 2, 1), (6, 3, 0), (7, 4, 0), (20, 4, 1), (65, 4, 2), (81, 4, 2), (82, 5, 0), (90, 5, 1)]
    reports += [(680, 5, 1), (700, 5, 2)]
    for now, epoch, step in reports:
        clock.now = float(now)
        sweep.hear(jobs[0], progress(jobs[0], epoch, step))
        view.reported(sweep, sweep.running[jobs[0].id])
        if out := capsys.readouterr().out:
            assert re.match(rf"\d\d:\d\d  {jobs[0].id}  epoch {epoch}/10", out)
            spoken.append(now)
    # At 6 and 20 it is a tenth further and 5 s have passed; at 82 it is the next epoch, and a minute has passed; at
    # 700 it is no further, but ten minutes have passed.
    assert spoken == [6, 20, 82, 700]


def test_off_a_terminal_a_run_of_many_epochs_speaks_after_each_long_one(
    jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    view = PlainSweepView(clock)
    sweep = SweepState(jobs, before=0, capacity=2)
    sweep.start(jobs[0], "cpu", now=0.0)
    view.started(sweep, sweep.running[jobs[0].id])
    capsys.readouterr()
    spoken = []
    for now, epoch in [(30, 1), (70, 1), (75, 2), (100, 3), (140, 3), (145, 4)]:  # none is a tenth further
        clock.now = float(now)
        sweep.hear(jobs[0], Progress(jobs[0].id, "training", epoch=epoch, epochs=90, steps=4))
        view.reported(sweep, sweep.running[jobs[0].id])
        if capsys.readouterr().out:
            spoken.append(now)
    assert spoken == [75, 140]


def test_messages_of_a_run_are_shown_once_it_runs(jobs: list[Job], capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainSweepView(Clock())
    sweep = SweepState(jobs, before=0, capacity=2)
    sweep.start(jobs[0], "cpu", now=0.0)
    view.started(sweep, sweep.running[jobs[0].id])
    for steps, message in ((0, "a processor"), (4, "resumed at epoch 3")):
        sweep.hear(jobs[0], Progress(jobs[0].id, "starting", epochs=10, steps=steps, message=message))
        view.reported(sweep, sweep.running[jobs[0].id])
    out = capsys.readouterr().out
    assert f"note   {jobs[0].id}: resumed at epoch 3" in out
    assert "a processor" not in out


def test_the_view_follows_the_terminal() -> None:
    for style, expected in (("auto", PlainSweepView), ("plain", PlainSweepView), ("rich", RichSweepView)):
        with shown(style) as view:
            assert isinstance(view, expected)


@pytest.mark.parametrize(
    ("message", "fraction"),
    [
        (Progress("x", "starting", epochs=10), 0.0),
        (Progress("x", "training", epoch=1, epochs=10, step=2, steps=4), 0.05),
        (Progress("x", "training", epoch=10, epochs=10, step=4, steps=4), 1.0),
        (Progress("x", "completed", epoch=10, epochs=10), 1.0),
    ],
)
def test_the_bar_is_as_far_as_the_run(message: Progress, fraction: float) -> None:
    assert fraction_done(message) == pytest.approx(fraction)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0, "0 s"),
        (-2, "0 s"),
        (0.4, "under 1 s"),
        (42.4, "42 s"),
        (59.6, "1 min"),
        (219, "3 min 39 s"),
        (3_599.6, "1 h"),
        (4_805, "1 h 20 min"),
        (86_399, "1 d"),
        (187_200, "2 d 4 h"),
        (146_880_001, "1,700 d"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("hours", "text"),
    [(74_046.8, "74,047"), (99.94, "99.9"), (4.26, "4.3"), (0.0951, "0.095"), (9.4e-05, "under 0.001")],
)
def test_hours_of_devices_have_the_digits_that_mean_something(hours: float, text: str) -> None:
    assert device_hours(hours) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (168_513_733, "168.5 MB")])
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_small_words() -> None:
    assert (percent(95.25), percent(None)) == ("95.2 %", "–")
    assert (rate(2140.4), rate(None)) == ("2,140 images/s", "–")
    assert (counted(1, "run"), counted(2000, "run")) == ("1 run", "2,000 runs")


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        ([], "–"),
        ([3], "3"),
        ([0, 1, 2, 3, 4], "0-4"),
        ([0, 2, 3, 7], "0, 2-3, 7"),
        ([9, 10, 11], "9-11"),
        ([1, 0], "0-1"),
    ],
)
def test_seeds_in_a_row_are_a_range(seeds: list[int], text: str) -> None:
    assert seeds_text(seeds) == text


def test_plain_tables_are_aligned_by_what_is_seen() -> None:
    assert plain_lines([("a", "b"), ("über", "1"), ("漢", "10")], right=(1,)) == ["a      b", "über   1", "漢    10"]


def test_piped_output_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.cli.console import say, show_table

    monkeypatch.setenv("COLUMNS", "20")
    say("a " * 100)
    show_table(["header"], [["b " * 100]])
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"git_commit": None}, "the commit of the code is not recorded"),
        ({"git_commit": "0" * 40, "git_dirty": None}, "whether the code had uncommitted changes is not recorded"),
        ({"git_commit": "0" * 40, "git_dirty": False}, ""),
    ],
)
def test_what_git_did_not_report_is_said(
    known: dict[str, Any],
    said: str,
    fake_runs: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr("repro.cli.train_view.package_path", lambda: tmp_path)
    record = fake_runs.record(selected_runs(find_table("demo"), (0,))[0])
    record = record.model_copy(update={"provenance": record.provenance.model_copy(update=known)})
    folder = RunFolder(tmp_path / record.id)
    say_result(record, folder, "demo/shufflenetv2/ce", root=tmp_path, trained_before=False)
    shown = "".join(capsys.readouterr())
    assert said in shown
    assert ("git did not report" in shown) is bool(said)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (None, "epoch 6/10  loss 0.123  train 90.1 %  test 91.5 %  2,140 images/s  30 s left"),
        (60, "epoch 6/10  loss 0.123  train 90.1 %  test 91.5 %  30 s left"),
        (50, "epoch 6/10  loss 0.123  test 91.5 %  30 s left"),
        (40, "epoch 6/10  test 91.5 %  30 s left"),
    ],
)
def test_the_line_of_an_epoch_keeps_epoch_accuracy_and_time_left(jobs: list[Job], width: int | None, line: str) -> None:
    assert epoch_line(replace(progress(jobs[0], 6), train_top1_percent=90.1), width) == line
