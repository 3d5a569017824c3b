"""Whether the loss is still finite, asked at every step and without stopping a GPU for the answer."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from repro.engine.step import NO_BAD_STEP

STEPS_BETWEEN_LOOKS = 16
LOOKS_UNDER_WAY = 2
_NAP_SECONDS = 0.0005


class Look(Protocol):
    """A copy of the first bad step, on its way from the device."""

    def arrived(self) -> bool:
        """Whether it is here; asks without waiting."""

    def value(self) -> int:
        """The first bad step as it was when the look began; only once it arrived."""


@dataclass(frozen=True)
class _CudaLook:
    """A copy into pinned memory, and the event behind it in the stream."""

    copy: Tensor
    event: torch.cuda.Event

    def arrived(self) -> bool:
        return bool(self.event.query())

    def value(self) -> int:
        return int(self.copy)


def cuda_look(bad_step: Tensor) -> Look:
    """Begin to copy ``bad_step`` from the device; nothing waits."""
    copy = torch.empty((), dtype=torch.int64, pin_memory=True)
    copy.copy_(bad_step, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return _CudaLook(copy, event)


class Watch:
    """Tells the first bad step of the epoch: on a CPU at once, on a GPU at most some 50 steps later.

    On a GPU it also holds the host back, so that no more than that many steps are queued: a stop that is asked for
    comes soon, and progress means what the device has done. The queue never runs dry by it.
    """

    def __init__(self, bad_step: Tensor, begin_look: Callable[[Tensor], Look] | None = None) -> None:
        self._bad_step = bad_step
        self._begin_look = begin_look or (cuda_look if bad_step.is_cuda else None)
        self._under_way: deque[Look] = deque()
        self._steps = 0

    def after_step(self) -> int | None:
        """The first bad step so far (from 1), None where none is known. Call it after every step."""
        if self._begin_look is None:
            return self.now()
        self._steps += 1
        if self._steps % STEPS_BETWEEN_LOOKS:
            return None
        self._under_way.append(self._begin_look(self._bad_step))
        if len(self._under_way) <= LOOKS_UNDER_WAY:
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
