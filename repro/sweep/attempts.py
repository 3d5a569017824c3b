"""Which failures are worth another attempt: those that the next one may not meet. Pure."""

from __future__ import annotations

import signal
from dataclasses import replace

from repro.sweep.executor import Ended, Job

MOST_ATTEMPTS = 3


def another_attempt(ended: Ended, attempts: int) -> Job | None:
    """The job to try again, None where that makes no sense; ``attempts`` were made so far.

    A killed or crashed worker and a lost GPU are tried again, from the last checkpoint. A run that found no memory on
    a GPU it shared is tried once more, with the GPU to itself. A run that failed for reasons of its own would again.
    """
    trouble = ended.last.trouble if ended.last is not None else None
    if trouble == "out_of_memory":
        return replace(ended.job, alone=True) if ended.shared and not ended.job.alone else None
    was_killed = ended.returncode < 0 or ended.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    return ended.job if attempts < MOST_ATTEMPTS and (was_killed or trouble == "device_lost") else None
