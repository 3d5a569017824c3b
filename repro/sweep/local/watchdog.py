"""Workers on a node that stopped giving signs of life: alive by their process, and not by their heartbeat.

A process that is stopped, or stuck in the kernel, holds its place for ever, and nobody else may take its run over
while it is there. A run's heartbeat has a thread of its own, so however long a step takes, it is not taken for silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from repro.results.ownership import owner_of
from repro.sweep.local.worker import Worker

# Silence is so many looks in a row without a heartbeat, 10 minutes, and not a span of time: a node that was suspended
# did not look meanwhile.
LOOK_SECONDS = 10.0
LOOKS = 60


@dataclass
class _Heard:
    heard_at: float
    silent_looks: int = 0


class Watchdog:
    """Looks at the heartbeats of workers every now and then."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next_look = 0.0
        self._heard: dict[int, _Heard] = {}

    def silent(self, workers: Iterable[Worker]) -> list[Worker]:
        """Those of ``workers`` that own their run and of which nothing was heard at so many looks."""
        if self._clock() < self._next_look:
            return []
        self._next_look = self._clock() + LOOK_SECONDS
        found = []
        for worker in workers:
            pid = worker.process.pid
            owner = owner_of(worker.job.folder)
            if owner is None or owner.pid != pid:
                continue
            heard = self._heard.setdefault(pid, _Heard(owner.heard_at))
            if owner.heard_at != heard.heard_at:
                self._heard[pid] = _Heard(owner.heard_at)
                continue
            heard.silent_looks += 1
            if heard.silent_looks > LOOKS:
                found.append(worker)
        return found
