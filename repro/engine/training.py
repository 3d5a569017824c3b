"""One run, from its configuration to its record: the experiment in reading order."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from repro.data import Dataset, load_dataset
from repro.data.prepare import require_images
from repro.engine import checkpoint, environment
from repro.engine.changes import check_changes
from repro.engine.conclusion import conclude
from repro.engine.finite_check import Watch
from repro.engine.schedule import learning_rate
from repro.engine.state import finished_epoch
from repro.engine.stepping import Stepper
from repro.errors import ConfigError, Interrupted
from repro.experiment.catalog import dataset_facts
from repro.experiment.schema import Run
from repro.progress import Listener, Progress, ignore
from repro.results import RunFolder, RunRecord, find_record, write_record
from repro.results.checkpoint_file import Header
from repro.results.disk_space import failed_writes_explained, require_space
from repro.results.lock import Ownership, own

CHECKPOINT_SECONDS = 180.0
REPORT_SECONDS = 0.25


def train_run(
    run: Run,
    *,
    results: Path,
    data_root: Path,
    node_data: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    allow_changed: bool = False,
    listen: Listener = ignore,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Train ``run`` to its end, from its checkpoint where there is one, and commit its record under ``results``.

    ``node_data`` is a folder of this machine for a copy of the decoded images, None to open those in ``data_root``.
    A run whose record is there already is not trained again. Raises Interrupted once ``should_stop`` turned true and
    the state is committed; OwnedElsewhere where another process trains the run; ConfigError where the record or the
    checkpoint belongs to another configuration, or configuration, code, torch, device or thread count changed between
    two halves (unless ``allow_changed``, which marks the record); DataError where the data set is missing or damaged;
    UserError where the disk is too full to begin, RunFailure where it fills up later.
    """
    folder = RunFolder.of(results, run)
    if (finished := find_record(folder)) is not None:
        return _same_configuration(finished, run, folder)
    # What is not there is said before the run has a folder: owning it makes one.
    chosen = environment.choose_device(device)
    in_force = environment.prepare(chosen, run.cell.execution, threads, run.cell.row.model)
    require_images(dataset_facts(run.cell.dataset.name), data_root)
    with own(folder) as ownership:
        if (finished := find_record(folder)) is not None:  # by another process, just now
            return _same_configuration(finished, run, folder)
        return _train(run, ownership, chosen, in_force, data_root, node_data, allow_changed, listen, should_stop)


def _train(
    run: Run,
    ownership: Ownership,
    chosen: torch.device,
    in_force: dict[str, Any],
    data_root: Path,
    node_data: Path | None,
    allow_changed: bool,
    listen: Listener,
    should_stop: Callable[[], bool],
) -> RunRecord:
    """Train the run that this process owns, and commit its record."""
    environment.keep_freed_memory()
    listen(Progress(run.id, "starting", epochs=run.cell.recipe.epochs, message=environment.device_name(chosen)))
    choice = run.cell.dataset
    said: list[str] = []
    dataset = load_dataset(choice.name, data_root, classes=choice.classes, node_data=node_data, say=said.append)
    training = Training(run, dataset, chosen, in_force, listen, should_stop)
    for message in said:
        listen(training.progress("starting", message=message))
    require_space(ownership.folder, training.state.size_bytes())
    training.resume(ownership, allow_changed=allow_changed)
    reason = training.to_the_end(ownership)
    record = conclude(run, training.state, chosen, in_force, reason, dataset)
    with failed_writes_explained(ownership.folder, "the record"):
        write_record(ownership.folder, record, ownership.write)
    listen(training.progress("diverged" if reason else "completed", message=reason))
    return record


