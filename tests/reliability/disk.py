"""A disk between the program and the file system: it fails or dies at a chosen call, and notes what was asked of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from repro.errors import UserError

CALLS = ("open", "write", "fsync", "close", "replace", "link", "unlink", "mkdir", "utime")
How = Literal["before", "after", "half"]


class Crash(BaseException):
    """The machine stopped: nothing after this reaches the disk, clean-up included."""


@dataclass(frozen=True)
class Event:
    """A call that reached the disk; ``file`` numbers open files, so that a renamed one is still itself."""

    call: str
    paths: tuple[str, ...] = ()
    file: int | None = None
    data: bytes = b""


@dataclass
class Disk:
    """Everything under ``root``. At call number ``at`` (from 1) it crashes, or raises ``error``, as ``how`` says.

    Where there is a ``meanwhile``, nothing fails: the program sleeps before that call, and another does this.
    """

    root: Path
    at: int = 0
    how: How = "before"
    error: OSError | None = None
    meanwhile: Callable[[], None] | None = None
    struck: str = ""
    calls: list[str] = field(default_factory=list)
    dead: bool = False
    asleep: bool = False
    events: list[Event] = field(default_factory=list)
    _open: dict[int, int] = field(default_factory=dict)
    _files: int = 0

    def call(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Do as the program asks, or not."""
        if self.asleep or not self._is_ours(name, arguments):
            return real(*arguments, **options)
        if self.dead:
            raise Crash
        self.calls.append(name)
        if len(self.calls) == self.at:
            self.struck = name
            if self.meanwhile is not None:
                self.asleep = True
                self.meanwhile()
                self.asleep = False
                return self._do(name, real, arguments, options)
            if self.how == "half" and name == "write":
                arguments = (arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                self._do(name, real, arguments, options)
            elif self.how == "after":
                self._do(name, real, arguments, options)
            self._strike()
        return self._do(name, real, arguments, options)

    def _strike(self) -> None:
        if self.error is not None:
            raise self.error
        self.dead = True
        raise Crash

    def _do(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        result = real(*arguments, **options)
        if name == "open":
            self._files += 1
            self._open[result] = self._files
            created = bool(arguments[1] & os.O_CREAT)
            truncated = bool(arguments[1] & os.O_TRUNC)
            folder = Path(arguments[0]).is_dir()
            kind = "open folder" if folder else "create" if created else "open"
            self.events.append(Event(kind, (str(arguments[0]),), self._files, b"truncate" if truncated else b""))
        elif name in ("write", "fsync"):
            data = bytes(arguments[1])[:result] if name == "write" else b""
            self.events.append(Event(name, (), self._open[arguments[0]], data))
        elif name == "close":
            del self._open[arguments[0]]
        else:
            paths = arguments[:2] if name in ("replace", "link") else arguments[:1]
            self.events.append(Event(name, tuple(str(path) for path in paths)))
        return result

    def _is_ours(self, name: str, arguments: tuple[Any, ...]) -> bool:
        if name in ("write", "fsync", "close"):
            return arguments[0] in self._open
        return Path(arguments[0]).is_relative_to(self.root)


@contextmanager
def installed(disk: Disk) -> Iterator[Disk]:
    """Send the program's file-system calls to ``disk``. The files left open by a crash are closed afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        real = {name: getattr(os, name) for name in CALLS}
        for name in CALLS:
            patch.setattr(os, name, _through(disk, name, real[name]))
        try:
            yield disk
        finally:
            for descriptor in disk._open:
                real["close"](descriptor)
            disk._open.clear()


def _through(disk: Disk, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: disk.call(name, real, arguments, options)


def strike_everywhere(
    root: Path, prepare: Callable[[Path], None], act: Callable[[Path], object], how: How, error: int = 0
) -> Iterator[tuple[Path, Disk, bool]]:
    """``act`` on a fresh folder again and again, struck at its first call, its second, … to its last.

    It is struck before the call, after it, or in the middle of a write. Yields the folder, the disk, and whether
    ``act`` came back without a word: acknowledged.
    """
    at, calls = 0, [""]
    while at < len(calls):
        place = root / f"{how}-{error}-{at}"
        place.mkdir(parents=True)
        prepare(place)
        disk = Disk(place, at, how, OSError(error, os.strerror(error)) if error else None)
        acknowledged = False
        with installed(disk), contextlib.suppress(Crash, OSError, UserError):
            act(place)
            acknowledged = True
        if at == 0:  # the first time nothing strikes
            assert acknowledged
            calls += disk.calls
        else:
            yield place, disk, acknowledged
        at += 1
        while how == "half" and at < len(calls) and calls[at] != "write":
            at += 1
