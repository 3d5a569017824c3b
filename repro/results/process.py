"""Whether a process that left its number behind is still there: the same one, not another that got its number."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_STATE, _START = 0, 19  # fields of /proc/<pid>/stat after the name in parentheses: proc(5), 3 and 22
_GONE = ("Z", "X")  # a zombie has nothing left but its exit status


@cache
def this_place() -> str | None:
    """The boot of this machine and the process namespace in it, within which a process number means one process.

    Containers may share a host's name and not its processes. None where the system does not tell.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def process_start(pid: int) -> str | None:
    """When the process started, in ticks since boot; None where it is gone, or the system does not tell."""
    fields = _stat(pid)
    return fields[_START] if fields and fields[_STATE] not in _GONE else None


def is_alive(pid: int, start: str | None) -> bool | None:
    """Whether the process ``pid`` that started at ``start`` is there; None where that cannot be told."""
    if not 0 < pid < 2**31:
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's: it is there
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
