"""One run, from its configuration to its record; reads from top to bottom as the experiment runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from repro.data import Dataset, load_dataset
from repro.data.prepare import know_fingerprint, require_images
from repro.engine import checkpoint
from repro.engine.changes import check_changes
from repro.engine.conclusion import conclude
from repro.engine.device import DeviceSettings, choose_device, keep_freed_memory, set_up_device
from repro.engine.energy import EnergyMeter
from repro.engine.final_weights import weights_to_bytes
from repro.engine.finite_check import FiniteCheck
from repro.engine.learner import Learner
from repro.engine.provenance import device_name, facts_of_beginning, fingerprint, peak_memory_bytes
from repro.engine.recording import NUMBERS_ALONE, Recording
from repro.engine.reporting import Reporter, StartTimes
from repro.engine.schedule import learning_rate
from repro.engine.state import finished_epoch
from repro.errors import ConfigError, Interrupted
from repro.experiment.schema import Run
from repro.progress import Listener, Progress, ignore
from repro.results import RunFolder, RunRecord, find_record, require_weights, write_record, write_weights
from repro.results.checkpoint_file import Header
from repro.results.disk_space import failed_writes_explained, require_space
from repro.results.ownership import Ownership, own

# Since the last checkpoint: within an epoch, and at its end, where epochs may be shorter than saving one is worth.
CHECKPOINT_SECONDS = 180.0
EPOCH_CHECKPOINT_SECONDS = 30.0


def train_run(
    run: Run,
    *,
    results: Path,
    data_root: Path,
    node_data: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    allow_changed: bool = False,
    recording: Recording = NUMBERS_ALONE,
    listen: Listener = ignore,
    should_stop: Callable[[], bool] = lambda: False,
) -> RunRecord:
    """Train ``run`` to its end, from its checkpoint if it has one, and write its record under ``results``.

    ``node_data`` is a local folder for a copy of the decoded images; None opens those in ``data_root``. A run that has
    a record is not trained again. Raises:

    - Interrupted once ``should_stop`` is true and a checkpoint is saved; OwnedElsewhere if another process trains the
      run;
    - ConfigError if the record or the checkpoint belongs to another configuration, or if configuration, code, torch,
      data, device, processor or threads changed since the checkpoint (unless ``allow_changed``: the record lists it);
    - DataError for missing or damaged data; UserError if the disk is too full to start, and for a record without the
      weights that ``recording`` keeps; RunFailure if the disk fills up.
    """
    # --- Already recorded? ---
    start = StartTimes()
    folder = RunFolder.of(results, run)
    if (facts := run.cell.dataset.facts) is not None:
        know_fingerprint(facts, data_root)  # a record of other images is refused
    if (finished := find_record(folder)) is not None:
        return _as_asked(finished, run, folder, recording)

    # --- Device. Report missing data before taking the lock, which creates the run's folder ---
    settings = set_up_device(choose_device(device), run.cell.execution, threads, run.cell.row.model)
    require_images(run.cell.dataset.known_facts, data_root)

    with own(folder) as ownership:
        if (finished := find_record(folder)) is not None:  # by another process, just now
            return _as_asked(finished, run, folder, recording)

        # --- Data ---
        keep_freed_memory()
        listen(Progress(run.id, "starting", epochs=run.cell.recipe.epochs, message=device_name(settings.device)))
        dataset = load_images(run, data_root, node_data, listen)
        start.done("data")

        # --- Network and optimizer, from the checkpoint if there is one ---
        training = Training(run, dataset, settings, listen, should_stop)
        require_space(ownership.folder, training.state.size_bytes())
        training.resume(ownership, allow_changed=allow_changed)
        start.done("network")

        # --- Train, record ---
        reason = training.train(ownership)
        return training.record(ownership, reason, start, recording)


def load_images(run: Run, data_root: Path, node_data: Path | None = None, listen: Listener = ignore) -> Dataset:
    """The images of ``run``; what happens on the way goes to ``listen``."""
    choice = run.cell.dataset
    say = partial(Progress, run.id, "starting", epochs=run.cell.recipe.epochs)
    return load_dataset(
        choice.known_facts,
        data_root,
        classes=choice.classes,
        node_data=node_data,
        say=lambda note: listen(say(message=note)),
    )


class Training:
    """A run on a device: the loop over its epochs and steps, with checkpoints."""

    def __init__(
        self, run: Run, dataset: Dataset, settings: DeviceSettings, listen: Listener, should_stop: Callable[[], bool]
    ) -> None:
        self.run = run
        self.recipe = run.cell.recipe
        self.dataset = dataset
        self.settings = settings
        self.device = settings.device
        self.should_stop = should_stop
        self.learner = Learner(run, dataset, settings)
        self.feed, self.state = self.learner.feed, self.learner.state
        self.steps = self.feed.steps
        images = min(self.feed.count, self.steps * self.recipe.batch_size)
        self.reporter = Reporter(run, self.state, self.steps, images, listen)
        # Of the code as it is imported now: its files may change while the run trains.
        self._fingerprint = fingerprint(run, settings.device, dataset)
        self._facts = facts_of_beginning(run, settings.device)
        self._finite = FiniteCheck(self.state.totals.bad_step)
        self._energy = EnergyMeter(settings.device)  # after the learner, which takes the GPU
        self._saved = time.monotonic()
        self._checkpoints = 0

    def resume(self, ownership: Ownership, *, allow_changed: bool) -> None:
        """Continue from the checkpoint in the run's folder, if there is a good one."""
        folder = ownership.folder
        loaded = checkpoint.load(folder, self.run.id)
        for problem in loaded.problems:
            self.reporter.report("starting", problem)
        self._checkpoints = loaded.commit
        if loaded.state is None:
            return
        where = str(folder.checkpoint)
        try:
            changes = check_changes(loaded.state, self.run, self._fingerprint, accepted=allow_changed, where=where)
            self.state.restore(loaded.state)
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"the checkpoint does not fit this run ({type(error).__name__})",
                where=where,
                hint="Another version of biasrepro wrote it. Delete the checkpoints to start over.",
            ) from error
        self.state.resumptions += 1
        self.state.changes_accepted += changes
        self.reporter.report("training", f"resumed at epoch {self.state.epoch}, step {self.state.step}")

    def train(self, ownership: Ownership) -> str | None:
        """Train the remaining epochs. Returns why the run diverged, or None. Raises Interrupted."""
        state = self.state
        self._saved = time.monotonic()
        self.reporter.begin()
        while state.epoch <= self.recipe.epochs:
            reason = self._train_epoch(ownership) or self._finish_epoch()
            if reason:
                return reason
            if state.epoch <= self.recipe.epochs and self._save_is_due(EPOCH_CHECKPOINT_SECONDS):
                self._save(ownership)
                self._stop_if_asked()
        return None

    def record(self, ownership: Ownership, reason: str | None, start: StartTimes, recording: Recording) -> RunRecord:
        """Write the weights, if they are kept, then the record, which names them; ``reason`` says why it diverged."""
        folder, weights = ownership.folder, None
        if recording.keep_weights and reason is None:
            raw = weights_to_bytes(self.state.model, self.run, self.dataset)
            with failed_writes_explained(folder, "the weights file", len(raw)):
                weights = write_weights(folder, raw, ownership.write)
        facts = self._facts | {
            "peak_memory_bytes": peak_memory_bytes(self.device),
            "start_seconds": start.seconds | self.learner.capture_seconds,
            "energy_joules": None if self.state.resumptions else self._energy.joules(),  # of the whole run, or of none
        }
        record = conclude(self.run, self.state, self.settings, reason, self.dataset, facts, recording, weights)
        with failed_writes_explained(folder, "the record"):
            write_record(folder, record, ownership.write)
        self.reporter.report("diverged" if reason else "completed", reason)
        return record

    def _train_epoch(self, ownership: Ownership) -> str | None:
        """Train the remaining steps of the epoch. Returns why the run diverged, or None."""
        state = self.state
        began = time.monotonic()
        self.feed.begin_epoch(state.epoch)
        for step in range(state.step, self.steps):
            # --- One batch ---
            images = self.learner.train_on_batch(step)
            state.step = step + 1

            # --- Is the loss still finite? ---
            if self._finite.after_step() is not None:
                break

            # --- Report; save a checkpoint if one is due or a stop was requested ---
            self.reporter.count(images)
            if step + 1 < self.steps and self._save_is_due(CHECKPOINT_SECONDS):
                state.epoch_seconds += time.monotonic() - began
                self._save(ownership)
                began = time.monotonic()
                self._stop_if_asked()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        state.epoch_seconds += time.monotonic() - began
        if (bad_step := self._finite.now()) is None:
            return None
        state.run_seconds += state.epoch_seconds
        return f"the loss was not finite at epoch {state.epoch}, step {bad_step}"

    def _finish_epoch(self) -> str | None:
        """Evaluate, add the epoch to the history, start the next one. Returns why the run diverged, or None."""
        state = self.state

        # --- Test accuracy ---
        self.reporter.report("evaluating")
        began = time.monotonic()
        tested = self.learner.evaluate()
        test_seconds = time.monotonic() - began
        state.run_seconds += state.epoch_seconds + test_seconds
        if math.isnan(tested.loss) or tested.loss == math.inf:
            return f"the test loss was not finite after epoch {state.epoch}"

        # --- The epoch's record ---
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
        self._energy.look()
        self.reporter.report("epoch_done")

        # --- The next epoch ---
        state.epoch, state.step, state.epoch_seconds = state.epoch + 1, 0, 0.0
        state.totals.reset()
        return None

    def _save_is_due(self, seconds: float) -> bool:
        """Whether the last checkpoint is ``seconds`` old, or a stop was requested."""
        return time.monotonic() - self._saved >= seconds or self.should_stop()

    def _save(self, ownership: Ownership) -> None:
        state = self.state
        self._checkpoints += 1
        saved = {"configuration": self.run.configuration(), "fingerprint": self._fingerprint, **state.to_checkpoint()}
        header = Header(self.run.id, self._checkpoints, state.epoch, state.step)
        what = f"the checkpoint at epoch {state.epoch}, step {state.step},"
        with failed_writes_explained(ownership.folder, what, state.size_bytes()):
            checkpoint.save(ownership.folder, header, saved, ownership.write)
        self._saved = time.monotonic()

    def _stop_if_asked(self) -> None:
        """Raise Interrupted if a stop was requested. Call it right after saving a checkpoint."""
        if self.should_stop():
            self.reporter.report("interrupted")
            raise Interrupted(f"{self.run.id}: checkpoint saved at epoch {self.state.epoch}, step {self.state.step}")


def _as_asked(record: RunRecord, run: Run, folder: RunFolder, recording: Recording) -> RunRecord:
    """The record that is there already. Raises UserError if it is not what would be recorded now."""
    if not record.is_of(run):
        raise ConfigError(
            f"a run of another configuration is recorded here: {record.unlike(run)}",
            where=str(folder.record),
            hint="Use another --results folder, or move this record away.",
        )
    if recording.keep_weights and record.status == "completed":
        require_weights(folder, record)
    return record
