"""Whether the loss is still finite: checked at every step, without making a GPU wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from repro.engine.step import NO_BAD_STEP

STEPS_BETWEEN_COPIES = 16
COPIES_UNDER_WAY = 2
_NAP_SECONDS = 0.0005


class PendingCopy(Protocol):
    """A copy of the first bad step, on its way from the device."""

    def arrived(self) -> bool:
        """Whether it is complete; does not wait."""

    def value(self) -> int:
        """The first bad step at the time of the copy; only once it arrived."""


@dataclass(frozen=True)
class _CudaCopy:
    """A copy into pinned memory, and the event behind it in the stream."""

    copy: Tensor
    event: torch.cuda.Event

    def arrived(self) -> bool:
        return bool(self.event.query())

    def value(self) -> int:
        return int(self.copy)


def start_cuda_copy(bad_step: Tensor) -> PendingCopy:
    """Start copying ``bad_step`` from the device, without waiting."""
    copy = torch.empty((), dtype=torch.int64, pin_memory=True)
    copy.copy_(bad_step, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return _CudaCopy(copy, event)


class FiniteCheck:
    """Finds the first step of the epoch with a loss that is not finite: on a CPU at once, on a GPU within 50 steps.

    On a GPU it also limits the steps that are queued to about as many, so that a request to stop takes effect soon and
    progress shows what the device has done. The queue never runs empty because of it.
    """

    def __init__(self, bad_step: Tensor, start_copy: Callable[[Tensor], PendingCopy] | None = None) -> None:
        self._bad_step = bad_step
        self._start_copy = start_copy or (start_cuda_copy if bad_step.is_cuda else None)
        self._under_way: deque[PendingCopy] = deque()
        self._steps = 0

    def after_step(self) -> int | None:
        """The first bad step so far (from 1), None where none is known. Call it after every step."""
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
        """The first bad step, None where there is none; waits for the device."""
        return _known(int(self._bad_step))


def _known(bad_step: int) -> int | None:
    return None if bad_step == NO_BAD_STEP else bad_step
