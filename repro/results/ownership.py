"""Each run has at most one owner, among all processes and machines that share the results folder.

The owner is the process named in the run's file ``owner-<term>.json`` with the highest term. Terms only rise, and the
highest file stays until the run's record is there, so each term is won once: by a hard link (or O_EXCL if there are
none), which a shared file system grants to one process only. flock is not relied on.

The owner touches its file every few seconds: a heartbeat. A run can be taken over when its owner released it, when the
owner's process on this machine is gone, or when an owner on another machine sent no heartbeat for ``SILENT_SECONDS``.
The successor makes the file of the next term, and removes earlier ones and the temporary files of unfinished commits.
An owner that was only suspended finds its file gone when it checks before a commit, or its temporary file gone when
it renames it: either way the commit fails, and it stops. So commits of two owners never mix.

The age of a heartbeat is the difference of two times of the file server, so the machines' clocks do not matter.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from repro.errors import UserError
from repro.results.durable import create_file, link_new, make_folder, write_durably
from repro.results.files import file_time, permission_hint, read_file
from repro.results.process import is_alive, process_start, stopped_process, this_place
from repro.results.record_fields import Printable
from repro.results.store import RunFolder
from repro.wording import duration

HEARTBEAT_SECONDS = 10.0
SILENT_SECONDS = 120.0
FUTURE_SECONDS = 3600.0  # a heartbeat further ahead shows that the clock was set back; it counts as old

OWNER_FILE = re.compile(r"owner-([1-9][0-9]{0,8})\.json")  # as `_file` names it: no other file is an owner's
_COMMITS_UNDER_WAY = (".checkpoint.*.part", ".run.json.*.part", ".weights.*.part", ".progress.*.part")


class OwnedElsewhere(UserError):
    """Another process trains this run, or took it over."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: try again later


class Owner(BaseModel):
    """The process that an owner file names; ``place`` as in ``this_place``, ``since`` in UTC.

    ``heartbeat_at`` is the time of its last heartbeat by the file server's clock, ``silent_seconds`` its age.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    token: str
    host: Printable
    pid: int
    place: str | None
    process_start: str | None
    since: Printable
    inode: int | None = None  # of the run's folder: a copy of it has another, and only the heartbeat counts
    released: bool = False
    silent_seconds: float = Field(default=0.0, exclude=True)
    heartbeat_at: float = Field(default=0.0, exclude=True)

    def __str__(self) -> str:
        if not self.pid:
            return "an unknown process"  # its file is not yet written, or damaged
        return f"process {self.pid} on {self.host}, since {self.since}"

    @property
    def is_here(self) -> bool:
        """Whether the owner runs on this machine, in the same process namespace."""
        return self.place is not None and self.place == this_place()

    @property
    def lives(self) -> bool:
        """Whether it still owns the run: it did not release it, is not dead and, on another machine, not silent."""
        if self.released:
            return False
        if self.is_here and (alive := is_alive(self.pid, self.process_start)) is not None:
            return alive
        return self.silent_seconds < SILENT_SECONDS

    @property
    def silence(self) -> str:
        """What to say of an owner that sends no heartbeat and still owns the run; empty for one that sends them."""
        if self.silent_seconds <= 3 * HEARTBEAT_SECONDS:
            return ""
        if self.is_here:  # while the process exists, nobody takes the run over
            return f", silent for {duration(self.silent_seconds)}: {stopped_process(self.pid)}"
        return f", silent for {duration(self.silent_seconds)} (taken over after {duration(SILENT_SECONDS)})"

    def as_of(self, now: float) -> Owner:
        """The owner with its ``silent_seconds`` at ``now``, by the file server's clock."""
        since = now - self.heartbeat_at
        silent = -since if since < -FUTURE_SECONDS else max(0.0, since)
        return self.model_copy(update={"silent_seconds": silent})

    def to_bytes(self) -> bytes:
        """The content of its file."""
        return self.model_dump_json(indent=2).encode() + b"\n"


class Ownership:
    """A run that this process owns: kept by a heartbeat, checked before every commit."""

    def __init__(self, folder: RunFolder, term: int, owner: Owner) -> None:
        self.folder = folder
        self.owner = owner
        self.path = _file(folder, term)
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        self._heart.start()

    def check(self) -> None:
        """Raise OwnedElsewhere if another process has taken the run over, OSError if it cannot tell."""
        found = _read(self.path, strict=True)
        if found is None or found.token != self.owner.token:
            successor = owner_of(self.folder) or "another process"
            raise OwnedElsewhere(
                f"this run was taken over by {successor}, since this process sent no heartbeat",
                where=str(self.folder.path),
                hint="Nothing is lost: the other process resumes from the last checkpoint.",
            )

    def write(self, path: Path, data: bytes, *, keep_previous_as: Path | None = None, only_new: bool = False) -> None:
        """``write_durably`` of one of the run's files. Raises OwnedElsewhere if the run was taken over, and OSError."""
        try:
            write_durably(path, data, keep_previous_as=keep_previous_as, only_new=only_new, before_commit=self.check)
        except OSError:  # perhaps a successor removed the temporary file, or wrote the record first
            with contextlib.suppress(OSError):
                self.check()
            raise

    def release(self) -> None:
        """End the ownership: mark the owner file as released, or remove it once the run has a record."""
        self._over.set()
        self._heart.join()
        with contextlib.suppress(OSError):  # without a note, the end of this process releases the run
            if self.folder.record.exists():
                owners = [_file(self.folder, term) for term in _terms(self.folder)]
                for path in (*owners, *self.folder.path.glob(".owner-*.part")):
                    path.unlink(missing_ok=True)
            elif (found := _read(self.path)) is not None and found.token == self.owner.token:
                write_durably(self.path, self.owner.model_copy(update={"released": True}).to_bytes())

    def _beat(self) -> None:
        while not self._over.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)


