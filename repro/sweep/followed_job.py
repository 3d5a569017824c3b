"""A job on a cluster, followed by the progress in its run's folder."""

from __future__ import annotations

from dataclasses import dataclass

from repro.progress import Progress
from repro.results.files import file_version
from repro.results.progress_file import read_progress
from repro.sweep.executor import Event, Job, Reported, Started


@dataclass(kw_only=True)
class FollowedJob:
    """A job, the place where it runs (None until its start was reported), its latest progress, and that file's version.

    A job starts without a version to skip, or with that of the file that an earlier process left.
    """

    job: Job
    place: str | None = None
    last: Progress | None = None
    seen: tuple[int, int] | None = None

    def start(self, place: str) -> list[Event]:
        """The event of its start, unless that was reported before."""
        if self.place is not None:
            return []
        self.place = place
        return [Started(self.job, place)]

    def news(self) -> list[Event]:
        """What the run published since the last call."""
        version = file_version(self.job.folder.progress)
        if version is None or version == self.seen or (live := read_progress(self.job.folder)) is None:
            return []
        self.seen, self.last = version, live.progress
        return [*self.start(live.place), Reported(self.job, live.progress)]
