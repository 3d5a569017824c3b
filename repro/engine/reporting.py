"""Progress messages of a run: its phase, how far it is, how fast it trains."""

from __future__ import annotations

import time
from collections import deque

from repro.engine.state import TrainingState
from repro.experiment.schema import Run
from repro.progress import Listener, Phase, Progress

REPORT_SECONDS = 0.25
# The speed is that of the last minute, and of no less than the last epoch, since each epoch has one evaluation.
SPEED_SECONDS = 60.0
# The processor time that this process took until now: to start Python, and to import PyTorch and the engine.
IMPORT_SECONDS = time.process_time()


class StartTimes:
    """Seconds that the start of a run took, by part: ``imports``, then each part that ``done`` ends."""

    def __init__(self) -> None:
        self.seconds = {"imports": round(IMPORT_SECONDS, 3)}
        self._last = time.monotonic()

    def done(self, part: str) -> None:
        """End a part, which began where the one before it ended."""
        now = time.monotonic()
        self.seconds[part] = round(now - self._last, 3)
        self._last = now


class Reporter:
    """Sends ``listen`` the progress of ``run``, whose epochs have ``steps`` batches of ``images`` in all."""

    def __init__(self, run: Run, state: TrainingState, steps: int, images: int, listen: Listener) -> None:
        self._run, self._state, self._steps, self._listen = run, state, steps, listen
        self._epoch_images = images  # the last batch of an epoch may be a short one
        self._images = 0
        self._reported = time.monotonic()
        self._counts = deque([(self._reported, 0)])  # at each report: when, and the images until then

    def begin(self) -> None:
        """Start measuring the speed."""
        self._counts = deque([(time.monotonic(), self._images)])

    def count(self, images: int) -> None:
        """Count the images of a batch; report every ``REPORT_SECONDS``."""
        self._images += images
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            self.report("training")

    def report(self, phase: Phase, message: str | None = None) -> None:
        """Send a message. Reads nothing from the device."""
        state, epochs = self._state, self._run.cell.recipe.epochs
        last = state.history[-1] if state.history else None
        speed = self._measure_speed()
        done = min(state.step * self._run.cell.recipe.batch_size, self._epoch_images)
        images_left = (epochs - state.epoch + 1) * self._epoch_images - done
        self._listen(
            Progress(
                self._run.id,
                phase,
                epoch=min(state.epoch, epochs),
                epochs=epochs,
                step=state.step,
                steps=self._steps,
                train_loss=last.train_loss if last else None,
                train_top1_percent=last.train_top1_percent if last else None,
                test_top1_percent=last.test_top1_percent if last else None,
                images_per_second=speed,
                eta_seconds=images_left / speed if speed else None,
                message=message,
                test_loss=last.test_loss if last else None,
                learning_rate=last.learning_rate if last else None,
                weight_mean=last.weight_mean if last else None,
            )
        )

    def _measure_speed(self) -> float | None:
        """Images a second in the last minute and epoch, or since ``begin``; None before the first image."""
        now, counts = time.monotonic(), self._counts
        counts.append((now, self._images))
        while now - counts[1][0] >= SPEED_SECONDS and self._images - counts[1][1] >= self._epoch_images:
            counts.popleft()
        before, images = counts[0]
        return (self._images - images) / (now - before) if self._images > images and now > before else None
