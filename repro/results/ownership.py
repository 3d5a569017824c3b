"""One owner a run, between processes and between machines that share the results folder.

The owner of a run is who made the file ``owner-<term>.json`` with the highest term in its folder. Terms only rise, and
the highest file stays until the run's record is there, so a term is won once: by a hard link (or O_EXCL where there
are none), which a shared file system gives to one of several. flock is not relied on.

The owner touches its file every few seconds. An owner that released its run, whose process is gone from this machine,
or that another machine has not heard of for ``SILENT_SECONDS``, is succeeded: the successor makes the next term,
removes the earlier ones, and then removes the temporary files of whatever commit was under way. An owner that was
only suspended finds its file gone when it checks before a commit, or its temporary file gone when it renames it:
either way the commit fails, and it stops. So no two owners' commits ever mix.

Ages are differences between two times of the file server (the touched file's and a newly written one's), so the
machines' clocks do not matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from repro.errors import UserError
from repro.results.durable import link_new, make_folder, write_durably
from repro.results.files import file_time, read_file
from repro.results.process import is_alive, process_start, this_place
from repro.results.store import RunFolder

HEARTBEAT_SECONDS = 10.0
SILENT_SECONDS = 120.0
FUTURE_SECONDS = 3600.0  # a heartbeat further ahead is of a clock that was set back since, and dates nothing

_OWNER_FILE = re.compile(r"owner-([0-9]{1,9})\.json")
_COMMITS_UNDER_WAY = (".checkpoint.*.part", ".run.json.*.part")


class OwnedElsewhere(UserError):
    """Another process trains this run, or took it over. Try again later."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True)
class Owner:
    """Who owns a run, as its file says; ``place`` is the machine's boot and process namespace, where that is known.

    ``silent_seconds`` is the time since its last heartbeat, ``heard_at`` that heartbeat by the file server's clock.
    ``since`` is in UTC.
    """

    token: str
    host: str
    pid: int
    place: str | None
    process_start: str | None
    since: str
    released: bool = False
    silent_seconds: float = 0.0
    heard_at: float = 0.0

    def __str__(self) -> str:
        if not self.pid:
            return "a process that has not yet said its name"
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether the owner is a process of this machine, seen from here by the same number."""
        return self.place is not None and self.place == this_place()

    @property
    def lives(self) -> bool:
        """Whether it still owns the run: neither released it, nor died, nor fell silent on another machine."""
        if self.released:
            return False
        if self.is_here and (alive := is_alive(self.pid, self.process_start)) is not None:
            return alive
        return self.silent_seconds < SILENT_SECONDS

    def as_of(self, now: float) -> Owner:
        """The owner with its ``silent_seconds``; ``now`` is by the file server's clock."""
        since = now - self.heard_at
        return replace(self, silent_seconds=-since if since < -FUTURE_SECONDS else max(0.0, since))


class Ownership:
    """A run that this process owns: kept by a heartbeat, checked before every commit, given back by ``release``."""

    def __init__(self, folder: RunFolder, term: int, owner: Owner) -> None:
        self.folder = folder
        self.owner = owner
        self.path = _file(folder, term)
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._heart.start()

    def check(self) -> None:
        """Raise OwnedElsewhere where another process has taken the run over."""
        found = _read(self.path)
        if found is None or found.token != self.owner.token:
            successor = owner_of(self.folder)
            raise OwnedElsewhere(
                "this run was taken over while this process was not heard of"
                + (f", by {successor}" if successor else ""),
                where=str(self.folder.path),
                hint="Nothing is lost: it goes on there, from the last committed state.",
            )

    def write(self, path: Path, data: bytes, *, keep_previous_as: Path | None = None, only_new: bool = False) -> None:
        """``write_durably`` for the run's own files: as the owner, or not at all (OwnedElsewhere)."""
        try:
            write_durably(path, data, keep_previous_as=keep_previous_as, only_new=only_new, before_commit=self.check)
        except OSError:  # perhaps because a successor removed the temporary file, or made what this would have made
            self.check()
            raise

    def release(self) -> None:
        """Give the run back: nothing stays where its record is there, else a note that it is free."""
        self._over.set()
        self._heart.join()
        with contextlib.suppress(OSError):  # what cannot be said now, the end of this process says
            if self.folder.record.exists():
                for path in (*self.folder.path.glob("owner-*.json"), *self.folder.path.glob(".owner-*.part")):
                    path.unlink(missing_ok=True)
            elif (found := _read(self.path)) is not None and found.token == self.owner.token:
                write_durably(self.path, _to_bytes(replace(self.owner, released=True)))

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)


@contextmanager
def own(folder: RunFolder) -> Iterator[Ownership]:
    """Own the run while in force. Raises OwnedElsewhere, naming the owner, and UserError for an unwritable folder."""
    try:
        ownership = _acquire(folder)
    except OSError as error:
        raise UserError(
            f"the run's folder cannot be written: {error.strerror}",
            where=str(folder.path),
            hint="Mend that, or give another folder with --results.",
        ) from error
    try:
        yield ownership
    finally:
        ownership.release()