@contextmanager
def own(folder: RunFolder) -> Iterator[Ownership]:
    """Own the run for a ``with`` block. Raises OwnedElsewhere, and UserError for a folder that cannot be written."""
    try:
        ownership = _acquire(folder)
    except OSError as error:
        way_out = permission_hint(folder.path) if isinstance(error, PermissionError) else "Fix that"
        raise UserError(
            f"the run's folder cannot be written: {error.strerror}",
            where=str(folder.path),
            hint=f"{way_out}, or choose another folder with --results.",
        ) from error
    try:
        yield ownership
    finally:
        ownership.release()


def owner_of(folder: RunFolder, now: Callable[[], float] | None = None) -> Owner | None:
    """The living owner of a run, None if nobody owns it; ``now`` as in ``last_owner``."""
    owner = last_owner(folder, now)
    return owner if owner is not None and owner.lives else None


def last_owner(folder: RunFolder, now: Callable[[], float] | None = None) -> Owner | None:
    """The owner that did not release the run, dead or alive; None without one, or if the folder cannot be read.

    ``now`` gives the file server's time, by default a new one for each run; it is called only if there is an owner.
    """
    try:
        owner = _newest(folder)[1]
    except OSError:  # whoever wants the run gets the error from ``own``
        return None
    if owner is None or owner.released:
        return None
    return owner.as_of(now() if now is not None else file_time(folder.path))


def _acquire(folder: RunFolder) -> Ownership:
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
        make_folder(folder.path, below=folder.results)
        try:
            me = me.model_copy(update={"inode": folder.path.stat().st_ino})
            create_file(candidate, me.to_bytes())
            earlier, found = _newest(folder)
            owner = found and found.as_of(candidate.stat().st_mtime)
            if owner is not None and owner.lives:
                raise _occupied(folder, owner)
            if not OWNER_FILE.fullmatch(_file(folder, earlier + 1).name):
                hint = "No run has had so many owners. Remove the file if no process trains this run."
                raise UserError("no owner can follow this one", where=str(_file(folder, earlier)), hint=hint)
            term = _win(folder, earlier + 1, candidate)
        except FileNotFoundError:  # the run has just ended, and its owner removed these files
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
    """Make ``candidate`` the file of ``term``; returns the term, or 0 if that or a later one is taken."""
    path = _file(folder, term)
    try:
        if not link_new(candidate, path):
            create_file(path, candidate.read_bytes())
    except FileExistsError:
        return 0
    # A slow process may find the term free because later owners removed its file: then the run is theirs.
    if max(_terms(folder), default=0) > term:
        path.unlink(missing_ok=True)
        return 0
    return term


def _occupied(folder: RunFolder, owner: Owner) -> OwnedElsewhere:
    if owner.is_here:
        hint = "Wait for it to end, or stop it: the same command then resumes from its last checkpoint."
        if owner.silence:
            hint = f"It sent no heartbeat for {duration(owner.silent_seconds)}: {stopped_process(owner.pid)}."
    else:
        hint = (
            f"Its last heartbeat was {duration(owner.silent_seconds)} ago. If that machine is down, the same command "
            f"takes the run over {duration(SILENT_SECONDS)} after it."
        )
    return OwnedElsewhere(f"this run is in training by {owner}", where=str(folder.path), hint=hint)


def _newest(folder: RunFolder) -> tuple[int, Owner | None]:
    """The highest term and its owner; 0 and None if no owner file is there."""
    while term := max(_terms(folder), default=0):
        if (owner := _read(_file(folder, term))) is not None:
            return term, owner
    return 0, None


def _terms(folder: RunFolder) -> list[int]:
    try:
        names = [path.name for path in folder.path.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [int(match[1]) for match in map(OWNER_FILE.fullmatch, names) if match]


def _file(folder: RunFolder, term: int) -> Path:
    return folder.path / f"owner-{term}.json"


def _read(path: Path, *, strict: bool = False) -> Owner | None:
    """The owner in the file at ``path``, None if it is gone. Unreadable: an unknown one; OSError if ``strict``."""
    raw = b""
    with contextlib.suppress(FileNotFoundError if strict else OSError):
        raw = read_file(path)
    try:
        # After reading: an NFS client refreshes a file's times when it opens it, else it may use ones 60 s old.
        heartbeat_at = path.lstat().st_mtime  # of a link too, which no owner made: it may lead nowhere
        inode = path.parent.stat().st_ino
    except FileNotFoundError:
        return None
    try:
        owner = Owner.model_validate_json(raw)
    except ValidationError:
        owner = Owner(token="", host="", pid=0, place=None, process_start=None, since="")
    # What the process does elsewhere says nothing of a copy: there the age of the heartbeat alone counts.
    place = owner.place if owner.inode in (None, inode) else None
    return owner.model_copy(update={"heartbeat_at": heartbeat_at, "place": place})
