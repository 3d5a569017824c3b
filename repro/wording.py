"""Counts and sizes in words."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 run``, ``2,000 runs``; ``plural`` is the noun with an s unless given."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def readable_size(count: float) -> str:
    """A number of bytes in decimal units: ``12.3 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
