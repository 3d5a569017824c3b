"""Slots: where the runs of a sweep are placed, one running job in each. Pure functions.

A job sees exactly one GPU: its slot sets ``CUDA_VISIBLE_DEVICES`` (``HIP_VISIBLE_DEVICES`` for AMD's GPUs) to one entry
of the list that this process inherited, so that the reservations of a scheduler or a colleague are respected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from repro.errors import UserError
from repro.machine import Gpu, visible_variable

VISIBLE = visible_variable()


@dataclass(frozen=True)
class Slot:
    """Room for one running job: its device, its threads, and the environment that confines it there."""

    label: str
    device: str
    threads: int
    environment: Mapping[str, str] = field(default_factory=dict)


def visible_entries(gpus: Sequence[Gpu], inherited: str | None) -> tuple[str, ...]:
    """The entries that a job's ``VISIBLE`` may have, in the order in which torch counts the devices.

    ``inherited`` is this process's own value. Unset (None), every GPU counts, by its UUID: indices of CUDA and
    nvidia-smi may differ. As in CUDA, the list ends at the first entry that names no device; UUIDs may be shortened.
    """
    if inherited is None:
        return tuple(gpu.uuid for gpu in gpus)
    entries: list[str] = []
    for text in inherited.split(","):
        entry = text.strip()
        if not _names_a_device(entry, gpus) or entry in entries:
            break
        entries.append(entry)
    return tuple(entries)


def gpu_slots(
    entries: Sequence[str], *, wanted: Sequence[int] | None, jobs_per_gpu: int, cores: int, threads: int | None
) -> tuple[Slot, ...]:
    """``jobs_per_gpu`` slots on each of the GPUs in ``entries``, in rounds over the GPUs.

    ``wanted`` picks entries by position (as torch counts: ``cuda:0`` is the first); None takes all. Raises UserError
    for a position that does not exist or occurs twice.
    """
    positions = range(len(entries)) if wanted is None else wanted
    for position in positions:
        if not 0 <= position < len(entries):
            raise UserError(
                f"there is no GPU {position}; visible here: {len(entries)}, counted from 0",
                hint=f"`biasrepro doctor` lists them; --gpus counts those in {VISIBLE}.",
            )
    if len(set(positions)) < len(positions):
        raise UserError("--gpus names a GPU twice", hint="--jobs-per-gpu 2 puts two jobs on each.")
    total = len(positions) * jobs_per_gpu
    share = threads or max(1, cores // max(1, total))
    return tuple(
        Slot(f"cuda:{position}", "cuda", share, {VISIBLE: entries[position], "OMP_NUM_THREADS": str(share)})
        for _ in range(jobs_per_gpu)
        for position in positions
    )


def cpu_slots(*, cores: int, jobs: int | None, threads: int | None) -> tuple[Slot, ...]:
    """Slots that share the cores: by default one single-threaded job per core, the fastest for small networks.

    The number of threads does not depend on how many runs are left, because a run's results depend on it.
    """
    jobs = jobs or max(1, cores // (threads or 1))
    share = threads or max(1, cores // jobs)
    environment = {"OMP_NUM_THREADS": str(share), "MKL_NUM_THREADS": str(share)}
    return tuple(Slot("cpu", "cpu", share, environment) for _ in range(jobs))


def choose_slots(
    *,
    device: str,
    gpus: Sequence[Gpu],
    inherited: str | None,
    wanted: Sequence[int] | None,
    jobs_per_gpu: int,
    jobs: int | None,
    cores: int,
    threads: int | None,
) -> tuple[Slot, ...]:
    """The slots of a sweep: on GPUs if some are visible, else on the CPU.

    ``device`` is ``auto``, ``cpu`` or ``cuda``. Raises UserError if GPUs are required and none is visible.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"unknown --device '{device}'", hint="Valid: auto, cpu, cuda. --gpus 0,1 picks GPUs.")
    if device == "cpu" and wanted is not None:
        raise UserError("--gpus and --device cpu exclude each other", hint="Leave one of them out.")
    entries = () if device == "cpu" else visible_entries(gpus, inherited)
    if not entries:
        if device == "cuda" or wanted is not None:
            hidden = f" ({VISIBLE}={inherited!r} hides {len(gpus)})" if gpus else ""
            raise UserError(f"no GPU is visible here{hidden}", hint="`biasrepro doctor` shows why; --device cpu works.")
        return cpu_slots(cores=cores, jobs=jobs, threads=threads)
    if jobs is not None:
        raise UserError("--jobs is for runs on the CPU", hint="On GPUs, give --jobs-per-gpu; or add --device cpu.")
    return gpu_slots(entries, wanted=wanted, jobs_per_gpu=jobs_per_gpu, cores=cores, threads=threads)


def _names_a_device(entry: str, gpus: Sequence[Gpu]) -> bool:
    if any(gpu.uuid == entry for gpu in gpus):
        return True
    if entry.isdecimal():
        return int(entry) < len(gpus)
    if entry.startswith("MIG-"):  # slices have had several kinds of names; CUDA itself says which it takes
        return bool(gpus)
    return bool(entry) and any(gpu.uuid.startswith(entry) for gpu in gpus)
