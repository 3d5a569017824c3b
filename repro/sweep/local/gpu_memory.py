"""GPU memory on a node: a run starts beside others on a GPU only if the memory holds it too.

Ray counts fractions of a GPU and SLURM whole ones. Neither limits memory, and a run that takes too much crashes its
neighbours. So each run writes a reservation: a file with the most bytes that it takes, in a folder per GPU under this
machine's temporary folder, under a lock. A reservation holds as long as the run's process lives. A run that does not
fit waits on its slot until its neighbours end.

Where no reservation can be written, or the folder is not this user's alone, runs start without one; their log says so.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from repro.errors import UserError
from repro.experiment.schema import Cell
from repro.machine import GpuMemory, gpu_memory
from repro.results.durable import replace_file
from repro.results.files import file_lock, make_private, open_log, read_file
from repro.results.process import is_alive, process_start, this_place
from repro.sweep.cost.gpu_sharing import memory_by_torch
from repro.sweep.cost.memory_estimate import estimated_bytes
from repro.sweep.devices.packing import has_room_for
from repro.sweep.devices.slots import VISIBLE, Slot
from repro.sweep.executor import Job
from repro.wording import counted, readable_size

_LOCK_SECONDS = 10.0  # others hold it for an instant, unless they were stopped
RETRY_SECONDS = 5.0  # between two tries of a run that did not fit


def slot_memory(slot: Slot) -> GpuMemory | None:
    """The memory of the GPU of ``slot``, from the driver or else torch; None if neither knows."""
    if (memory := gpu_memory(slot.environment[VISIBLE])) is not None:
        return memory
    try:
        return memory_by_torch(slot)
    except UserError:
        return None


class GpuMemoryReservations:
    """The memory of this machine's GPUs, for one executor.

    ``memory`` returns what a GPU has, and ``needed`` what a run takes, by its cell and the files of its plugins.
    """

    def __init__(
        self,
        memory: Callable[[Slot], GpuMemory | None] = slot_memory,
        needed: Callable[[Cell, Sequence[str]], int] = estimated_bytes,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._estimate = needed
        self._folder = folder or Path(tempfile.gettempdir()) / f"biasrepro-{os.getuid()}"
        self._clock = clock
        self._needed: dict[str, int | None] = {}
        self._next_try: dict[str, float] = {}
        self._reserved: dict[str, tuple[Path, int]] = {}

    def reserve(self, job: Job, slot: Slot) -> bool:
        """Reserve memory for ``job`` on the GPU of ``slot``; False if it does not fit now.

        A job that must be alone gets no neighbours, before or after it starts; nor does one of unknown size.
        """
        if slot.device != "cuda":
            return True
        if self._clock() < self._next_try.get(job.id, 0.0):
            return False
        needed = self._needed_by(job)
        if (memory := self._memory(slot)) is None:
            return True
        try:
            with self._locked(memory.uuid) as folder:
                reserved = [taken for path in folder.glob("*.json") if (taken := _read(path, memory)) is not None]
                if not has_room_for(needed, memory, reserved):
                    if job.id not in self._next_try:
                        _log(job, slot, _why_it_waits(needed, memory, reserved))
                    self._next_try[job.id] = self._clock() + RETRY_SECONDS
                    return False
                path = folder / f"{os.getpid()}-{abs(hash(job.id))}.json"
                taken = memory.total if needed is None else min(needed, memory.total)
                _write(path, taken, os.getpid())
                self._reserved[job.id] = path, taken
        except OSError as error:
            _log(job, slot, f"starting without a reservation of GPU memory: {error.strerror}")
        return True

    def hand_over(self, job: Job, pid: int) -> None:
        """Bind the reservation of ``job`` to its process: it outlives this one."""
        if job.id in self._reserved:
            with contextlib.suppress(OSError):
                _write(*self._reserved[job.id], pid)

    def release(self, job: Job) -> None:
        """Remove the reservation of a job that ended."""
        self._next_try.pop(job.id, None)
        self._needed.pop(job.id, None)
        if job.id in self._reserved:
            with contextlib.suppress(OSError):
                self._reserved.pop(job.id)[0].unlink(missing_ok=True)

    def _needed_by(self, job: Job) -> int | None:
        """The bytes of ``job``, estimated once; None if it must be alone, or its size is unknown."""
        if job.id not in self._needed:
            self._needed[job.id] = None
            if not job.alone:
                with contextlib.suppress(UserError):
                    self._needed[job.id] = self._estimate(job.run.cell, job.plugins)
        return self._needed[job.id]

    @contextmanager
    def _locked(self, uuid: str) -> Iterator[Path]:
        """The folder of a GPU's reservations, locked. Raises OSError."""
        folder = self._folder / re.sub(r"[^A-Za-z0-9-]", "-", uuid)
        make_private(self._folder)  # in a folder where anybody may have been first
        make_private(folder)
        with file_lock(folder / "lock", 0o600, seconds=_LOCK_SECONDS):
            yield folder


class _Reservation(BaseModel):
    """The content of a reservation's file: the process that runs, and the most bytes that it takes."""

    model_config = ConfigDict(strict=True)

    bytes: Annotated[int, Field(ge=0)]
    pid: Annotated[int, Field(gt=0)]
    start: str | None
    place: str | None


def _write(path: Path, taken: int, pid: int) -> None:
    reservation = _Reservation(bytes=taken, pid=pid, start=process_start(pid), place=this_place())
    replace_file(path, reservation.model_dump_json().encode())


def _read(path: Path, memory: GpuMemory) -> int | None:
    """The bytes of a reservation. None if its process has ended (then it is deleted) or is not visible here.

    Likewise if it is none of ours: not readable, or for more than the GPU has.
    """
    try:
        found = _Reservation.model_validate_json(read_file(path))
        # Processes of another container cannot be looked up; what they took is missing from the free memory.
        if found.place != this_place() or found.bytes > memory.total:
            return None
        if is_alive(found.pid, found.start) is False:
            path.unlink(missing_ok=True)
            return None
        return found.bytes
    except (OSError, ValueError):
        return None


def _why_it_waits(needed: int | None, memory: GpuMemory, reserved: list[int]) -> str:
    wants = "the GPU to itself" if needed is None else f"up to {readable_size(needed)}"
    return (
        f"waiting for GPU memory: this run needs {wants}; of {readable_size(memory.total)}, "
        f"{readable_size(memory.free)} are free, and {counted(len(reserved), 'other run')} reserved "
        f"{readable_size(sum(reserved))}"
    )


def _log(job: Job, slot: Slot, text: str) -> None:
    """Add a line to the run's log."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        job.folder.path.mkdir(parents=True, exist_ok=True)
        with open_log(job.folder.log) as log:
            log.write(f"--- {now} on {slot.label}: {text}\n".encode())
