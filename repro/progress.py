"""The progress message of a run, for the terminal, the sweep and other listeners.

Between processes it is a line of JSON, so it holds plain values only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

Phase = Literal["starting", "training", "evaluating", "epoch_done", "completed", "diverged", "interrupted", "failed"]
Trouble = Literal["out_of_memory", "device_lost"]


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    ``epoch`` counts from 1 (0 before the first), ``step`` within the epoch. ``train_loss``, ``train_top1_percent`` and
    ``test_top1_percent`` are the latest values, and so are ``test_loss``, ``learning_rate`` (at its end) and
    ``weight_mean`` (of the loss); ``images_per_second`` is the speed of the last minute and epoch, ``eta_seconds`` the
    time left at that speed; None if unknown.
    ``message`` is for people (the device at the start, the cause of a failure); ``trouble`` is for programs: a failure
    that another attempt may not have.
    """

    run_id: str
    phase: Phase
    epoch: int = 0
    epochs: int = 0
    step: int = 0
    steps: int = 0
    train_loss: float | None = None
    train_top1_percent: float | None = None
    test_top1_percent: float | None = None
    images_per_second: float | None = None
    eta_seconds: float | None = None
    message: str | None = None
    trouble: Trouble | None = None
    test_loss: float | None = None
    learning_rate: float | None = None
    weight_mean: float | None = None

    def to_line(self) -> str:
        """One line of JSON, without the newline."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str) -> Progress:
        """The message in ``line``. Raises ValueError for anything else."""
        try:
            return cls(**json.loads(line))
        except TypeError as error:
            raise ValueError(f"not a progress message: {line[:80]}") from error


Listener = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """A listener that does nothing."""
