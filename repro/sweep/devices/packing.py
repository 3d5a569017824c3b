"""How many runs should share a GPU: as many as make the whole faster, and never more than fit. Pure functions.

What is measured is what several processes of one kind of run reach together
(``repro.sweep.cost.gpu_sharing``). Small networks
leave most of a GPU idle, so together they are faster; at some number they are not any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from repro.machine import GpuMemory

# Part of the free memory that no run is given: allocators round up, and other processes come and go.
RESERVE = 0.08
# Fewer runs at a time are preferred up to this loss: each then ends sooner, and a failure costs less.
TOLERANCE = 0.05
COUNTS = (2, 4, 8, 16)
# A process's context with the kernels it loaded: an assumption, from what drivers of recent years take.
CONTEXT_BYTES = 600 * 2**20


@dataclass(frozen=True)
class Shared:
    """What ``jobs`` runs of one kind reached together: images a second of all, and the most memory of one of them."""

    jobs: int
    images_per_second: float
    memory_bytes: int


@dataclass(frozen=True)
class Kind:
    """Runs that cost the same: how many are left, the images that all of them have to see, what was measured.

    ``rates`` is images a second of all together by number of runs sharing a GPU; it has 1.
    """

    runs: int
    images: float
    memory_bytes: int
    rates: Mapping[int, float]

    def rate(self, jobs: int) -> float:
        """Images a second of ``jobs`` runs together; between measured numbers on a line, beyond them unchanged."""
        known = sorted(self.rates)
        below = max(count for count in known if count <= jobs)
        above = min((count for count in known if count >= jobs), default=below)
        if above == below:
            return self.rates[below]
        part = (jobs - below) / (above - below)
        return self.rates[below] + part * (self.rates[above] - self.rates[below])


@dataclass(frozen=True)
class Packing:
    """The choice: runs a GPU, how many times as fast that is as one at a time, and the memory it can take."""

    jobs: int
    speedup: float
    memory_bytes: int


def pack(kinds: Sequence[Kind], *, free_bytes: int, limit: int) -> Packing:
    """The least number of runs a GPU that is within ``TOLERANCE`` of the fastest, fits, and is at most ``limit``.

    One run is always allowed: whether it fits shows when it is tried. ``kinds`` may not be empty.
    """
    possible = [jobs for jobs in range(1, max(1, limit) + 1) if jobs == 1 or fits(kinds, jobs, free_bytes)]
    seconds = {jobs: seconds_of_all(kinds, jobs) for jobs in possible}
    best = min(seconds.values())
    jobs = min(jobs for jobs in possible if seconds[jobs] <= best * (1 + TOLERANCE))
    return Packing(jobs, seconds[1] / seconds[jobs], memory_of(kinds, jobs))


def fits(kinds: Sequence[Kind], jobs: int, free_bytes: int) -> bool:
    """Whether the ``jobs`` largest of the runs fit into a GPU at once."""
    return memory_of(kinds, jobs) <= (1 - RESERVE) * free_bytes


def has_room_for(needed: int | None, memory: GpuMemory, promised: Sequence[int]) -> bool:
    """Whether a run that takes ``needed`` bytes at most (None: nobody knows) may begin on a GPU now.

    ``promised`` are the bytes of the runs of ours there: some have not taken theirs yet, so what is free is not what
    is left; and others may have taken what was promised to nobody. One run is always allowed, as in ``pack``; one of
    which nothing is known is allowed no company.
    """
    if not promised:
        return True
    left = min(memory.free, memory.total - sum(promised))
    return needed is not None and needed <= left - RESERVE * memory.total


def memory_of(kinds: Sequence[Kind], jobs: int) -> int:
    """Bytes that ``jobs`` runs take at most: those of the largest ones."""
    total, left = 0, jobs
    for kind in sorted(kinds, key=lambda kind: kind.memory_bytes, reverse=True):
        taken = min(left, kind.runs)
        total += taken * kind.memory_bytes
        left -= taken
    return total


def seconds_of_all(kinds: Sequence[Kind], jobs: int) -> float:
    """GPU-seconds for all runs with ``jobs`` at a time, each kind beside its like."""
    return sum(kind.images / kind.rate(min(jobs, kind.runs)) for kind in kinds)


def explore(
    measure: Callable[[int], Shared], *, runs: int, images: float, free_bytes: int, limit: int
) -> tuple[Kind, list[Shared]]:
    """Measure one run, then more of its kind together for as long as that pays, fits, and is at most ``limit``."""
    measured = [measure(1)]
    for count in _worth_trying(measured, min(runs, limit), free_bytes):
        measured.append(measure(count))
    # Runs that share a GPU may take a little more each than one alone.
    memory = max(shared.memory_bytes for shared in measured)
    rates = {shared.jobs: shared.images_per_second for shared in measured}
    return Kind(runs, images, memory, rates), measured


def _worth_trying(measured: list[Shared], limit: int, free_bytes: int) -> Iterator[int]:
    """The next counts, as long as the last one was a gain."""
    for count in COUNTS:
        memory = max(shared.memory_bytes for shared in measured)
        if count > limit or count * memory > (1 - RESERVE) * free_bytes:
            return
        yield count
        if measured[-1].images_per_second < (1 + TOLERANCE) * measured[-2].images_per_second:
            return
