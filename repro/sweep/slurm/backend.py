"""Sweeps on a SLURM cluster: what would be submitted, what is followed, and what is left to the cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

from repro.sweep.backends import SlurmOptions
from repro.sweep.cluster_node import Terms
from repro.sweep.executor import Job
from repro.sweep.slurm.batch import packed, script
from repro.sweep.slurm.executor import SlurmExecutor
from repro.sweep.slurm.queue import SlurmError, cancel, look


class SlurmEngine:
    """SLURM, as the command line knows it."""

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options

    def submission(self, jobs: Sequence[Job], terms: Terms) -> str:
        """The sbatch file for ``jobs``."""
        return script(len(packed(jobs, self._options, terms)), self._options, terms)

    def connect(self, terms: Terms) -> SlurmExecutor:
        """The executor. Raises SlurmError where SLURM does not answer."""
        return SlurmExecutor(self._options, terms)

    def leave(self, jobs: Sequence[Job], terms: Terms) -> Mapping[str, str]:
        """Submit ``jobs`` and leave them; those in the queue already stay as they are."""
        executor = SlurmExecutor(self._options, terms)
        for job in jobs:
            executor.submit(job)
        try:
            executor.hand_in()
        except SlurmError:  # after some of the arrays, perhaps: their tasks would find that there is no such sweep
            with contextlib.suppress(SlurmError):
                cancel(_numbers(executor.left()))
            raise
        return executor.left()

    def drop(self, left: Mapping[str, str]) -> None:
        """Cancel what is queued and has not begun. Raises SlurmError."""
        if numbers := _numbers(left):
            cancel(numbers, only_pending=True)

    def is_over(self, left: Mapping[str, str]) -> bool:
        """Whether the queue has none of its tasks; not where SLURM does not answer."""
        try:
            return not {task.id.partition("_")[0] for task in look().values()} & set(_numbers(left))
        except SlurmError:
            return False


def _numbers(left: Mapping[str, str]) -> list[str]:
    return [number for number in left.get("slurm", "").split(",") if number.isdecimal()]
