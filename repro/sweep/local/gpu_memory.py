"""GPU memory on a node: a run starts beside others on a GPU only if the memory holds it too.

Ray counts fractions of a GPU and SLURM whole ones. Neither limits memory, and a run that takes too much crashes its
neighbours. So each run writes a reservation: a file with the most bytes that it takes, in a folder per GPU under this
machine's temporary folder, under a lock. A reservation holds as long as the run's process lives. A run that does not
fit waits on its slot until its neighbours end.

Where no reservation can be written, runs start without one.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from repro.errors import UserError
from repro.experiment.schema import Cell
from repro.machine import GpuMemory, gpu_memory
from repro.results.durable import replace_file
from repro.results.files import file_lock
from repro.results.process import is_alive, process_start, this_place
from repro.sweep.cost.gpu_sharing import memory_by_torch
from repro.sweep.cost.memory_estimate import estimated_bytes
from repro.sweep.devices.packing import has_room_for
from repro.sweep.devices.slots import VISIBLE, Slot
from repro.sweep.executor import Job
from repro.wording import counted, readable_size

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

    ``memory`` returns what a GPU has, and ``needed`` what a run takes.
    """

    def __init__(
        self,
        memory: Callable[[Slot], GpuMemory | None] = slot_memory,
        needed: Callable[[Cell], int] = estimated_bytes,
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
        with contextlib.suppress(OSError), self._locked(memory.uuid) as folder:
            reserved = [taken for path in folder.glob("*.json") if (taken := _read(path)) is not None]
            if not has_room_for(needed, memory, reserved):
                if job.id not in self._next_try:
                    _log_wait(job, slot, needed, memory, reserved)
                self._next_try[job.id] = self._clock() + RETRY_SECONDS
                return False
            path, taken = folder / f"{os.getpid()}-{abs(hash(job.id))}.json", needed or memory.total
            _write(path, taken, os.getpid())
            self._reserved[job.id] = path, taken
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
            self._reserved.pop(job.id)[0].unlink(missing_ok=True)

    def _needed_by(self, job: Job) -> int | None:
        """The bytes of ``job``, estimated once; None if it must be alone, or its size is unknown."""
        if job.id not in self._needed:
            self._needed[job.id] = None
            if not job.alone:
                with contextlib.suppress(UserError):
                    self._needed[job.id] = self._estimate(job.run.cell)
        return self._needed[job.id]

    @contextmanager
    def _locked(self, uuid: str) -> Iterator[Path]:
        """The folder of a GPU's reservations, locked. Raises OSError."""
        folder = self._folder / re.sub(r"[^A-Za-z0-9-]", "-", uuid)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file_lock(folder / "lock", 0o600):
            yield folder


def _write(path: Path, taken: int, pid: int) -> None:
    fields = {"bytes": taken, "pid": pid, "start": process_start(pid), "place": this_place()}
    replace_file(path, json.dumps(fields).encode())


def _read(path: Path) -> int | None:
    """The bytes of a reservation. None if its process has ended (then it is deleted) or is not visible here."""
    try:
        fields = json.loads(path.read_bytes())
        # Processes of another container cannot be looked up; what they took is missing from the free memory.
        if fields["place"] != this_place():
            return None
        if is_alive(int(fields["pid"]), fields["start"]) is False:
            path.unlink(missing_ok=True)
            return None
        return int(fields["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _log_wait(job: Job, slot: Slot, needed: int | None, memory: GpuMemory, reserved: list[int]) -> None:
    """Say in the run's log why it does not start."""
    wants = "the GPU to itself" if needed is None else f"up to {readable_size(needed)}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        job.folder.path.mkdir(parents=True, exist_ok=True)
        with job.folder.log.open("a", encoding="utf-8") as log:
            log.write(
                f"--- {now} on {slot.label}: waiting for GPU memory: this run needs {wants}; of "
                f"{readable_size(memory.total)}, {readable_size(memory.free)} are free, and "
                f"{counted(len(reserved), 'other run')} reserved {readable_size(sum(reserved))}\n"
            )
