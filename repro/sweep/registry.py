"""The sweeps under way over a results folder: ``<results>/.sweeps/<id>.jsonl``, one file each.

The first line says who conducts the sweep; the conductor touches the file as a heartbeat and removes it at the end.
Lines that follow are notes: where the work was left (``left``), a request to stop (``stop``), why its conductor gave
up (``trouble``). A request is bound to
the file of the sweep that it is meant for, and ids are never used again: what was asked of one sweep is asked of no
other, whatever the clocks say. Notes are appended in place, because a reader that opens a file on NFS is promised
what was written to it before, and promised nothing about new names in a folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from repro.results.durable import make_folder, write_durably
from repro.results.files import file_time
from repro.results.ownership import HEARTBEAT_SECONDS, SILENT_SECONDS
from repro.results.process import is_alive, process_start, this_place

FOLDER = ".sweeps"
STOP_SECONDS = 2.0  # between two looks for a request to stop
FORGOTTEN_SECONDS = 7 * 86_400.0  # after which the file of a sweep that nobody heard of is swept up

_NAME = re.compile(r"([0-9a-f]{12})\.jsonl")
_LARGEST = 1_000_000


@dataclass(frozen=True)
class Conductor:
    """A sweep as it was registered. ``place`` and ``process_start`` are None where it is left to a cluster."""

    id: str
    table: str
    executor: str
    command: str
    detached: bool
    host: str
    pid: int
    place: str | None
    process_start: str | None
    since: str


@dataclass(frozen=True)
class Registration:
    """A registered sweep as its file says: ``left`` finds work that was left to a cluster, ``stop`` a request to stop,
    ``trouble`` why its conductor gave up.

    ``heard_at`` is the last heartbeat, by the file server's clock.
    """

    path: Path
    conductor: Conductor
    left: Mapping[str, str] = field(default_factory=dict)
    stop: str | None = None
    trouble: str | None = None
    heard_at: float = 0.0

    @property
    def id(self) -> str:
        """The sweep's id."""
        return self.conductor.id

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.path.parent.parent

    @classmethod
    def read(cls, results: Path, sweep: str) -> Registration | None:
        """The registration of the sweep with this id; None where there is none (any more), or none that can be read."""
        return _read(results / FOLDER / f"{sweep}.jsonl")

    def silent_seconds(self, now: float) -> float:
        """Seconds since the last heartbeat; ``now`` is by the file server's clock (``file_time``)."""
        return max(0.0, now - self.heard_at)

    def lives(self, now: float) -> bool:
        """Whether its conductor does: its process is there, or was heard of within ``SILENT_SECONDS``."""
        conductor = self.conductor
        if conductor.place is not None and conductor.place == this_place():
            alive = is_alive(conductor.pid, conductor.process_start)
            if alive is not None:
                return alive
        return self.silent_seconds(now) < SILENT_SECONDS

    def note_left(self, left: Mapping[str, str]) -> None:
        """Note where the sweep's work was left."""
        self._append({"left": dict(left)})

    def ask_to_stop(self) -> None:
        """Ask whoever works for this sweep to commit and end; within seconds of their looking, they do."""
        self._append({"stop": f"process {os.getpid()} on {socket.gethostname()}"})

    def remove(self) -> None:
        """The sweep is over."""
        self.path.unlink(missing_ok=True)

    def note_trouble(self, trouble: str) -> None:
        """Note why nobody conducts the sweep any more."""
        self._append({"trouble": trouble})

    @contextmanager
    def kept(self) -> Iterator[Registration]:
        """Be the conductor while in force: heartbeats, and the file's removal at the end."""
        with self.beating():
            try:
                yield self
            finally:
                with contextlib.suppress(OSError):
                    self.remove()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Heartbeats while in force."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                with contextlib.suppress(OSError):
                    os.utime(self.path)

        heart = threading.Thread(target=beat, daemon=True, name="sweep-heartbeat")
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()

    def _append(self, note: Mapping[str, object]) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            # A line of its own, whatever a full disk left of the one before.
            os.write(descriptor, b"\n" + json.dumps(note).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class StopWatch:
    """Looks every now and then whether the sweep was asked to stop."""

    def __init__(self, registration: Registration, clock: Callable[[], float] = time.monotonic) -> None:
        self._registration = registration
        self._clock = clock
        self._next = 0.0
        self._asked = False

    def count(self) -> int:
        """1 once a request is there, else 0."""
        if not self._asked and self._clock() >= self._next:
            self._next = self._clock() + STOP_SECONDS
            found = _read(self._registration.path)
            self._asked = found is not None and found.stop is not None
        return int(self._asked)


def register(results: Path, *, table: str, executor: str, command: str, detached: bool = False) -> Registration:
    """Register a sweep that begins now; files of sweeps that it goes on with, or that are long gone, are swept up.

    Raises OSError.
    """
    folder = results / FOLDER
    make_folder(folder, below=results)
    now = file_time(folder)
    for other in registered(results):
        if other.lives(now):
            continue
        goes_on_with = other.conductor.table == table and (other.trouble is not None or not other.left)
        if goes_on_with or other.silent_seconds(now) > FORGOTTEN_SECONDS:
            other.remove()
    conductor = Conductor(
        id=secrets.token_hex(6),
        table=table,
        executor=executor,
        command=command,
        detached=detached,
        host=socket.gethostname(),
        pid=os.getpid(),
        place=None if detached else this_place(),
        process_start=None if detached else process_start(os.getpid()),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    path = folder / f"{conductor.id}.jsonl"
    write_durably(path, json.dumps(asdict(conductor)).encode() + b"\n", only_new=True)
    return Registration(path, conductor, heard_at=path.stat().st_mtime)


def registered(results: Path) -> list[Registration]:
    """The sweeps registered in the results folder, the oldest first; files that are none of ours are passed over."""
    try:
        paths = [path for path in (results / FOLDER).iterdir() if _NAME.fullmatch(path.name)]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    found = [registration for path in paths if (registration := _read(path)) is not None]
    return sorted(found, key=lambda one: (one.conductor.since, one.id))


def forget_resumed(results: Path, command: str) -> None:
    """Remove the files of killed sweeps that began with ``command``: it was given again, and came to its end.

    So what was left to SLURM, which ``register`` lets be, is forgotten only when nothing of it can be in the queue.
    """
    for one in registered(results):
        same = one.conductor.command == command and not one.conductor.detached
        if same and not one.lives(file_time(results / FOLDER)):
            with contextlib.suppress(OSError):
                one.remove()


def _read(path: Path) -> Registration | None:
    try:
        with path.open("rb") as file:
            heard_at = os.fstat(file.fileno()).st_mtime
            first, *others = file.read(_LARGEST).splitlines()
        conductor = Conductor(**json.loads(first))
        notes: dict[str, object] = {}
        for line in others:
            with contextlib.suppress(ValueError, TypeError):  # of a note that found no room, the sweep goes on without
                notes |= json.loads(line)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    if not _is_plain(conductor):
        return None
    left, stop, trouble = (notes.get(name) for name in ("left", "stop", "trouble"))
    named = {str(key): str(value) for key, value in left.items()} if isinstance(left, dict) else {}
    stop, trouble = (str(text) if text is not None else None for text in (stop, trouble))
    return Registration(path, conductor, named, stop, trouble, heard_at)


def _is_plain(conductor: Conductor) -> bool:
    """Whether a file's first line has the types and the printable texts that we write."""
    texts = (conductor.id, conductor.table, conductor.executor, conductor.command, conductor.host, conductor.since)
    return (
        all(isinstance(text, str) and text.isprintable() for text in texts)
        and isinstance(conductor.pid, int)
        and isinstance(conductor.detached, bool)
        and isinstance(conductor.place, str | None)
        and isinstance(conductor.process_start, str | None)
    )
