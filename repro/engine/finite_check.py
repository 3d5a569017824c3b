"""Checks at every step whether the loss is finite, without making a GPU wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from repro.engine.step import NO_BAD_STEP

STEPS_BETWEEN_COPIES = 16
COPIES_UNDER_WAY = 2
_NAP_SECONDS = 0.0005


class CudaCopy:
    """A copy of the first bad step from the device into pinned memory, with an event behind it in the stream."""

    def __init__(self, bad_step: Tensor) -> None:
        self._copy = torch.empty((), dtype=torch.int64, pin_memory=True)
        self._copy.copy_(bad_step, non_blocking=True)
        self._event = torch.cuda.Event()
        self._event.record()

    def arrived(self) -> bool:
        """Whether the copy is complete; does not wait."""
        return bool(self._event.query())

    def value(self) -> int:
        """The first bad step at the time of the copy; valid once it arrived."""
        return int(self._copy)


class FiniteCheck:
    """Finds the first step of the epoch whose loss is not finite: on a CPU at once, on a GPU within 50 steps.

    On a GPU it also limits the queued steps to about as many, so that a request to stop takes effect soon and progress
    shows what the device has done. The queue never runs empty because of it.
    """

    def __init__(self, bad_step: Tensor, start_copy: Callable[[Tensor], CudaCopy] | None = None) -> None:
        self._bad_step = bad_step
        self._start_copy = start_copy or (CudaCopy if bad_step.is_cuda else None)
        self._under_way: deque[CudaCopy] = deque()
        self._steps = 0

    def after_step(self) -> int | None:
        """The first bad step so far (from 1), None if none is known. Call it after every step."""
        if self._start_copy is None:
            return self.now()
        self._steps += 1
        if self._steps % STEPS_BETWEEN_COPIES:
            return None
        self._under_way.append(self._start_copy(self._bad_step))
        if len(self._under_way) <= COPIES_UNDER_WAY:
            return None
        oldest = self._under_way.popleft()
        while not oldest.arrived():
            time.sleep(_NAP_SECONDS)
        return _known(oldest.value())

    def now(self) -> int | None:
        """The first bad step, None if there is none; waits for the device."""
        return _known(int(self._bad_step))


def _known(bad_step: int) -> int | None:
    return None if bad_step == NO_BAD_STEP else bad_step
