"""Room on GPUs that runs share: on a node, a run begins beside others only where the GPU's memory holds it too.

Ray counts fractions of a GPU and SLURM whole ones; neither limits memory, and a run that takes too much ends its
neighbours. So every run that begins leaves a promise: a file that says how many bytes it takes at most, in a folder
of the GPU under this machine's temporary folder, under a lock. A promise holds as long as the run's process lives. A
run that finds no room waits: its reservation with the engine stays, its neighbours end sooner or later.

Where no promise can be kept (a temporary folder that cannot be written) runs begin as the engine placed them.
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
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from repro.errors import UserError
from repro.experiment.schema import Cell
from repro.machine import GpuMemory, gpu_memory, readable_size
from repro.results.durable import replace_file
from repro.results.files import file_lock
from repro.results.process import is_alive, process_start, this_place
from repro.sweep.cost.gpu_sharing import memory_by_torch
from repro.sweep.cost.memory_estimate import estimated_bytes
from repro.sweep.devices.packing import has_room_for
from repro.sweep.devices.slots import VISIBLE, Slot
from repro.sweep.executor import Job

LOOK_SECONDS = 5.0  # between two looks at a GPU on which a run found no room


def slot_memory(slot: Slot) -> GpuMemory | None:
    """The memory of the GPU of ``slot``, as the driver tells, or else torch; None where neither does."""
    if (memory := gpu_memory(slot.environment[VISIBLE])) is not None:
        return memory
    try:
        return memory_by_torch(slot)
    except UserError:
        return None


@dataclass(frozen=True)
class _Promise:
    path: Path
    taken: int


class GpuMemoryReservations:
    """The room on this machine's GPUs, for one executor; ``memory`` says what one has, ``needed`` what a run takes."""

    def __init__(
        self,
        memory: Callable[[Slot], GpuMemory | None] = slot_memory,
        needed: Callable[[Cell], int] = estimated_bytes,
        folder: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._needed = needed
        self._folder = folder or Path(tempfile.gettempdir()) / f"biasrepro-{os.getuid()}"
        self._clock = clock
        self._promises: dict[str, _Promise] = {}
        self._next_look: dict[str, float] = {}
        self._needs: dict[str, int | None] = {}

    def admits(self, job: Job, slot: Slot) -> bool:
        """Whether the GPU of ``slot`` holds ``job`` beside those that are on it; if so, its bytes are promised to it.

        A job that is to be alone has no neighbours, before and after it begins; so has one that nothing is known of.
        """
        if slot.device != "cuda":
            return True
        if self._clock() < self._next_look.get(job.id, 0.0):
            return False
        if job.id not in self._needs:
            self._needs[job.id] = None if job.alone else self._bytes_of(job)
        needed = self._needs[job.id]
        if (memory := self._memory(slot)) is None:
            return True
        with contextlib.suppress(OSError), self._promised(memory.uuid) as (folder, promised):
            if not has_room_for(needed, memory, promised):
                if job.id not in self._next_look:
                    _note_wait(job, slot, needed, memory, promised)
                self._next_look[job.id] = self._clock() + LOOK_SECONDS
                return False
            promise = _Promise(folder / f"{os.getpid()}-{abs(hash(job.id))}.json", needed or memory.total)
            _write(promise, os.getpid())
            self._promises[job.id] = promise
        return True

    def began(self, job: Job, pid: int) -> None:
        """The promise is the process's from now on, whatever becomes of this one."""
        if (promise := self._promises.get(job.id)) is not None:
            with contextlib.suppress(OSError):
                _write(promise, pid)

    def left(self, job: Job) -> None:
        """The job ended; its room is others'."""
        self._next_look.pop(job.id, None)
        self._needs.pop(job.id, None)
        if (promise := self._promises.pop(job.id, None)) is not None:
            promise.path.unlink(missing_ok=True)

    def _bytes_of(self, job: Job) -> int | None:
        try:
            return self._needed(job.run.cell)
        except UserError:
            return None

    @contextmanager
    def _promised(self, uuid: str) -> Iterator[tuple[Path, list[int]]]:
        """The folder of a GPU's promises, and what they come to; nobody else changes them meanwhile. Raises OSError."""
        folder = self._folder / re.sub(r"[^A-Za-z0-9-]", "-", uuid)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with file_lock(folder / "lock", 0o600):
            yield folder, [taken for path in folder.glob("*.json") if (taken := _read(path)) is not None]


def _write(promise: _Promise, pid: int) -> None:
    fields = {"bytes": promise.taken, "pid": pid, "start": process_start(pid), "place": this_place()}
    replace_file(promise.path, json.dumps(fields).encode())


def _read(path: Path) -> int | None:
    """The bytes of a promise, None for one whose process is gone (then its file goes too) or is not to be seen here."""
    try:
        fields = json.loads(path.read_bytes())
        # In another container's processes nothing can be looked up; what they took is missing from what is free.
        if fields["place"] != this_place():
            return None
        if is_alive(int(fields["pid"]), fields["start"]) is False:
            path.unlink(missing_ok=True)
            return None
        return int(fields["bytes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_wait(job: Job, slot: Slot, needed: int | None, memory: GpuMemory, promised: list[int]) -> None:
    """Say in the run's log why nothing happens."""
    wants = "the GPU to itself" if needed is None else f"up to {readable_size(needed)}"
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(OSError):
        job.folder.path.mkdir(parents=True, exist_ok=True)
        with job.folder.log.open("a", encoding="utf-8") as log:
            log.write(
                f"--- {now} on {slot.label}: it waits, for it takes {wants}: of {readable_size(memory.total)}, "
                f"{readable_size(memory.free)} are free and {len(promised)} others were promised "
                f"{readable_size(sum(promised))}\n"
            )
