"""Logs for TensorBoard: every epoch by its number, resumed without a second line, and never a reason to stop."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repro.cli.tensorboard import TensorBoardLog
from repro.progress import Progress, ignore

pytest.importorskip("tensorboard", reason="tensorboard is not installed")


def epoch_done(epoch: int, top1: float) -> Progress:
    return Progress(
        "demo/shufflenetv2/bias/seed-0",
        "epoch_done",
        epoch=epoch,
        epochs=4,
        train_loss=1 / epoch,
        train_top1_percent=top1 + 5,
        test_top1_percent=top1,
        images_per_second=2000.0,
        test_loss=2 / epoch,
        learning_rate=0.1 / epoch,
        weight_mean=0.8,
    )


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, pytest.approx(event.value, rel=1e-6)) for event in accumulator.Scalars(tag)]


def test_every_epoch_is_logged_and_passed_on(tmp_path: Path) -> None:
    heard: list[Progress] = []
    log = TensorBoardLog(tmp_path / "run", heard.append)
    for epoch in (1, 2, 3):
        log.hear(Progress("x", "training", epoch=epoch, train_loss=9.0))
        log.hear(epoch_done(epoch, 60.0 + epoch))
    assert len(heard) == 6
    assert scalars(tmp_path / "run", "top1_percent/test") == [(1, 61.0), (2, 62.0), (3, 63.0)]
    assert scalars(tmp_path / "run", "loss/train") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert scalars(tmp_path / "run", "loss/test") == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    assert scalars(tmp_path / "run", "learning_rate") == [(1, 0.1), (2, 0.05), (3, 0.1 / 3)]
    assert scalars(tmp_path / "run", "weight_z/mean") == [(1, 0.8), (2, 0.8), (3, 0.8)]


def test_a_resumed_run_replaces_what_it_trains_again(tmp_path: Path) -> None:
    first = TensorBoardLog(tmp_path, ignore)
    for epoch in (1, 2, 3):
        first.hear(epoch_done(epoch, 50.0))
    again = TensorBoardLog(tmp_path, ignore)
    for epoch in (3, 4):
        again.hear(epoch_done(epoch, 70.0))
    assert scalars(tmp_path, "top1_percent/test") == [(1, 50.0), (2, 50.0), (3, 70.0), (4, 70.0)]


def test_a_log_that_cannot_be_written_is_no_reason_to_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    heard: list[Progress] = []
    log = TensorBoardLog(tmp_path / "file" / "run", heard.append)
    log.hear(epoch_done(1, 50.0))
    log.hear(epoch_done(2, 50.0))
    assert len(heard) == 2
    assert capsys.readouterr().err.count("ends here") == 1


def test_without_the_package_nothing_is_begun(
    say: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("repro.cli.tensorboard.find_spec", lambda name: None if name == "tensorboard" else found(name))
    for command in (["train"], ["sweep", "demo"]):
        said = say(*command, "--tensorboard", tmp_path / "logs", "--results", tmp_path / "results")
        assert said.code == 2
        assert "pip install 'biasrepro[tensorboard]'" in said.err
        assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_a_real_run_is_logged(say: Callable[..., Any], tmp_path: Path) -> None:
    said = say(
        *("train", "--set", "recipe.epochs=2", "--set", "recipe.decay_epochs=[1]", "--threads", "1", "--device", "cpu"),
        *("--progress", "plain", "--results", tmp_path / "results", "--root", tmp_path / "data"),
        *("--tensorboard", tmp_path / "logs"),
    )
    assert said.code == 0, said.err
    (file,) = (tmp_path / "logs").rglob("events.out.tfevents*")
    assert file.parent.name == "seed-0"
    for tag in ("top1_percent/test", "loss/test", "learning_rate", "weight_z/mean"):
        assert [epoch for epoch, _ in scalars(file.parent, tag)] == [1, 2]
