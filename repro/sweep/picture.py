"""A sweep as it stands: what each run is doing, what became of it, and when all will be done. No terminal, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from repro.progress import Progress
from repro.sweep.executor import Fate, Job

__all__ = ["Fate", "Finished", "RunningRun", "SweepPicture"]


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
class Finished:
    """A run that ended in this sweep: its fate, the cause where it failed or diverged, its seconds and accuracy."""

    job: Job
    fate: Fate
    cause: str | None
    seconds: float
    test_top1_percent: float | None = None


@dataclass
class SweepPicture:
    """All runs of a sweep: those waiting, in training and ended; ``before`` counts those finished earlier."""

    waiting: list[Job]
    before: int
    capacity: int
    running: dict[str, RunningRun] = field(default_factory=dict)
    finished: list[Finished] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of runs in the selection."""
        return self.before + len(self.waiting) + len(self.running) + len(self.finished)

    def having(self, *fates: Fate) -> list[Finished]:
        """The runs that ended in this sweep with one of these fates."""
        return [run for run in self.finished if run.fate in fates]

    def start(self, job: Job, place: str, now: float) -> None:
        """A run begins."""
        self.waiting.remove(job)
        epochs = job.run.cell.recipe.epochs
        self.running[job.id] = RunningRun(job, place, now, Progress(job.id, "starting", epochs=epochs))

    def hear(self, job: Job, progress: Progress) -> None:
        """A run reports."""
        if job.id in self.running:
            self.running[job.id].progress = progress

    def put_back(self, job: Job) -> None:
        """A run waits again: for another attempt, or for the process that trains it."""
        self.running.pop(job.id, None)
        self.waiting = [*(one for one in self.waiting if one.id != job.id), job]

    def end(self, job: Job, fate: Fate, cause: str | None, now: float) -> Finished:
        """A run ends, or turns out to be in other hands before it began."""
        run = self.running.pop(job.id, None)
        if run is None:
            self.waiting.remove(job)
            ended = Finished(job, fate, cause, 0.0)
        else:
            ended = Finished(job, fate, cause, now - run.since, run.progress.test_top1_percent)
        self.finished.append(ended)
        return ended

    def eta_seconds(self, now: float) -> float | None:
        """Seconds until the last run ends: the work that is left, shared by the slots; None before anything is known.

        A waiting run takes as long as its row's runs do, or as the mean of those known where none of its row is.
        """
        known = self._known_seconds(now)
        if not known:
            return None
        of_row = {row: sum(seconds) / len(seconds) for row, seconds in known.items()}
        mean = sum(of_row.values()) / len(of_row)
        running = [
            run.progress.eta_seconds
            if run.progress.eta_seconds is not None
            else max(0.0, of_row.get(_row(run.job), mean) - (now - run.since))
            for run in self.running.values()
        ]
        work = sum(running) + sum(of_row.get(_row(job), mean) for job in self.waiting)
        return max([work / max(1, min(self.capacity, len(running) + len(self.waiting))), *running])

    def _known_seconds(self, now: float) -> dict[str, list[float]]:
        """Seconds of whole runs by row: measured of those completed, projected of those in training."""
        known: dict[str, list[float]] = {}
        for ended in self.having("completed"):
            known.setdefault(_row(ended.job), []).append(ended.seconds)
        for run in self.running.values():
            if (seconds := run.total_seconds(now)) is not None:
                known.setdefault(_row(run.job), []).append(seconds)
        return known


def _row(job: Job) -> str:
    return job.run.cell.row.id
