"""Files read as files alone: a pipe in one's place would be waited for, and a device or a huge file never ends."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

LARGEST_NOTE_BYTES = 1 << 26  # records of 100,000 epochs are smaller
LARGEST_CHECKPOINT_BYTES = 1 << 32  # the largest network here has 0.2 GB


def read_file(path: Path, largest_bytes: int = LARGEST_NOTE_BYTES) -> bytes:
    """The bytes of the file at ``path``. Raises OSError, for what is no file or too large to be one of ours, too."""
    found = path.stat()
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise OSError(errno.EINVAL, "it is a pipe or a device", str(path))
    if found.st_size > largest_bytes:
        raise OSError(errno.EINVAL, f"it has {found.st_size:,} bytes, and none of biasrepro's has so many", str(path))
    return path.read_bytes()
