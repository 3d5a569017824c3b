"""How many runs should share a GPU: as many as raise throughput and fit in memory. Pure functions.

Small networks leave most of a GPU idle, so several together are faster, up to some number, which is measured
(``repro.sweep.cost.gpu_sharing``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from repro.machine import GpuMemory

# Part of the memory that is kept free: allocators round up, and other processes come and go.
RESERVE = 0.08
# Fewer runs at a time are preferred up to this loss: each then ends sooner, and a failure costs less.
TOLERANCE = 0.05
COUNTS = (2, 4, 8, 16)
# A process's context with the kernels it loaded: an assumption, from what drivers of recent years take.
CONTEXT_BYTES = 600 * 2**20


@dataclass(frozen=True)
class Shared:
    """The measurement of ``jobs`` runs of one kind together: images/s in sum, and the most memory of one of them."""

    jobs: int
    images_per_second: float
    memory_bytes: int


@dataclass(frozen=True)
class Kind:
    """Runs that cost the same: their number, the images that they train on in sum, and what was measured.

    ``rates`` has images/s in sum by the number of runs that share a GPU, from 1 on.
    """

    runs: int
    images: float
    memory_bytes: int
    rates: Mapping[int, float]

    def rate(self, jobs: int) -> float:
        """Images/s of ``jobs`` runs together: interpolated between measured numbers, constant beyond them."""
        import numpy as np

        known = sorted(self.rates)
        return float(np.interp(jobs, known, [self.rates[count] for count in known]))


@dataclass(frozen=True)
class Packing:
    """The choice: runs per GPU, the speedup over one at a time, and the most memory they take."""

    jobs: int
    speedup: float
    memory_bytes: int


def pack(kinds: Sequence[Kind], *, free_bytes: int, limit: int) -> Packing:
    """The smallest number of runs per GPU that is within ``TOLERANCE`` of the fastest, fits, and is at most ``limit``.

    One run is always allowed: whether it fits shows when it is tried. ``kinds`` may not be empty.
    """
    possible = [jobs for jobs in range(1, max(1, limit) + 1) if jobs == 1 or fits(kinds, jobs, free_bytes)]
    seconds = {jobs: seconds_of_all(kinds, jobs) for jobs in possible}
    best = min(seconds.values())
    jobs = min(jobs for jobs in possible if seconds[jobs] <= best * (1 + TOLERANCE))
    return Packing(jobs, seconds[1] / seconds[jobs], memory_of(kinds, jobs))


def fits(kinds: Sequence[Kind], jobs: int, free_bytes: int) -> bool:
    """Whether the ``jobs`` largest of the runs fit in a GPU together."""
    return memory_of(kinds, jobs) <= (1 - RESERVE) * free_bytes


def has_room_for(needed: int | None, memory: GpuMemory, reserved: Sequence[int]) -> bool:
    """Whether a run that needs at most ``needed`` bytes (None: unknown) may start on a GPU now.

    ``reserved`` are the bytes of our runs there. Some have not allocated theirs yet, and foreign processes may have
    allocated some, so the smaller of two limits counts. One run is always allowed, as in ``pack``; a run of unknown
    size starts only on a GPU without others.
    """
    if not reserved:
        return True
    left = min(memory.free, memory.total - sum(reserved))
    return needed is not None and needed <= left - RESERVE * memory.total


def memory_of(kinds: Sequence[Kind], jobs: int) -> int:
    """The most bytes that ``jobs`` runs take: those of the largest ones."""
    sizes = [kind.memory_bytes for kind in kinds for _ in range(min(jobs, kind.runs))]
    return sum(sorted(sizes, reverse=True)[:jobs])


def seconds_of_all(kinds: Sequence[Kind], jobs: int) -> float:
    """GPU-seconds of all runs with ``jobs`` at a time, each beside runs of its own kind."""
    return sum(kind.images / kind.rate(min(jobs, kind.runs)) for kind in kinds)


def explore(
    measure: Callable[[int], Shared], *, runs: int, images: float, free_bytes: int, limit: int
) -> tuple[Kind, list[Shared]]:
    """Measure one run, then more of its kind together, as long as that is faster, fits, and is at most ``limit``."""
    measured = [measure(1)]
    for count in COUNTS:
        memory = max(shared.memory_bytes for shared in measured)
        if count > min(runs, limit) or count * memory > (1 - RESERVE) * free_bytes:
            break
        measured.append(measure(count))
        if measured[-1].images_per_second < (1 + TOLERANCE) * measured[-2].images_per_second:
            break
    # Runs that share a GPU may take a little more each than one alone.
    memory = max(shared.memory_bytes for shared in measured)
    rates = {shared.jobs: shared.images_per_second for shared in measured}
    return Kind(runs, images, memory, rates), measured
