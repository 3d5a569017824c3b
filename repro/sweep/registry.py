"""The running sweeps of a results folder: ``<results>/.sweeps/<id>.jsonl``, one file each.

The first line names the process that runs the sweep; it touches the file as a heartbeat and removes it at the end. The
lines that follow are notes: where the work was left (``left``), a request to stop (``stop``), why the sweep gave up
(``trouble``). A request is bound to the file of the sweep that it is meant for, and ids are never used again, so no
other sweep can mistake it for its own, whatever the clocks say. Notes are appended in place: on NFS, a reader that
opens a file sees what was written before, but may not see new names in a folder.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from repro.results.durable import make_folder, write_durably
from repro.results.files import file_time, open_plain
from repro.results.ownership import HEARTBEAT_SECONDS, SILENT_SECONDS
from repro.results.process import is_alive, process_start, this_place
from repro.sweep.backends import has_left_queue, queue_of

FOLDER = ".sweeps"
STOP_SECONDS = 2.0  # between two checks for a request to stop
# Without a heartbeat, after which the file of a sweep that waits in no queue is removed.
FORGOTTEN_SECONDS = 7 * 86_400.0

_NAME = re.compile(r"([0-9a-f]{12})\.jsonl")
_LARGEST = 1_000_000
_NOTES = ("left", "stop", "trouble")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("not printable")
    return text


_Text = Annotated[str, AfterValidator(_printable)]


class Registration(BaseModel):
    """A registered sweep, as its file says.

    ``place`` and ``process_start`` are None if the sweep is left to a cluster, and ``left`` finds it there.
    ``stop`` is a request to stop, ``trouble`` is why the sweep gave up, and ``heartbeat_at`` its last heartbeat, by the
    file server's clock.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    path: Path
    heartbeat_at: float
    id: _Text
    table: _Text
    executor: _Text
    command: _Text
    detached: bool
    host: _Text
    pid: int
    place: str | None
    process_start: str | None
    since: _Text
    left: dict[str, str] = {}
    stop: str | None = None
    trouble: str | None = None

    @property
    def results(self) -> Path:
        """The results folder."""
        return self.path.parent.parent

    @classmethod
    def read(cls, results: Path, sweep: str) -> Registration | None:
        """The registration of the sweep with this id; None if there is none, or none that can be read."""
        path = results / FOLDER / f"{sweep}.jsonl"
        try:
            with os.fdopen(open_plain(path), "rb") as file:
                heartbeat_at = os.fstat(file.fileno()).st_mtime
                first, *others = file.read(_LARGEST).splitlines()
            notes: dict[str, Any] = {}
            for line in others:
                with contextlib.suppress(ValueError, TypeError):  # a note that was cut off by a full disk
                    notes |= json.loads(line)
            known = {name: notes[name] for name in _NOTES if name in notes}
            return cls(**json.loads(first), **known, path=path, heartbeat_at=heartbeat_at)
        except (OSError, ValueError, TypeError, RecursionError):
            return None

    def silent_seconds(self, now: float) -> float:
        """Seconds since the last heartbeat; ``now`` is by the file server's clock (``file_time``)."""
        return max(0.0, now - self.heartbeat_at)

    def lives(self, now: float) -> bool:
        """Whether its process runs: seen on this machine, or by a heartbeat within ``SILENT_SECONDS``."""
        if self.place is not None and self.place == this_place():
            alive = is_alive(self.pid, self.process_start)
            if alive is not None:
                return alive
        return self.silent_seconds(now) < SILENT_SECONDS

    def note_left(self, left: Mapping[str, str]) -> None:
        """Note where the sweep's work was left."""
        self._append({"left": dict(left)})

    def ask_to_stop(self) -> None:
        """Ask all processes of this sweep to save a checkpoint and end; each looks for it every few seconds."""
        self._append({"stop": f"process {os.getpid()} on {socket.gethostname()}"})

    def remove(self) -> None:
        """Remove the file: the sweep is over."""
        self.path.unlink(missing_ok=True)

    def note_trouble(self, trouble: str) -> None:
        """Note why the sweep gave up."""
        self._append({"trouble": trouble})

    @contextmanager
    def kept(self) -> Iterator[Registration]:
        """Heartbeats while in force, and the file's removal at the end."""
        try:
            with self.heartbeat():
                yield self
        finally:
            with contextlib.suppress(OSError):
                self.remove()

    @contextmanager
    def heartbeat(self) -> Iterator[None]:
        """Heartbeats while in force."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_SECONDS):
                with contextlib.suppress(OSError):
                    os.utime(self.path, follow_symlinks=False)

        heart = threading.Thread(target=beat, daemon=True, name="sweep-heartbeat")
        heart.start()
        try:
            yield
        finally:
            over.set()
            heart.join()

    def _append(self, note: Mapping[str, object]) -> None:
        descriptor = open_plain(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            # The first newline ends a line that a full disk may have cut off.
            os.write(descriptor, b"\n" + json.dumps(note).encode() + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class StopPoller:
    """Reads every now and then whether the sweep was asked to stop."""

    def __init__(self, registration: Registration, clock: Callable[[], float] = time.monotonic) -> None:
        self._registration = registration
        self._clock = clock
        self._next = 0.0
        self._asked = False

    def count(self) -> int:
        """1 once a request is there, else 0."""
        if not self._asked and self._clock() >= self._next:
            self._next = self._clock() + STOP_SECONDS
            found = Registration.read(self._registration.results, self._registration.id)
            self._asked = found is not None and found.stop is not None
        return int(self._asked)


def register(results: Path, *, table: str, executor: str, command: str, detached: bool = False) -> Registration:
    """Register a sweep that begins now, and remove the files of dead sweeps that it resumes, or that are long gone.

    Raises OSError.
    """
    folder = results / FOLDER
    make_folder(folder, below=results)
    now = file_time(folder)
    for other in registered(results):
        if not other.lives(now) and _is_of_no_use(other, table, now):
            other.remove()
    fields: dict[str, Any] = {
        "id": secrets.token_hex(6),
        "table": table,
        "executor": executor,
        "command": command,
        "detached": detached,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "place": None if detached else this_place(),
        "process_start": None if detached else process_start(os.getpid()),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    path = folder / f"{fields['id']}.jsonl"
    write_durably(path, json.dumps(fields).encode() + b"\n", only_new=True)
    return Registration(**fields, path=path, heartbeat_at=path.stat().st_mtime)


def _is_of_no_use(dead: Registration, table: str, now: float) -> bool:
    """Whether nobody needs the file of a dead sweep any more, now that ``table`` is swept.

    Its tasks in a cluster's queue need it, however old it is: without it, each of them takes the sweep for stopped.
    """
    is_old = dead.silent_seconds(now) > FORGOTTEN_SECONDS
    if dead.trouble is not None or not dead.left:
        return is_old or dead.table == table
    if queue_of(dead.executor) is None:
        return is_old
    return (is_old or dead.table == table) and has_left_queue(dead)


def registered(results: Path) -> list[Registration]:
    """The sweeps registered in the results folder, the oldest first; unrecognised files are skipped."""
    try:
        names = [_NAME.fullmatch(path.name) for path in (results / FOLDER).iterdir()]
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []
    found = [Registration.read(results, name[1]) for name in names if name]
    return sorted((sweep for sweep in found if sweep), key=lambda sweep: (sweep.since, sweep.id))


def forget_resumed(results: Path, command: str) -> None:
    """Remove the files of killed sweeps that began with ``command``: it was given again, and has finished.

    So work that was left to a cluster, which ``register`` keeps, is forgotten only when none of it can be in the queue.
    """
    for sweep in registered(results):
        if sweep.command != command or sweep.lives(file_time(results / FOLDER)):
            continue
        if not sweep.detached or has_left_queue(sweep):
            with contextlib.suppress(OSError):
                sweep.remove()
