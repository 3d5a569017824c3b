"""Whether a process is still alive: the same one, not a later one with its process id."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_STATE, _START = 0, 19  # fields of /proc/<pid>/stat after the name in parentheses: proc(5), 3 and 22
_GONE = ("Z", "X")  # a zombie has nothing left but its exit status


@cache
def this_place() -> str | None:
    """This boot of the machine and process namespace, within which a process id is unique; None if unknown.

    The host's name is not enough: containers may share it and not their processes.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def process_start(pid: int) -> str | None:
    """When the process started, in ticks since boot; None if it is gone or that is unknown."""
    fields = _stat(pid)
    return fields[_START] if fields and fields[_STATE] not in _GONE else None


def is_alive(pid: int, start: str | None) -> bool | None:
    """Whether the process ``pid`` that started at ``start`` is alive; None if that is unknown."""
    if not 0 < pid < 2**31:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's process: it exists
    fields = _stat(pid)
    if fields is None or start is None:
        return None
    return fields[_STATE] not in _GONE and fields[_START] == start


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def stopped_process(pid: int) -> str:
    """What to do about a process of this machine that is alive and silent."""
    return f"it is suspended or stuck; kill -CONT {pid} continues it, kill -KILL {pid} ends it and frees the run"
