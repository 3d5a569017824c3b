"""A run that is in SLURM's queue, as the executor follows it."""

from __future__ import annotations

from dataclasses import dataclass

from repro.sweep.followed_job import FollowedJob
from repro.sweep.slurm.batch import Batch


@dataclass(kw_only=True)
class SubmittedJob(FollowedJob):
    """A job in SLURM's queue, and its task there. Times are monotonic, apart from ``heartbeat_at``: its heartbeat."""

    batch: Batch
    index: int
    task: str
    noted: bool = False
    gone_since: float | None = None
    heartbeat_at: float = 0.0
    next_check: float = 0.0

    @property
    def key(self) -> tuple[str, int]:
        """Its task in the queue."""
        return self.batch.id, self.index

    @property
    def number(self) -> str:
        """SLURM's number of its array."""
        return self.task.partition("_")[0]
