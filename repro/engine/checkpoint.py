"""A run's state on disk: checked when read, committed whole, the previous one kept.

A checkpoint file is a magic line, the SHA-256 and the length of what follows, and the bytes of ``torch.save``. The
header is there because ``torch.load`` alone does not notice most damage.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from repro.results.durable import write_durably
from repro.results.store import RunFolder

MAGIC = b"biasrepro checkpoint 1\n"
_HEADER = struct.Struct(">32sQ")


@dataclass(frozen=True)
class Loaded:
    """The newest good state (None where there is none), and what was found damaged and put aside on the way."""

    state: dict[str, Any] | None
    quarantined: tuple[Path, ...]


def save(folder: RunFolder, state: dict[str, Any]) -> None:
    """Commit ``state``; the checkpoint before it stays as the previous one. Raises OSError with both untouched."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    header = MAGIC + _HEADER.pack(hashlib.sha256(payload).digest(), len(payload))
    folder.path.mkdir(parents=True, exist_ok=True)
    write_durably(folder.checkpoint, header + payload, keep_previous_as=folder.previous_checkpoint)


def load(folder: RunFolder) -> Loaded:
    """The newest good checkpoint. A damaged one is renamed ``*.damaged`` and the previous one taken."""
    quarantined: list[Path] = []
    for path in (folder.checkpoint, folder.previous_checkpoint):
        if not path.exists():
            continue
        state = _read(path)
        if state is not None:
            return Loaded(state, tuple(quarantined))
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        quarantined.append(aside)
    return Loaded(None, tuple(quarantined))


def _read(path: Path) -> dict[str, Any] | None:
    """The state in ``path``, or None where any bit of it is not as it was written."""
    raw = path.read_bytes()
    start = len(MAGIC) + _HEADER.size
    if not raw.startswith(MAGIC) or len(raw) < start:
        return None
    digest, length = _HEADER.unpack(raw[len(MAGIC) : start])
    payload = memoryview(raw)[start:]
    if len(payload) != length or hashlib.sha256(payload).digest() != digest:
        return None
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError):
        return None  # sealed, but by something that is none of ours
    return state if isinstance(state, dict) else None
