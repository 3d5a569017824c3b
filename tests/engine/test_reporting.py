"""The speed that a run reports, and the time left, on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from repro.engine import reporting
from repro.engine.reporting import REPORT_SECONDS, SPEED_SECONDS, Reporter
from repro.engine.state import TrainingState
from repro.engine.step import Totals
from repro.experiment.schema import Run
from repro.progress import Progress

BATCH, EPOCHS = 32, 3


class Training:
    """Counts batches of ``BATCH`` images at a pace that the test chooses."""

    def __init__(self, run: Run, steps: int, short: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.seen: list[Progress] = []
        monkeypatch.setattr(reporting, "time", SimpleNamespace(monotonic=lambda: self.now))
        model = nn.Linear(1, 1)
        totals = Totals.zero(torch.device("cpu"))
        self.state = TrainingState(model, nn.Identity(), torch.optim.SGD(model.parameters()), totals)
        self.reporter = Reporter(run, self.state, steps, steps * BATCH - short, self.seen.append)

    def train(self, batches: int, images_per_second: float) -> None:
        for _ in range(batches):
            self.now += BATCH / images_per_second
            self.state.step += 1
            self.reporter.count(BATCH)

    def evaluate(self, seconds: float) -> None:
        self.reporter.report("evaluating")
        self.now += seconds
        self.reporter.report("epoch_done")
        self.state.epoch, self.state.step = self.state.epoch + 1, 0


@pytest.fixture
def training(make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Training]:
    """Makes a training in epochs of so many steps, whose last batch is ``short`` of so many images."""
    return lambda steps, short=0: Training(make_run(), steps, short, monkeypatch)


def test_no_speed_is_known_before_the_first_image(training: Callable[..., Training]) -> None:
    resumed = training(100)
    resumed.now += 3
    resumed.reporter.report("training", "resumed at epoch 2, step 7")
    resumed.now += 30  # the data set is read again
    resumed.reporter.begin()
    resumed.now += 1
    resumed.reporter.report("training")
    assert [(at.images_per_second, at.eta_seconds) for at in resumed.seen] == [(None, None)] * 2
    resumed.train(1, images_per_second=BATCH)
    assert resumed.seen[-1].images_per_second == BATCH / 2


def test_the_speed_is_that_of_the_last_epoch_not_of_the_whole_run(training: Callable[..., Training]) -> None:
    slowed = training(100)  # an epoch is 3,200 images
    slowed.train(90, images_per_second=10)  # beside other work, for 288 s
    slowed.train(100, images_per_second=20)
    assert slowed.seen[-1].images_per_second == pytest.approx(20)
    slowed.state.step = 50
    slowed.reporter.report("training")
    left = (EPOCHS - slowed.state.epoch) * 3200 + 1600
    assert slowed.seen[-1].eta_seconds == pytest.approx(left / 20)


def test_short_epochs_are_not_measured_one_by_one(training: Callable[..., Training]) -> None:
    fast = training(10)
    for _ in range(200):  # 0.32 s an epoch, of which an evaluation takes half
        fast.train(10, images_per_second=2000)
        fast.evaluate(0.16)
    speeds = [at.images_per_second for at in fast.seen[len(fast.seen) // 2 :]]
    assert all(speed == pytest.approx(1000, rel=0.02) for speed in speeds)
    assert len(fast.reporter._counts) < SPEED_SECONDS / REPORT_SECONDS + 2 * SPEED_SECONDS / 0.32 + 2


def test_the_time_left_has_room_for_the_evaluations(training: Callable[..., Training]) -> None:
    whole = training(100)
    for _ in range(2):
        whole.train(100, images_per_second=32)
        whole.evaluate(100)
    assert whole.seen[-1].images_per_second == pytest.approx(16, rel=0.01)


def test_a_short_last_batch_is_not_counted_as_a_full_one(training: Callable[..., Training]) -> None:
    last = training(2, short=BATCH - 1)  # epochs of 33 images
    last.now += 1
    last.reporter.count(1)
    speed = last.seen[-1].images_per_second
    left = []
    for epoch, step in ((1, 0), (1, 1), (1, 2), (2, 0), (EPOCHS, 1), (EPOCHS, 2), (EPOCHS + 1, 0)):
        last.state.epoch, last.state.step = epoch, step
        last.reporter.report("training")
        left.append(last.seen[-1].eta_seconds)
    assert speed == 1
    assert left == [99, 67, 66, 66, 1, 0, 0]
