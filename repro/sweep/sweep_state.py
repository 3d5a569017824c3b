"""The state of a sweep: its waiting, running and finished runs, and when all will be done. No terminal, no clock.

It is asked at every end of a run, so counts are kept up to date as runs come and go: no answer goes through the runs
that wait or have ended.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import InitVar, dataclass, field

from repro.progress import Progress
from repro.sweep.executor import Fate, Job


@dataclass
class RunningRun:
    """A run in training: where, since when (seconds on the driver's clock), and its latest message.

    ``first_epoch`` is the first epoch in which it was seen to train, 0 until then.
    """

    job: Job
    place: str
    since: float
    progress: Progress
    first_epoch: int = 0

    @property
    def share(self) -> float:
        """The part of the whole run that is trained from its start on: 1, or less for one that resumed.

        In whole epochs, at least one: a run that resumed at its very end mostly starts up, which tells no epoch's time.
        """
        epochs = self.job.run.cell.recipe.epochs
        return 1 - (min(max(1, self.first_epoch), epochs) - 1) / epochs


@dataclass(frozen=True)
class FinishedRun:
    """A run that ended in this sweep: its fate, the cause if it failed or diverged, its seconds and accuracy."""

    job: Job
    fate: Fate
    cause: str | None
    seconds: float
    test_top1_percent: float | None = None


@dataclass
class SweepState:
    """All runs of a sweep: ``jobs`` waiting, running and finished; ``before`` counts those finished earlier.

    ``capacity`` is how many run at a time; None if a cluster's queue decides: then as many as run now.
    """

    jobs: InitVar[Iterable[Job]]
    before: int
    capacity: int | None
    waiting: dict[str, Job] = field(init=False, default_factory=dict)
    running: dict[str, RunningRun] = field(default_factory=dict)
    finished: list[FinishedRun] = field(default_factory=list)
    _ended: Counter[Fate] = field(init=False, default_factory=Counter)
    # By row of the table: the runs that wait; of those that completed, the shares trained here and their seconds.
    _waiting_of: Counter[str] = field(init=False, default_factory=Counter)
    _shares_of: defaultdict[str, float] = field(init=False, default_factory=lambda: defaultdict(float))
    _seconds_of: defaultdict[str, float] = field(init=False, default_factory=lambda: defaultdict(float))

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
        if (run := self.running.get(job.id)) is None:
            return
        run.progress = progress
        # While it starts its checkpoint is not yet read, and its last message says nothing of where it began.
        if not run.first_epoch and progress.phase not in ("starting", "completed"):
            run.first_epoch = progress.epoch

    def put_back(self, job: Job) -> None:
        """A run waits again: for another attempt, or for the process that trains it."""
        self.running.pop(job.id, None)
        if job.id in self.waiting:
            self._wait_no_more(job)
        self._wait(job)

    def end(self, job: Job, fate: Fate, cause: str | None, now: float) -> FinishedRun:
        """A run ends, or turns out to be trained by another process before it began."""
        run = self.running.pop(job.id, None)
        if run is None:
            self._wait_no_more(job)
            ended = FinishedRun(job, fate, cause, 0.0)
        else:
            ended = FinishedRun(job, fate, cause, now - run.since, run.progress.test_top1_percent)
        self.finished.append(ended)
        self._ended[fate] += 1
        if fate == "completed" and run is not None and run.first_epoch:  # else it was not seen to train
            self._shares_of[_row(job)] += run.share
            self._seconds_of[_row(job)] += ended.seconds
        return ended

    def eta_seconds(self, now: float) -> float | None:
        """Seconds until the last run ends: the remaining work, shared by the slots; None if nothing is known of either.

        A waiting run takes as long as other runs of its row, or as the mean of the known rows if none of its row is.
        """
        of_row = self._mean_seconds(now)
        slots = len(self.running) if self.capacity is None else max(1, self.capacity)
        if not of_row or not slots:
            return None
        mean = sum(of_row.values()) / len(of_row)
        running = []
        for run in self.running.values():
            left = run.progress.eta_seconds
            if left is None:
                left = max(0.0, run.share * of_row.get(_row(run.job), mean) - (now - run.since))
            running.append(left)
        work = sum(running) + sum(count * of_row.get(row, mean) for row, count in self._waiting_of.items())
        return max([work / max(1, min(slots, len(running) + len(self.waiting))), *running])

    def _mean_seconds(self, now: float) -> dict[str, float]:
        """Mean seconds of a whole run by row: measured for completed runs, estimated for running ones.

        A run that resumed counts as the share that it trains, so one that resumed late says little beside others.
        """
        shares, seconds = self._shares_of.copy(), self._seconds_of.copy()
        for run in self.running.values():
            if run.progress.eta_seconds is not None:
                shares[_row(run.job)] += run.share
                seconds[_row(run.job)] += now - run.since + run.progress.eta_seconds
        return {row: seconds[row] / share for row, share in shares.items()}

    def _wait(self, job: Job) -> None:
        self.waiting[job.id] = job
        self._waiting_of[_row(job)] += 1

    def _wait_no_more(self, job: Job) -> None:
        del self.waiting[job.id]
        self._waiting_of[_row(job)] -= 1


def _row(job: Job) -> str:
    return job.run.cell.row.id
