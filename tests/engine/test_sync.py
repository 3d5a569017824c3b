"""Inside an epoch the host waits for a GPU nowhere: not for totals, losses, progress, batches or the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from repro.data import Dataset
from repro.engine.device import choose_device, set_up_device
from repro.engine.training import Training
from repro.experiment.schema import Run
from repro.progress import Progress
from repro.results import RunFolder
from repro.results.ownership import own

MakeRun = Callable[..., Run]
pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning"),
]


@pytest.fixture
def no_waiting() -> Iterator[Callable[[], None]]:
    """From its call on, whatever makes the host wait raises."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


def test_the_watch_sees_a_wait(no_waiting: Callable[[], None]) -> None:
    value = torch.ones((), device="cuda")
    no_waiting()
    with pytest.raises(RuntimeError, match="synchronizing"):
        value.item()


@pytest.mark.parametrize("graph", ["true", "false"])
@pytest.mark.parametrize("setting", ["execution.precision=fp32", "execution.precision=bf16", "recipe.optimizer=adamw"])
def test_an_epoch_never_waits(
    make_run: MakeRun, small_dataset: Dataset, no_waiting: Callable[[], None], graph: str, setting: str
) -> None:
    run = make_run(f"execution.cuda_graph={graph}", setting)
    settings = set_up_device(choose_device("cuda"), run.cell.execution, None, run.cell.row.model)
    heard: list[Progress] = []
    training = Training(run, small_dataset, settings, heard.append, lambda: False)
    learner = training.learner
    learner.feed.begin_epoch(1)
    for step in range(learner.feed.steps):  # warm-up and capture wait, once
        learner.train_on_batch(step)
    torch.cuda.synchronize()

    no_waiting()
    for epoch in range(2, 12):
        learner.state.epoch = epoch
        learner.feed.begin_epoch(epoch)
        for step in range(learner.feed.steps):
            learner.train_on_batch(step)
            assert training._finite.after_step() is None
            training.reporter.report("training")
    assert len(heard) == 10 * learner.feed.steps


def test_a_diverged_run_stops_soon_and_names_the_step(
    make_run: MakeRun, small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("recipe.epochs=40")
    settings = set_up_device(choose_device("cuda"), run.cell.execution, None, run.cell.row.model)
    training = Training(run, small_dataset, settings, lambda progress: None, lambda: False)
    take, taken = training.learner.train_on_batch, []

    def poisoned(step: int) -> int:
        taken.append(step)
        if len(taken) == 5:
            with torch.no_grad():
                next(training.state.model.parameters()).fill_(float("nan"))
        return take(step)

    monkeypatch.setattr(training.learner, "train_on_batch", poisoned)
    with own(RunFolder.of(tmp_path, run)) as ownership:
        reason = training.train(ownership)
    assert reason == "the loss was not finite at epoch 2, step 2"
    assert len(taken) <= 6  # the epoch's end at the latest
