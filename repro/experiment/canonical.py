"""Plain JSON data as one text, and the hash of it: what identifies a configuration."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical(data: Any) -> str:
    """Plain JSON data as text, the same whatever the order of its keys."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(data: Any) -> str:
    """SHA-256 (hex) of plain JSON data, whatever the order of its keys."""
    return hashlib.sha256(canonical(data).encode()).hexdigest()
