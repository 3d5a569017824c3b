"""Which failures are worth another attempt. No clock, no files."""

from __future__ import annotations

import signal
from dataclasses import replace

from repro.sweep.executor import Ended, Job

MAX_ATTEMPTS = 3
MAX_DISPLACEMENTS = 10  # in a row without a step of progress: such a run appears to crash its nodes


def retry_job(ended: Ended, attempts: int) -> Job | None:
    """The job to try again after so many ``attempts``, or None.

    A killed or crashed worker and a lost GPU are tried again, from the last checkpoint. A run that found no memory on
    a GPU it shared is tried once more, with the GPU to itself. Any other failure would only repeat itself.
    """
    trouble = ended.last.trouble if ended.last is not None else None
    if trouble == "out_of_memory":
        return replace(ended.job, alone=True) if ended.shared and not ended.job.alone else None
    was_killed = ended.returncode < 0 or ended.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    return ended.job if attempts < MAX_ATTEMPTS and (was_killed or trouble == "device_lost") else None


class DisplacementCounter:
    """Counts how often in a row each run was displaced without making progress in between."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[tuple[int, int], int]] = {}  # by run: the furthest step, and the count there

    def may_continue(self, ended: Ended) -> bool:
        """Count one more; whether the run may be started again elsewhere."""
        reached = (ended.last.epoch, ended.last.step) if ended.last is not None else (0, 0)
        furthest, count = self._seen.get(ended.job.id, ((0, 0), 0))
        count = 1 if reached > furthest else count + 1
        self._seen[ended.job.id] = max(reached, furthest), count
        return count < MAX_DISPLACEMENTS
