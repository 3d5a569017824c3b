"""How many cores this process may use."""

from __future__ import annotations

import os


def available_cores(most: int = 16) -> int:
    """Cores that the scheduler grants this process (fewer than the machine has, in a SLURM job), at most ``most``."""
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(granted, most)
