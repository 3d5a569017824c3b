"""Detect hung workers on a node: their process is alive, but it sends no heartbeat.

A process that is stopped, or stuck in the kernel, keeps its slot for ever, and no other process may take its run over
while it exists. Heartbeats come from a thread of their own, so a long step is not mistaken for a hang.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from repro.results.ownership import owner_of
from repro.sweep.local.worker import Worker

# A worker hangs after this many checks in a row without a heartbeat: 10 minutes. Checks are counted instead of time,
# because a node that was suspended made none meanwhile.
CHECK_SECONDS = 10.0
SILENT_CHECKS = 60


class Watchdog:
    """Checks the heartbeats of workers every ``CHECK_SECONDS``."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, silent_checks: int = SILENT_CHECKS) -> None:
        self._silent_checks = silent_checks
        self._clock = clock
        self._next_check = 0.0
        self._heartbeats: dict[int, tuple[float, int]] = {}  # by pid: the last heartbeat, and the checks since then

    def hung(self, workers: Iterable[Worker]) -> list[Worker]:
        """Those of ``workers`` that own their run and sent no heartbeat for ``silent_checks`` checks, once each."""
        if self._clock() < self._next_check:
            return []
        self._next_check = self._clock() + CHECK_SECONDS
        found = []
        for worker in workers:
            pid = worker.process.pid
            owner = owner_of(worker.job.folder)
            if owner is None or owner.pid != pid:
                continue
            heartbeat_at, silent_checks = self._heartbeats.get(pid, (owner.heartbeat_at, 0))
            silent_checks = silent_checks + 1 if owner.heartbeat_at == heartbeat_at else 0
            self._heartbeats[pid] = owner.heartbeat_at, silent_checks
            if silent_checks == self._silent_checks + 1:
                found.append(worker)
        return found
