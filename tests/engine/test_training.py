"""A run from its configuration to its record: exact, resumable, honest about divergence."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repro.data import Dataset
from repro.engine import code_hash, provenance
from repro.engine import training as train
from repro.engine.batches import Feed
from repro.engine.device import set_up_device
from repro.engine.recording import Recording
from repro.engine.training import train_run
from repro.errors import ConfigError, Interrupted, UserError
from repro.experiment.config import find_cell
from repro.experiment.schema import Execution, Run
from repro.progress import Progress
from repro.results import RunFolder, read_record

MakeRun = Callable[..., Run]
ADAMW = (
    *("recipe.optimizer=adamw", "recipe.learning_rate=0.002", "recipe.weight_decay=0.05"),
    *("recipe.schedule=cosine", "recipe.label_smoothing=0.1"),
)
pytestmark = pytest.mark.usefixtures("loaded")


def run_it(run: Run, results: Path, **options: Any) -> Any:
    return train_run(run, results=results, data_root=results, device="cpu", threads=1, **options)


def stopper(after: int) -> Callable[[], bool]:
    """Asks to stop at its ``after``-th question, and keeps asking."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked >= after

    return should_stop


def test_one_seed_gives_one_outcome(make_run: MakeRun, tmp_path: Path) -> None:
    first, second = (run_it(make_run(), tmp_path / name) for name in ("a", "b"))
    assert first.outcome() == second.outcome()
    assert first.state_hash is not None


def test_another_seed_gives_another_outcome(make_run: MakeRun, tmp_path: Path) -> None:
    assert run_it(make_run(seed=0), tmp_path).state_hash != run_it(make_run(seed=1), tmp_path).state_hash


def test_the_record_of_an_anonymous_run_names_neither_host_nor_command(make_run: MakeRun, tmp_path: Path) -> None:
    named, anonymous = (
        run_it(make_run(), tmp_path / "a"),
        run_it(make_run(), tmp_path / "b", recording=Recording(anonymous=True)),
    )
    assert (anonymous.provenance.host, anonymous.provenance.command) == ("", "")
    assert named.provenance.host == socket.gethostname()
    written = (tmp_path / "b" / anonymous.id / "run.json").read_text()
    assert named.provenance.host not in written
    assert named.outcome() == anonymous.outcome()


