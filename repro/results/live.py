"""Where a run in training stands: ``progress.json`` in its folder, for whoever follows it from elsewhere.

It only informs. It is replaced at most every two seconds, is not forced to disk, and goes when its writer ends; what a
killed writer leaves goes with the run's record.
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
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from repro.progress import Progress
from repro.results.files import read_file
from repro.results.store import RunFolder

SECONDS_BETWEEN = 2.0
_LARGEST_BYTES = 20_000
_TYPES = {name: get_args(kind) or (kind,) for name, kind in get_type_hints(Progress).items()}


@dataclass(frozen=True)
class Live:
    """A run's latest word, from ``place`` (the node, and its GPU where it has one)."""

    place: str
    progress: Progress


class Publisher:
    """Writes what a run says into its folder, as often as is good for a shared file system."""

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._next = 0.0
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._place = f"{socket.gethostname()} GPU {gpu}" if gpu else socket.gethostname()

    def hear(self, progress: Progress) -> None:
        """Publish, unless the last word is too recent."""
        if self._clock() < self._next or progress.phase in ("completed", "diverged", "failed", "interrupted"):
            return
        self._next = self._clock() + SECONDS_BETWEEN
        temporary = self._folder.path / f".progress.{os.getpid()}.part"
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps({"place": self._place, "progress": asdict(progress)}), encoding="utf-8")
            temporary.replace(self._folder.live)

    def end(self) -> None:
        """Nothing is to be followed any more. What another process published stays."""
        if not self._next:
            return
        with contextlib.suppress(OSError):
            self._folder.live.unlink(missing_ok=True)


@contextmanager
def publishing(folder: RunFolder) -> Iterator[Publisher]:
    """Publish a run's progress while in force."""
    publisher = Publisher(folder)
    try:
        yield publisher
    finally:
        publisher.end()


def read_live(folder: RunFolder) -> Live | None:
    """The run's latest word; None where there is none, or none of ours."""
    try:
        told = json.loads(read_file(folder.live, _LARGEST_BYTES))
        place, said = told["place"], told["progress"]
        if not (isinstance(place, str) and place.isprintable() and len(place) <= 200 and _is_progress(said)):
            return None
        return Live(place, Progress(**said))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def changed_at(path: Path) -> tuple[int, int] | None:
    """What tells one version of a replaced file from the next; None where it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_progress(said: Any) -> bool:
    """Whether ``said`` has the fields of a progress message, each of its type."""
    if not isinstance(said, dict) or set(said) != {field.name for field in fields(Progress)}:
        return False
    return all(_fits(said[name], kinds) for name, kinds in _TYPES.items())


def _fits(value: Any, kinds: tuple[Any, ...]) -> bool:
    if value is None:
        return NoneType in kinds
    if isinstance(value, str):
        return str in kinds or value in [text for kind in kinds for text in (kind, *get_args(kind))]
    if isinstance(value, bool):
        return False
    return (isinstance(value, int) and (int in kinds or float in kinds)) or (
        isinstance(value, float) and float in kinds
    )
