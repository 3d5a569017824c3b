"""What runs took: time of each, device-hours of all, memory and speed. From their records alone; nothing is guessed."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from statistics import median

from repro.results import RunRecord
from repro.wording import counted

_HOUR = 3600.0
_ALWAYS = (-math.inf, math.inf)
_Interval = tuple[float, float]
_Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Spent:
    """What one run took, in little memory.

    ``seconds`` are those of its epochs, ``window`` the time from its first start to its end (seconds since 1970).
    An uninterrupted run filled the last ``seconds`` of it; when a resumed one trained within it is not recorded.
    ``gpu`` is the driver's name for the GPU, empty if it is not recorded. ``images_per_second`` is that of its finished
    epochs, 0 without one.
    """

    table: str
    host: str
    device: str
    device_name: str
    gpu: str
    threads: int
    seconds: float
    window: _Interval
    is_resumed: bool
    is_diverged: bool
    images_per_second: float
    peak_memory_bytes: int | None
    energy_joules: float | None = None

    @classmethod
    def of(cls, record: RunRecord) -> Spent | None:
        """What the run of ``record`` took; None if it was imported: it was not trained here."""
        if record.imported is not None:
            return None
        made = record.provenance
        return cls(
            table=record.table,
            host=made.host,
            device=made.device,
            device_name=made.device_name,
            gpu=made.device_uuid or "",
            threads=made.threads,
            seconds=made.duration_seconds,
            window=_window(made.started_at, made.finished_at),
            is_resumed=made.resumptions > 0,
            is_diverged=record.status == "diverged",
            images_per_second=made.images_per_second,
            peak_memory_bytes=made.peak_memory_bytes,
            energy_joules=made.energy_joules,
        )

    @property
    def busy(self) -> _Interval | None:
        """When it trained; None if that is not recorded."""
        end = self.window[1]
        return None if self.is_resumed or math.isinf(end) else (end - self.seconds, end)


@dataclass(frozen=True)
class Compute:
    """What some runs took together.

    ``seconds`` of each run are sorted. ``gpu_hours`` are the least and the most that the records allow: equal, unless
    runs overlap of which the records do not say whether they shared a GPU. ``core_hours`` are threads times hours of
    the runs on CPUs. Both are None without such runs. ``workers`` counts the runs by product name and, on a CPU,
    threads. ``images_per_second`` is the median of the runs that finished an epoch, None if none did.
    ``peak_memory_bytes`` is the most of any run that recorded it, by kind of device. ``energy`` is the sum in J over
    the runs that recorded theirs, and their number; None if none did. ``borrowed`` runs are recorded under other
    tables, and in no other figure.
    """

    seconds: tuple[float, ...]
    diverged: int
    gpu_hours: _Range | None
    core_hours: float | None
    workers: tuple[tuple[str, int], ...]
    images_per_second: float | None
    peak_memory_bytes: tuple[tuple[str, int], ...]
    energy: tuple[float, int] | None
    borrowed: int

    @property
    def runs(self) -> int:
        """How many runs the figures are of."""
        return len(self.seconds)

    @property
    def median_seconds(self) -> float:
        """The median time of a run."""
        return median(self.seconds)


def compute_of(runs: Iterable[Spent], tables: Iterable[str]) -> Compute | None:
    """What ``runs`` took; those recorded under other ``tables`` are only counted. None without runs."""
    names, found = set(tables), list(runs)
    own = [run for run in found if run.table in names]
    if not found:
        return None
    on_gpus = [run for run in own if run.device != "cpu"]
    on_cpus = [run for run in own if run.device == "cpu"]
    workers = Counter(chain((run.device_name for run in on_gpus), map(_cpu_worker, on_cpus)))
    speeds = [run.images_per_second for run in own if run.images_per_second]
    peaks = defaultdict[str, list[int]](list)
    energies = [run.energy_joules for run in own if run.energy_joules is not None]
    for run in own:
        if run.peak_memory_bytes is not None:
            peaks[run.device].append(run.peak_memory_bytes)
    return Compute(
        seconds=tuple(sorted(run.seconds for run in own)),
        diverged=sum(run.is_diverged for run in own),
        gpu_hours=gpu_hours(on_gpus) if on_gpus else None,
        core_hours=sum(run.seconds * run.threads for run in on_cpus) / _HOUR if on_cpus else None,
        workers=tuple(sorted(workers.items(), key=lambda entry: (-entry[1], entry[0]))),
        images_per_second=median(speeds) if speeds else None,
        peak_memory_bytes=tuple((device, max(known)) for device, known in sorted(peaks.items())),
        energy=(sum(energies), len(energies)) if energies else None,
        borrowed=len(found) - len(own),
    )


def gpu_hours(runs: Iterable[Spent]) -> _Range:
    """The least and the most hours that GPUs were taken; runs that shared one at the same time count once.

    Where a run's GPU is not recorded, overlapping runs on GPUs of one name and host may have shared one or not.
    """
    by_place = defaultdict[tuple[str, str], list[Spent]](list)
    for run in runs:
        by_place[run.host, run.device_name].append(run)
    least = most = 0.0
    for there in by_place.values():
        for of_gpu, is_one in _by_gpu(there):
            for together in _overlapping(of_gpu):
                low, high = _taken(together, is_one=is_one)
                least, most = least + low, most + high
    return least / _HOUR, most / _HOUR


def _by_gpu(runs: Sequence[Spent]) -> list[tuple[list[Spent], bool]]:
    """The runs of each GPU, and whether it is one; all runs together if the GPU of one of them is not known."""
    if not all(run.gpu for run in runs):
        return [(list(runs), False)]
    by_gpu = defaultdict[str, list[Spent]](list)
    for run in runs:
        by_gpu[run.gpu].append(run)
    return [(of_gpu, True) for of_gpu in by_gpu.values()]


def _overlapping(runs: Iterable[Spent]) -> list[list[Spent]]:
    """The runs in groups: those of one group overlap in time, directly or by others between them."""
    groups: list[list[Spent]] = []
    end = -math.inf
    for run in sorted(runs, key=_when):
        start, finish = _when(run)
        if not groups or start >= end:
            groups.append([])
        groups[-1].append(run)
        end = max(end, finish)
    return groups


def _taken(runs: Sequence[Spent], *, is_one: bool) -> _Range:
    """The least and the most seconds that overlapping runs took of GPUs; of one GPU, if they were all on it."""
    total = sum(run.seconds for run in runs)
    if len(runs) == 1:
        return total, total
    union = _length(busy for run in runs if (busy := run.busy) is not None)
    unplaced = [run.seconds for run in runs if run.busy is None]
    return max([union, *unplaced]), union + sum(unplaced) if is_one else total


def _when(run: Spent) -> _Interval:
    return run.busy or run.window


def _length(intervals: Iterable[_Interval]) -> float:
    """The length of the union of the intervals."""
    length, end = 0.0, -math.inf
    for start, finish in sorted(intervals):
        length += max(0.0, finish - max(start, end))
        end = max(end, finish)
    return length


def _window(started_at: str, finished_at: str) -> _Interval:
    """The seconds since 1970 of both times; all time if one of them is no time with a zone."""
    try:
        times = [datetime.fromisoformat(text) for text in (started_at, finished_at)]
    except ValueError:
        return _ALWAYS
    if any(time.tzinfo is None for time in times):
        return _ALWAYS
    start, end = (time.timestamp() for time in times)
    return min(start, end), max(start, end)


def _cpu_worker(run: Spent) -> str:
    return f"{run.device_name}, {counted(run.threads, 'thread')} a run"
