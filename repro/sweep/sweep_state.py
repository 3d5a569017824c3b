"""A sweep as it stands: what each run is doing, what became of it, and when all will be done. No terminal, no clock.

It is asked at every end of a run, so what is asked of it is counted as runs come and go: no answer goes through the
runs that wait or have ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field, replace

from repro.progress import Progress
from repro.sweep.executor import Fate, Job

__all__ = ["Fate", "FinishedRun", "RunningRun", "SweepState"]


@dataclass
class RunningRun:
    """A run in training: where, since when (seconds on the conductor's clock), and its latest message."""

    job: Job
    place: str
    since: float
    progress: Progress

    def total_seconds(self, now: float) -> float | None:
        """How long the whole of it takes, by its own estimate; None before it has one."""
        if self.progress.eta_seconds is None:
            return None
        return now - self.since + self.progress.eta_seconds


@dataclass(frozen=True)
class FinishedRun:
    """A run that ended in this sweep: its fate, the cause where it failed or diverged, its seconds and accuracy."""

    job: Job
    fate: Fate
    cause: str | None
    seconds: float
    test_top1_percent: float | None = None


@dataclass
class _Lengths:
    """So many whole runs, and their seconds in all."""

    runs: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.runs += 1
        self.seconds += seconds


@dataclass
class SweepState:
    """All runs of a sweep: ``jobs`` waiting (by id, in turn), in training and ended; ``before`` counts those finished
    earlier."""

    jobs: InitVar[Iterable[Job]]
    before: int
    capacity: int
    waiting: dict[str, Job] = field(init=False, default_factory=dict)
    running: dict[str, RunningRun] = field(default_factory=dict)
    finished: list[FinishedRun] = field(default_factory=list)
    _waiting_of_row: Counter[str] = field(init=False, default_factory=Counter)
    _ended: Counter[Fate] = field(init=False, default_factory=Counter)
    _completed_of_row: dict[str, _Lengths] = field(init=False, default_factory=dict)

    def __post_init__(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._wait(job)

    @property
    def total(self) -> int:
        """The number of runs in the selection."""
        return self.before + len(self.waiting) + len(self.running) + len(self.finished)

    def count(self, *fates: Fate) -> int:
        """How many runs ended in this sweep with one of these fates."""
        return sum(self._ended[fate] for fate in fates)

    def having(self, *fates: Fate) -> list[FinishedRun]:
        """The runs that ended in this sweep with one of these fates."""
        return [run for run in self.finished if run.fate in fates]

    def start(self, job: Job, place: str, now: float) -> None:
        """A run begins."""
        self._wait_no_more(job)
        epochs = job.run.cell.recipe.epochs
        self.running[job.id] = RunningRun(job, place, now, Progress(job.id, "starting", epochs=epochs))

    def hear(self, job: Job, progress: Progress) -> None:
        """A run reports."""
        if job.id in self.running:
            self.running[job.id].progress = progress

    def put_back(self, job: Job) -> None:
        """A run waits again: for another attempt, or for the process that trains it."""
        self.running.pop(job.id, None)
        if job.id in self.waiting:
            self._wait_no_more(job)
        self._wait(job)

    def end(self, job: Job, fate: Fate, cause: str | None, now: float) -> FinishedRun:
        """A run ends, or turns out to be in other hands before it began."""
        run = self.running.pop(job.id, None)
        if run is None:
            self._wait_no_more(job)
            ended = FinishedRun(job, fate, cause, 0.0)
        else:
            ended = FinishedRun(job, fate, cause, now - run.since, run.progress.test_top1_percent)
        self.finished.append(ended)
        self._ended[fate] += 1
        if fate == "completed":
            self._completed_of_row.setdefault(_row(job), _Lengths()).add(ended.seconds)
        return ended

    def eta_seconds(self, now: float) -> float | None:
        """Seconds until the last run ends: the work that is left, shared by the slots; None before anything is known.

        A waiting run takes as long as its row's runs do, or as the mean of those known where none of its row is.
        """
        of_row = self._seconds_of_row(now)
        if not of_row:
            return None
        mean = sum(of_row.values()) / len(of_row)
        running = [
            run.progress.eta_seconds
            if run.progress.eta_seconds is not None
            else max(0.0, of_row.get(_row(run.job), mean) - (now - run.since))
            for run in self.running.values()
        ]
        work = sum(running) + sum(count * of_row.get(row, mean) for row, count in self._waiting_of_row.items())
        return max([work / max(1, min(self.capacity, len(running) + len(self.waiting))), *running])

    def _seconds_of_row(self, now: float) -> dict[str, float]:
        """Mean seconds of whole runs by row: measured of those completed, projected of those in training."""
        known = {row: replace(lengths) for row, lengths in self._completed_of_row.items()}
        for run in self.running.values():
            if (seconds := run.total_seconds(now)) is not None:
                known.setdefault(_row(run.job), _Lengths()).add(seconds)
        return {row: lengths.seconds / lengths.runs for row, lengths in known.items()}

    def _wait(self, job: Job) -> None:
        self.waiting[job.id] = job
        self._waiting_of_row[_row(job)] += 1

    def _wait_no_more(self, job: Job) -> None:
        del self.waiting[job.id]
        self._waiting_of_row[_row(job)] -= 1


def _row(job: Job) -> str:
    return job.run.cell.row.id
