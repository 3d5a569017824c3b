"""``progress.json``: the latest progress of a run in training, for processes that follow it from elsewhere.

It is replaced at most every two seconds, without fsync, and removed when its writer ends; if that was killed, with the
next record of the run.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repro.machine import visible_variable
from repro.progress import Progress
from repro.results.durable import replace_file
from repro.results.files import read_file
from repro.results.record_fields import Printable
from repro.results.store import RunFolder

SECONDS_BETWEEN = 2.0
_LARGEST_BYTES = 20_000


class PublishedProgress(BaseModel):
    """A run's latest progress, and its ``place``: the node, and the GPU if it has one."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    place: Annotated[Printable, Field(max_length=200)]
    progress: Progress


class Publisher:
    """Writes a run's progress into its folder, not too often for a shared file system, until it is closed."""

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._next = 0.0
        gpu = os.environ.get(visible_variable(), "")
        self._place = f"{socket.gethostname()} GPU {gpu}" if gpu else socket.gethostname()

    def hear(self, progress: Progress) -> None:
        """Publish the progress, unless the last was published less than ``SECONDS_BETWEEN`` ago."""
        has_ended = progress.phase in ("completed", "diverged", "failed", "interrupted")
        if has_ended or self._clock() < self._next:
            return
        self._next = self._clock() + SECONDS_BETWEEN
        content = PublishedProgress.model_construct(place=self._place, progress=progress)
        with contextlib.suppress(OSError, ValueError):  # it only informs: a text may hold what is not UTF-8
            replace_file(self._folder.progress, content.model_dump_json().encode())

    def close(self) -> None:
        """Remove the file, if this publisher wrote one: another process's file stays."""
        if not self._next:
            return
        with contextlib.suppress(OSError):
            self._folder.progress.unlink(missing_ok=True)


def read_progress(folder: RunFolder) -> PublishedProgress | None:
    """The run's latest progress; None without a file, or with one that biasrepro did not write."""
    try:
        return PublishedProgress.model_validate_json(read_file(folder.progress, _LARGEST_BYTES))
    except (OSError, ValidationError):
        return None
