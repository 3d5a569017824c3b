"""``progress.json``: the latest progress of a run in training, for processes that follow it from elsewhere.

It is replaced at most every two seconds, without fsync, and removed when its writer ends. A file that a killed writer
left is removed with the next record of the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from types import NoneType
from typing import Any, get_args, get_type_hints

from repro.progress import Progress
from repro.results.durable import replace_file
from repro.results.files import read_file
from repro.results.store import RunFolder

SECONDS_BETWEEN = 2.0
_LARGEST_BYTES = 20_000
_TYPES = {name: get_args(kind) or (kind,) for name, kind in get_type_hints(Progress).items()}


@dataclass(frozen=True)
class PublishedProgress:
    """A run's latest progress, and its ``place``: the node, and the GPU if it has one."""

    place: str
    progress: Progress


class Publisher:
    """Writes a run's progress into its folder, no more often than a shared file system can bear."""

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._next = 0.0
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._place = f"{socket.gethostname()} GPU {gpu}" if gpu else socket.gethostname()

    def hear(self, progress: Progress) -> None:
        """Publish the progress, unless the last was published less than ``SECONDS_BETWEEN`` ago."""
        has_ended = progress.phase in ("completed", "diverged", "failed", "interrupted")
        if has_ended or self._clock() < self._next:
            return
        self._next = self._clock() + SECONDS_BETWEEN
        content = {"place": self._place, "progress": asdict(progress)}
        with contextlib.suppress(OSError):
            replace_file(self._folder.progress, json.dumps(content).encode())

    def end(self) -> None:
        """Remove the file, if this publisher wrote one: another process's file stays."""
        if not self._next:
            return
        with contextlib.suppress(OSError):
            self._folder.progress.unlink(missing_ok=True)


@contextmanager
def publishing(folder: RunFolder) -> Iterator[Publisher]:
    """A publisher of a run's progress, for the time of a ``with`` block."""
    publisher = Publisher(folder)
    try:
        yield publisher
    finally:
        publisher.end()


def read_progress(folder: RunFolder) -> PublishedProgress | None:
    """The run's latest progress; None without a file, or with one that biasrepro did not write."""
    try:
        content = json.loads(read_file(folder.progress, _LARGEST_BYTES))
        place, progress = content["place"], content["progress"]
        if not (isinstance(place, str) and place.isprintable() and len(place) <= 200 and _is_progress(progress)):
            return None
        return PublishedProgress(place, Progress(**progress))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_progress(content: Any) -> bool:
    """Whether ``content`` has the fields of a progress message, each of its type."""
    if not isinstance(content, dict) or set(content) != {field.name for field in fields(Progress)}:
        return False
    return all(_has_type(content[name], types) for name, types in _TYPES.items())


def _has_type(value: Any, types: tuple[Any, ...]) -> bool:
    if value is None:
        return NoneType in types
    if isinstance(value, str):
        literals = [get_args(kind) for kind in types]
        return str in types or value in types or any(value in values for values in literals)
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return int in types or float in types
    return isinstance(value, float) and float in types