class Training:
    """A run on a device: the data set resident there, the networks, and the loop over epochs and steps."""

    def __init__(
        self,
        run: Run,
        dataset: Dataset,
        device: torch.device,
        in_force: dict[str, Any],
        listen: Listener,
        should_stop: Callable[[], bool],
    ) -> None:
        self.run = run
        self.recipe = run.cell.recipe
        self.device = device
        self.in_force = in_force
        self.listen = listen
        self.should_stop = should_stop
        self.stepper = Stepper(run, dataset, device, in_force)
        self.feed, self.state = self.stepper.feed, self.stepper.state
        self.steps = self.feed.steps
        self._watch = Watch(self.state.totals.bad_step)
        self._reported = self._committed = self._speed_since = time.monotonic()
        self._images_done = 0
        self._commits = 0

    def resume(self, ownership: Ownership, *, allow_changed: bool) -> None:
        """Go on from the checkpoint in the run's folder, where there is a good one."""
        folder = ownership.folder
        loaded = checkpoint.load(folder, self.run.id)
        for problem in loaded.problems:
            self.listen(self.progress("starting", message=problem))
        self._commits = loaded.commit
        if loaded.state is None:
            return
        where = str(folder.checkpoint)
        try:
            changes = check_changes(
                loaded.state,
                self.run,
                environment.fingerprint(self.device, self.feed.dataset.fingerprint),
                accepted=allow_changed,
                where=where,
            )
            self.state.restore(loaded.state)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the checkpoint does not fit this run ({type(error).__name__})",
                where=where,
                hint="It is whole, and not of this version of biasrepro: delete it to begin again.",
            ) from error
        self.state.resumptions += 1
        self.state.changes_accepted += changes
        self.listen(self.progress("training", message=f"resumed at epoch {self.state.epoch}, step {self.state.step}"))

    def to_the_end(self, ownership: Ownership) -> str | None:
        """Train the epochs that are left. Returns None, or why the run diverged. Raises Interrupted."""
        state = self.state
        self._committed = self._speed_since = time.monotonic()
        while state.epoch <= self.recipe.epochs:
            reason = self._train_epoch(ownership) or self._finish_epoch()
            if reason:
                return reason
            if state.epoch <= self.recipe.epochs:
                self._commit(ownership)
                self._stop_if_asked()
        return None

    def _train_epoch(self, ownership: Ownership) -> str | None:
        """The steps that are left of the epoch in progress. Returns why it diverged, or None."""
        state = self.state
        began = time.monotonic()
        self.feed.begin_epoch(state.epoch)
        for step in range(state.step, self.steps):
            self._images_done += self.stepper.take(step)
            state.step = step + 1
            if (bad_step := self._watch.after_step()) is not None:
                return self._diverged_at(bad_step)
            self._report()
            if step + 1 < self.steps and (self.should_stop() or self._commit_is_due()):
                state.epoch_seconds += time.monotonic() - began
                self._commit(ownership)
                began = time.monotonic()
                self._stop_if_asked()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        state.epoch_seconds += time.monotonic() - began
        bad_step = self._watch.now()
        return None if bad_step is None else self._diverged_at(bad_step)

    def _finish_epoch(self) -> str | None:
        """Evaluate, note the epoch, and set the state up for the next. Returns why the run diverged, or None."""
        state = self.state
        self.listen(self.progress("evaluating"))
        began = time.monotonic()
        tested = self.stepper.evaluate()
        test_seconds = time.monotonic() - began
        if tested.loss != tested.loss or tested.loss == float("inf"):
            return f"the test loss was not finite after epoch {state.epoch}"
        state.history.append(
            finished_epoch(
                state,
                learning_rate=learning_rate(self.recipe, state.epoch, self.steps - 1, self.steps),
                test_loss=tested.loss,
                test_top1_percent=tested.top1_percent,
                test_top5_percent=tested.top5_percent,
                train_seconds=state.epoch_seconds,
                test_seconds=test_seconds,
                images_per_second=float(state.totals.sums[3]) / state.epoch_seconds,
            )
        )
        self.listen(self.progress("epoch_done"))
        state.run_seconds += state.epoch_seconds + test_seconds
        state.epoch, state.step, state.epoch_seconds = state.epoch + 1, 0, 0.0
        state.totals.reset()
        return None

    def _diverged_at(self, bad_step: int) -> str:
        return f"the loss was not finite at epoch {self.state.epoch}, step {bad_step}"

    def _commit_is_due(self) -> bool:
        return time.monotonic() - self._committed > CHECKPOINT_SECONDS

    def _commit(self, ownership: Ownership) -> None:
        state = self.state
        self._commits += 1
        saved = {
            "configuration": self.run.configuration(),
            "fingerprint": environment.fingerprint(self.device, self.feed.dataset.fingerprint),
            **state.to_checkpoint(),
        }
        header = Header(self.run.id, self._commits, state.epoch, state.step)
        what = f"the state at epoch {state.epoch}, step {state.step},"
        with failed_writes_explained(ownership.folder, what, state.size_bytes()):
            checkpoint.save(ownership.folder, header, saved, ownership.write)
        self._committed = time.monotonic()

    def _stop_if_asked(self) -> None:
        """Raise Interrupted where a stop was asked for; called only right after a commit."""
        if self.should_stop():
            self.listen(self.progress("interrupted"))
            raise Interrupted(f"{self.run.id}: state committed at epoch {self.state.epoch}, step {self.state.step}")

    def _report(self) -> None:
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            self.listen(self.progress("training"))

    def progress(self, phase: Any, message: str | None = None) -> Progress:
        """Where the run stands. Reads the device only where the epoch's end has done so anyway."""
        state, epochs = self.state, self.recipe.epochs
        last = state.history[-1] if state.history else None
        elapsed = time.monotonic() - self._speed_since
        speed = self._images_done / elapsed if elapsed > 0 else None
        steps_left = max(0, (epochs - state.epoch + 1) * self.steps - state.step)
        return Progress(
            self.run.id,
            phase,
            epoch=min(state.epoch, epochs),
            epochs=epochs,
            step=state.step,
            steps=self.steps,
            train_loss=last.train_loss if last else None,
            train_top1_percent=last.train_top1_percent if last else None,
            test_top1_percent=last.test_top1_percent if last else None,
            images_per_second=speed,
            eta_seconds=steps_left * self.recipe.batch_size / speed if speed else None,
            message=message,
        )


def _same_configuration(record: RunRecord, run: Run, folder: RunFolder) -> RunRecord:
    if record.configuration_hash == run.hash:
        return record
    raise ConfigError(
        "a run of another configuration is recorded here",
        where=str(folder.record),
        hint="Give another --results folder, or move this record away.",
    )
