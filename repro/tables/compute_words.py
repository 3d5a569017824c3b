"""What runs took, in words: the parts of a footnote or of a status, and a paragraph for a paper."""

from __future__ import annotations

from repro.analysis.compute import Compute
from repro.tables.footnotes import plain
from repro.wording import counted, device_hours, duration, readable_size

_MOST_WORKERS = 4
_SHARED = "the records do not say which runs shared a GPU"
_NOT_INCLUDED = "Not included are failed and deleted runs, the work that interruptions lost, and starting up."
_JOULES_PER_KILOWATT_HOUR = 3.6e6


def compute_parts(compute: Compute) -> list[str]:
    """The runs and their time, the sum of device-hours, then speed and memory; at most three parts."""
    borrowed = f"{counted(compute.borrowed, 'borrowed run')} not included" if compute.borrowed else ""
    if not compute.runs:
        return [f"{borrowed}: the table that recorded them has their figures"]
    figures = [*_speed(compute), *_memory(compute), *_energy(compute)]
    total = f"{_total(compute)} in all on {_workers(compute)}"
    if _is_range(compute):
        total += f" ({_SHARED})"
    time = f"{_runs(compute)}, each {_time(compute)}" if compute.runs > 1 else f"{_runs(compute)}, {_time(compute)}"
    return [time, f"{total}, {borrowed}" if borrowed else total, *([", ".join(figures)] if figures else [])]


def compute_text(compute: Compute) -> str:
    """The footnote of a table."""
    return f"Compute: {'; '.join(compute_parts(compute))}."


def compute_paragraph(compute: Compute) -> str:
    """What a paper's checklist asks of compute: type of worker, memory, time of each run, total."""
    if not compute.runs:
        return f"{compute_text(compute)} {_NOT_INCLUDED}"
    memory = _memory(compute)
    peak = f"A run took {' and '.join(memory)}." if memory else "Peak memory was not recorded."
    time = ", at ".join([_time(compute), *_speed(compute)])
    sentences = [
        f"We trained {_runs(compute)} on {_workers(compute)}. A run took {time}.",
        peak,
        f"Together they took {_total(compute)}{f': {_SHARED}' if _is_range(compute) else ''}.",
    ]
    if compute.core_hours is not None:
        sentences.append("Core-hours are the threads of a run times its hours.")
    energy = " and ".join(_energy(compute))
    sentences.append(f"By the driver's counter this is {energy}." if energy else "Energy was not recorded.")
    if compute.borrowed:
        sentences.append(f"{counted(compute.borrowed, 'run')} recorded under other tables are not included.")
    return " ".join([*sentences, _NOT_INCLUDED])


def _runs(compute: Compute) -> str:
    runs = counted(compute.runs, "run")
    return f"{runs} ({compute.diverged} diverged)" if compute.diverged else runs


def _time(compute: Compute) -> str:
    """``6 min 17 s (median; 3 min 6 s to 19 min 31 s)``."""
    time, shortest, longest = map(duration, (compute.median_seconds, compute.seconds[0], compute.seconds[-1]))
    return time if shortest == longest else f"{time} (median; {shortest} to {longest})"


def _total(compute: Compute) -> str:
    totals = []
    if compute.gpu_hours is not None:
        least, most = map(device_hours, compute.gpu_hours)
        totals.append(f"{most if least == most else f'{least} to {most}'} GPU-hours")
    if compute.core_hours is not None:
        totals.append(f"{device_hours(compute.core_hours)} core-hours")
    return " and ".join(totals)


def _is_range(compute: Compute) -> bool:
    return compute.gpu_hours is not None and len(set(map(device_hours, compute.gpu_hours))) > 1


def _workers(compute: Compute) -> str:
    shown = [f"{plain(name)} ({counted(count, 'run')})" for name, count in compute.workers[:_MOST_WORKERS]]
    if len(compute.workers) == 1:
        return plain(compute.workers[0][0])
    rest = len(compute.workers) - _MOST_WORKERS
    return " and ".join([*shown, f"{rest} more"] if rest > 0 else shown)


def _speed(compute: Compute) -> list[str]:
    if compute.images_per_second is None:
        return []
    speed = f"{compute.images_per_second:,.0f} images/s"
    return [f"{speed} (median)" if compute.runs > 1 else speed]


def _memory(compute: Compute) -> list[str]:
    peaks = [(device, readable_size(peak)) for device, peak in compute.peak_memory_bytes]
    return [f"up to {peak} of {'memory' if device == 'cpu' else 'GPU memory'}" for device, peak in peaks]


def _energy(compute: Compute) -> list[str]:
    if compute.energy is None:
        return []
    joules, runs = compute.energy
    of_some = f" for {runs} of {compute.runs} runs" if runs < compute.runs else ""
    return [f"{joules / _JOULES_PER_KILOWATT_HOUR:.2g} kWh of GPU energy{of_some}"]