def owner_of(folder: RunFolder, now: Callable[[], float] | None = None) -> Owner | None:
    """The living owner of a run, None where nobody owns it (or no folder is there); ``now`` as in ``last_owner``."""
    owner = last_owner(folder, now)
    return owner if owner is not None and owner.lives else None


def last_owner(folder: RunFolder, now: Callable[[], float] | None = None) -> Owner | None:
    """Who has the run and did not give it back, alive or not; None, too, where the folder cannot be read now.

    ``now`` tells the file server's time to those who look at many runs; it is asked only where there is an owner.
    """
    try:
        owner = _newest(folder)[1]
    except OSError:  # a file server's bad moment: whoever wants the run finds out when it tries to own it
        return None
    if owner is None or owner.released:
        return None
    return owner.as_of(now() if now is not None else file_time(folder.path))


def _acquire(folder: RunFolder) -> Ownership:
    make_folder(folder.path, below=folder.results)
    me = Owner(
        token=secrets.token_hex(16),
        host=socket.gethostname(),
        pid=os.getpid(),
        place=this_place(),
        process_start=process_start(os.getpid()),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    candidate = folder.path / f".owner.{me.token}.part"
    term = 0
    while not term:
        try:
            _create(candidate, _to_bytes(me))
            earlier, found = _newest(folder)
            owner = found and found.as_of(candidate.stat().st_mtime)
            if owner is not None and owner.lives:
                raise _occupied(folder, owner)
            term = _win(folder, earlier + 1, candidate)
        except FileNotFoundError:  # the run just ended, and its owner tidied up: the record will be found
            continue
        finally:
            candidate.unlink(missing_ok=True)
    for other in _terms(folder):
        if other < term:
            _file(folder, other).unlink(missing_ok=True)
    for pattern in _COMMITS_UNDER_WAY:
        for leftover in folder.path.glob(pattern):
            leftover.unlink(missing_ok=True)
    return Ownership(folder, term, me)


def _win(folder: RunFolder, term: int, candidate: Path) -> int:
    """Make ``candidate`` the file of ``term``; returns the term, or 0 where that or a later one is taken already."""
    path = _file(folder, term)
    try:
        if not link_new(candidate, path):
            _create(path, candidate.read_bytes())
    except FileExistsError:
        return 0
    # Whoever was slow since it looked may find the term free because its successors removed it: theirs is the run.
    if max(_terms(folder), default=0) > term:
        path.unlink(missing_ok=True)
        return 0
    return term


def _occupied(folder: RunFolder, owner: Owner) -> OwnedElsewhere:
    if owner.is_here:
        hint = "Wait for it to end, or stop it: the same command then goes on from its last committed state."
    else:
        hint = (
            f"It was heard of {owner.silent_seconds:.0f} s ago. Should that machine be gone, the same command takes "
            f"the run over {SILENT_SECONDS:.0f} s after its last sign of life."
        )
    return OwnedElsewhere(f"this run is in training by {owner}", where=str(folder.path), hint=hint)


def _newest(folder: RunFolder) -> tuple[int, Owner | None]:
    """The highest term, and whom its file names; 0 and None where there is no such file."""
    while term := max(_terms(folder), default=0):
        if (owner := _read(_file(folder, term))) is not None:
            return term, owner
    return 0, None


def _terms(folder: RunFolder) -> list[int]:
    try:
        names = [path.name for path in folder.path.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(match[1]) for match in map(_OWNER_FILE.fullmatch, names) if match]


def _file(folder: RunFolder, term: int) -> Path:
    return folder.path / f"owner-{term}.json"


def _create(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _to_bytes(owner: Owner) -> bytes:
    fields = asdict(owner)
    del fields["silent_seconds"], fields["heard_at"]
    return json.dumps(fields, indent=2).encode() + b"\n"


def _read(path: Path) -> Owner | None:
    """The owner in the file at ``path``, None where it is gone; one without a name where the file cannot be read."""
    raw = b""
    with contextlib.suppress(OSError):
        raw = read_file(path)
    try:
        # Only now: an NFS client asks for a file's times as it opens it, and else may believe old ones for 60 s.
        heard_at = path.stat().st_mtime
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(raw)
        host, since = (str(fields[name]) for name in ("host", "since"))
        return Owner(
            token=str(fields["token"]),
            host=host if host.isprintable() else "?",
            pid=int(fields["pid"]),
            place=fields["place"],
            process_start=fields["process_start"],
            since=since if since.isprintable() else "?",
            released=fields["released"] is True,
            heard_at=heard_at,
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Owner("", "", 0, None, None, "", heard_at=heard_at)