def test_the_record_names_the_code_that_began_whatever_becomes_of_its_files(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("recipe.epochs=1")
    before = provenance.facts_of_beginning(run, torch.device("cpu"))
    code_hash.shared_code_hash.cache_clear()  # as in a process of its own

    def replace_the_checkout(progress: Progress) -> None:
        if progress.phase == "evaluating":
            monkeypatch.setattr(provenance, "_git", lambda *_: "another commit")
            monkeypatch.setattr(provenance, "_version", lambda _: "another version")
            monkeypatch.setattr(code_hash, "PACKAGE", tmp_path / "nothing")
            code_hash.forget_files()

    made = run_it(run, tmp_path, listen=replace_the_checkout).provenance.model_dump()
    of_code = ("git_commit", "git_dirty", "packages", "code_hash", "shared_code_hash")
    assert [made[key] for key in of_code] == [before[key] for key in of_code]
    assert made["peak_memory_bytes"] > 0


def test_the_record_is_written_and_complete(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    record = run_it(run, tmp_path)
    folder = RunFolder.of(tmp_path, run)
    assert read_record(folder.record) == record
    assert not folder.checkpoint.exists()
    assert [epoch.epoch for epoch in record.epochs] == [1, 2, 3]
    assert record.configuration == run.configuration()
    assert record.last_top1_percent == record.epochs[-1].test_top1_percent
    assert record.best_top1_percent == max(epoch.test_top1_percent for epoch in record.epochs)
    for epoch in record.epochs:
        assert 0.7 - 1e-6 <= epoch.weight_min <= epoch.weight_mean <= epoch.weight_max <= 1.05
        assert epoch.weight_std > 0
        assert epoch.train_top1_percent <= epoch.train_top5_percent
    start = record.provenance.start_seconds
    assert list(start) == ["imports", "data", "network"]
    assert start["imports"] > 0.5  # processor time, PyTorch included
    # Warm-up reaches the full rate at the last step of epoch 1; the rate falls after 2 complete epochs.
    assert [epoch.learning_rate for epoch in record.epochs] == pytest.approx([0.01, 0.01, 0.002])


@pytest.mark.parametrize("column", ["ce", "bias"])
def test_cross_entropy_weights_are_one_and_others_are_not(make_run: MakeRun, tmp_path: Path, column: str) -> None:
    epoch = run_it(make_run("recipe.epochs=1", column=column), tmp_path).epochs[0]
    assert (epoch.weight_mean == 1 and epoch.weight_std == 0) == (column == "ce")
    # cross-entropy measures no features, and is not slowed down to do so
    assert (epoch.feature_correlation is None) == (column == "ce")


@pytest.mark.parametrize("asked", range(1, 9))
def test_interrupted_anywhere_and_resumed_is_as_if_never_interrupted(
    make_run: MakeRun, tmp_path: Path, asked: int
) -> None:
    run = make_run("weighting.normalization=running")
    whole = run_it(run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_it(run, tmp_path / "halves", should_stop=stopper(asked))
    resumed = run_it(run, tmp_path / "halves")
    assert resumed.outcome() == whole.outcome()
    assert resumed.provenance.resumptions == 1


@pytest.mark.parametrize("asked", [2, 3, 6])
def test_a_run_of_adamw_is_as_if_never_interrupted(make_run: MakeRun, tmp_path: Path, asked: int) -> None:
    run = make_run(*ADAMW)
    whole = run_it(run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_it(run, tmp_path / "halves", should_stop=stopper(asked))
    assert run_it(run, tmp_path / "halves").outcome() == whole.outcome()
    assert whole.state_hash != run_it(make_run(), tmp_path / "sgd").state_hash


def test_a_checkpoint_of_another_optimizer_is_refused_whatever_is_allowed(make_run: MakeRun, tmp_path: Path) -> None:
    run, other = make_run(), make_run(*ADAMW)
    other = other.model_copy(update={"cell": other.cell.model_copy(update={"table": run.cell.table})})
    with pytest.raises(Interrupted):
        run_it(run, tmp_path, should_stop=stopper(2))
    with pytest.raises(ConfigError, match=r"belongs to another run:\n  recipe.optimizer: was sgd, is adamw"):
        run_it(other, tmp_path, allow_changed=True)


@pytest.mark.parametrize("asked", [2, 5])
def test_a_shuffled_run_draws_the_same_permutations_after_an_interruption(
    make_run: MakeRun, tmp_path: Path, asked: int
) -> None:
    run = make_run(loss="shuffled_bias")
    whole = run_it(run, tmp_path / "whole")
    with pytest.raises(Interrupted):
        run_it(run, tmp_path / "halves", should_stop=stopper(asked))
    assert run_it(run, tmp_path / "halves").outcome() == whole.outcome()
    assert whole.state_hash != run_it(make_run(), tmp_path / "bias").state_hash


def test_a_run_stopped_at_every_step_still_ends_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    whole = run_it(run, tmp_path / "whole")
    for _ in range(100):
        try:
            pieces = run_it(run, tmp_path / "pieces", should_stop=lambda: True)
            break
        except Interrupted:
            continue
    assert pieces.outcome() == whole.outcome()
    assert pieces.provenance.resumptions == 8


@pytest.mark.parametrize(
    ("within", "at_end", "saved"),
    [
        (0.0, 0.0, [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]),
        (180.0, 0.0, [(2, 0), (3, 0)]),
        (180.0, 30.0, []),  # these epochs take no second
    ],
)
def test_checkpoints_are_saved_within_long_epochs_and_not_after_each_short_one(
    within: float,
    at_end: float,
    saved: list[tuple[int, int]],
    make_run: MakeRun,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = itertools.count(step=0.001)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", within)
    monkeypatch.setattr(train, "EPOCH_CHECKPOINT_SECONDS", at_end)
    found: list[tuple[int, int]] = []
    keep = train.checkpoint.save
    monkeypatch.setattr(
        train.checkpoint,
        "save",
        lambda folder, header, *rest: (found.append((header.epoch, header.step)), keep(folder, header, *rest)),
    )
    run_it(make_run(), tmp_path)
    assert found == saved


def test_the_last_checkpoint_is_30_seconds_and_a_short_epoch_old_at_most(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still but for 20 seconds in each evaluation: every second epoch of 20 s is saved."""
    now, evaluate = [0.0], train.Learner.evaluate

    def slow(learner: train.Learner) -> Any:
        now[0] += 20.0
        return evaluate(learner)

    monkeypatch.setattr(train.Learner, "evaluate", slow)
    ticks = itertools.count()
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: now[0] + 1e-6 * next(ticks)))
    found: list[int] = []
    monkeypatch.setattr(train.checkpoint, "save", lambda _folder, header, *_: found.append(header.epoch))
    run_it(make_run("recipe.epochs=6"), tmp_path)
    assert found == [3, 5]


def test_a_recorded_run_is_not_trained_again(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run_it(make_run(), tmp_path)
    monkeypatch.setattr(train, "Training", None)
    assert run_it(make_run(), tmp_path) == record


@pytest.mark.parametrize(
    ("cell", "device", "why"),
    [
        ("demo/shufflenetv2/bias", "cuda:99", "CUDA"),
        ("demo/shufflenetv2/bias", "tpu", "unknown device"),
        ("table2/squeezenet/bias", "cpu", "CIFAR-100 is not here"),
    ],
)
def test_a_device_or_data_that_are_not_there_leave_no_folder(tmp_path: Path, cell: str, device: str, why: str) -> None:
    results = tmp_path / "results"
    with pytest.raises(UserError, match=why):
        train_run(Run(cell=find_cell(cell), seed=0), results=results, data_root=tmp_path, device=device)
    assert not results.exists()


def test_a_record_of_another_configuration_is_not_overwritten(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    run_it(run, tmp_path)
    other = run.model_copy(
        update={"cell": run.cell.model_copy(update={"recipe": make_run("recipe.momentum=0.5").cell.recipe})}
    )
    with pytest.raises(ConfigError, match="another configuration"):
        run_it(other, tmp_path)


def test_a_loss_that_is_not_finite_stops_the_run_at_the_step(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = 0
    untouched = Feed.batch

    def poisoned(self: Feed, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal batches
        batches += 1
        images, targets = untouched(self, step)
        return (images * float("nan") if batches == 5 else images), targets

    monkeypatch.setattr(Feed, "batch", poisoned)
    heard: list[Progress] = []
    record = run_it(make_run(), tmp_path, listen=heard.append)
    assert record.status == "diverged"
    assert record.reason == "the loss was not finite at epoch 2, step 2"
    assert batches == 5
    assert len(record.epochs) == 1
    assert record.state_hash is None
    assert heard[-1].phase == "diverged"
    assert read_record(RunFolder.of(tmp_path, make_run()).record).status == "diverged"


@pytest.mark.parametrize("when", ["a step of epoch 1", "the last step of epoch 2", "the test of epoch 1"])
def test_a_diverged_run_took_the_time_of_the_epoch_that_it_did_not_finish(
    when: str, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that stands still but for 2 seconds in each step and 5 in each evaluation; an epoch has 3 steps."""
    now, learner = [0.0], train.Learner
    train_on_batch, evaluate = learner.train_on_batch, learner.evaluate

    def slow_step(self: Any, step: int) -> int:
        now[0] += 2.0
        if (self.state.epoch, step) == {"a step of epoch 1": (1, 1), "the last step of epoch 2": (2, 2)}.get(when):
            self.state.totals.bad_step.fill_(step + 1)
        return train_on_batch(self, step)

    def slow_test(self: Any) -> Any:
        now[0] += 5.0
        tested = evaluate(self)
        return replace(tested, loss=float("nan")) if when == "the test of epoch 1" else tested

    monkeypatch.setattr(learner, "train_on_batch", slow_step)
    monkeypatch.setattr(learner, "evaluate", slow_test)
    monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: now[0]))
    record = run_it(make_run(), tmp_path)
    assert record.status == "diverged"
    expected = {"a step of epoch 1": 4.0, "the last step of epoch 2": 17.0, "the test of epoch 1": 11.0}
    assert record.provenance.duration_seconds == expected[when]


def test_what_changed_between_two_halves_is_refused_or_marked(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    with pytest.raises(Interrupted):
        run_it(run, tmp_path, should_stop=stopper(2))
    monkeypatch.setattr("repro.engine.provenance.code_hash", lambda *_: "another")
    with pytest.raises(ConfigError, match=r"code: was .*, is another"):
        run_it(run, tmp_path)
    record = run_it(run, tmp_path, allow_changed=True)
    assert len(record.provenance.changes_accepted) == 1


def test_images_in_another_order_or_another_test_set_are_refused(
    make_run: MakeRun, small_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = iter(("one", "one", "another"))
    monkeypatch.setattr(train, "load_dataset", lambda *_, **__: replace(small_dataset, content=next(contents)))
    for _ in range(2):
        with pytest.raises(Interrupted):
            run_it(make_run(), tmp_path, should_stop=stopper(2))
    with pytest.raises(ConfigError, match="different settings:\n  images: was one, is another\n"):
        run_it(make_run(), tmp_path)


def test_a_damaged_checkpoint_is_put_aside_and_the_previous_one_taken(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    whole = run_it(run, tmp_path / "whole")
    for _ in range(2):  # twice, so that there is a previous checkpoint
        with pytest.raises(Interrupted):
            run_it(run, tmp_path / "hurt", should_stop=stopper(2))
    folder = RunFolder.of(tmp_path / "hurt", run)
    raw = bytearray(folder.checkpoint.read_bytes())
    raw[len(raw) // 2] ^= 1
    folder.checkpoint.write_bytes(raw)
    heard: list[Progress] = []
    assert run_it(run, tmp_path / "hurt", listen=heard.append).outcome() == whole.outcome()
    assert any("damaged" in (progress.message or "") for progress in heard)
    assert (folder.path / "checkpoint.pt.damaged").exists()


def test_incomplete_batches_are_dropped_as_the_recipe_says(make_run: MakeRun, small_dataset: Dataset) -> None:
    device, layout = torch.device("cpu"), torch.channels_last
    kept = Feed(small_dataset, make_run().cell.recipe, 0, device, layout)
    dropped = Feed(small_dataset, make_run("recipe.drop_last=true").cell.recipe, 0, device, layout)
    assert (kept.steps, dropped.steps) == (3, 2)
    kept.begin_epoch(1)
    assert [len(kept.batch(step)[1]) for step in range(3)] == [32, 32, 20]


@pytest.mark.parametrize(("drop_last", "images"), [("false", 84), ("true", 64)])
def test_the_time_left_is_of_the_images_that_are_trained_on(
    drop_last: str, images: int, make_run: MakeRun, small_dataset: Dataset
) -> None:
    run, heard = make_run(f"recipe.drop_last={drop_last}"), list[Progress]()
    settings = set_up_device(torch.device("cpu"), run.cell.execution, 1, run.cell.row.model)
    training = train.Training(run, small_dataset, settings, heard.append, lambda: False)
    training.reporter.count(images)
    training.state.epoch, training.state.step = run.cell.recipe.epochs - 1, training.steps
    training.reporter.report("training")
    assert heard[-1].eta_seconds == pytest.approx(images / heard[-1].images_per_second)


def test_every_epoch_shows_every_image_once_in_another_order(make_run: MakeRun, small_dataset: Dataset) -> None:
    numbered = small_dataset.__class__(**{**small_dataset.__dict__, "train_labels": torch.arange(84)})
    feed = Feed(numbered, make_run().cell.recipe, 0, torch.device("cpu"), torch.contiguous_format)
    orders = []
    for epoch in (1, 2):
        feed.begin_epoch(epoch)
        orders.append(torch.cat([feed.batch(step)[1] for step in range(3)]).tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(84))
    assert orders[0] != orders[1]


def test_recomputation_said_of_a_whole_table_is_for_the_networks_that_have_it(
    make_run: MakeRun, tmp_path: Path
) -> None:
    record = run_it(make_run("execution.recompute=true", "recipe.epochs=1"), tmp_path)
    assert record.status == "completed"
    assert record.execution_in_force["recompute"] is False


def test_a_run_on_a_cpu_takes_one_thread_unless_it_is_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", chosen.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for threads in (None, 2):
        set_up_device(torch.device("cpu"), Execution(), threads, "shufflenetv2_x0_5")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # torch took it as it was loaded
    set_up_device(torch.device("cpu"), Execution(), None, "shufflenetv2_x0_5")
    assert chosen == [1, 2]
