"""A task of a SLURM array on its node: some runs of the sweep, and what to do about them when the time is up.

SLURM signals ahead of the walltime; the runs commit then, and the task puts itself back into the queue, as often as it
takes, unless its time was too short to get anywhere. A task that gives way to a higher one is requeued by SLURM, and
one that somebody cancelled stays so: what a task requeues is what SLURM still believes to be running.

The task's last word is a file of JSON beside submitit's, ``ends-<index>.json``; nobody reads submitit's pickles but
submitit, on the node.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.progress import Progress
from repro.results import RunFolder, write_failure
from repro.results.durable import write_durably
from repro.sweep.cluster_node import NodeSettings, NotShared, RemoteJob, RemoteResult, run_on_node
from repro.sweep.registry import Registration
from repro.sweep.slurm.queue import SlurmError, is_running, requeue

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

INTERRUPTED = 143  # the exit code of a task that goes on in another life, or would
_TRIES, _TRY_SECONDS = 5, 5.0  # to reach the controller


@dataclass(frozen=True)
class ArrayTask:
    """The runs of one task of the batch in ``folder``. Plain data, and what submitit calls on the node."""

    folder: str
    index: int
    jobs: tuple[RemoteJob, ...]
    settings: NodeSettings

    def __call__(self) -> None:
        """Train the runs; returns once nothing is left to do for this task, else ends the process."""
        results = Path(self.settings.results)
        folders = {job.id: RunFolder(results / job.id) for job in self.jobs}
        before = _standing(folders.values())
        try:
            ends = run_on_node(self.jobs, self.settings)
        except UserError as error:
            ends = self._refused(error, folders.values())
        if any(end.fate == "interrupted" for end in ends) and not _was_stopped(results, self.settings.sweep):
            if _standing(folders.values()) != before or not _is_still_running():
                _go_on_in_another_life()
            ends = [_too_short(end, folders[end.id]) if end.fate == "interrupted" else end for end in ends]
        write_durably(ends_file(Path(self.folder), self.index), to_bytes(ends))
        _end_where_nobody_conducts(Path(self.folder), Registration.read(results, self.settings.sweep))

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues at a signal that comes before or after the training: the same again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _refused(self, error: UserError, folders: Iterable[RunFolder]) -> list[RemoteResult]:
        """The ends where this node cannot train at all; noted in the runs' folders where these are the right ones."""
        if not isinstance(error, NotShared):
            for folder in folders:
                _note_failure(folder, str(error))
        return [RemoteResult(job.id, "failed", str(error), socket.gethostname(), 1, 1) for job in self.jobs]


def _end_where_nobody_conducts(folder: Path, registration: Registration | None) -> None:
    """End a sweep that was left to SLURM once this was the last of its tasks to say its last word."""
    if registration is None or not registration.detached:
        return
    for path in folder.parent.glob("*/plan.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            plan = json.loads(path.read_bytes())
            there = (ends_file(path.parent, index).exists() for index in range(len(plan["tasks"])))
            if plan["sweep"] == registration.id and not all(there):
                return
    registration.remove()


def ends_file(folder: Path, index: int) -> Path:
    """Where the task with this index leaves its last word."""
    return folder / f"ends-{index}.json"


def to_bytes(ends: Sequence[RemoteResult]) -> bytes:
    """The ends as JSON."""
    return json.dumps([asdict(end) for end in ends]).encode() + b"\n"


def read_ends(path: Path) -> dict[str, RemoteResult] | None:
    """The ends in the file at ``path`` by run, None where it is not there or not to be read."""
    try:
        read = [RemoteResult(**fields) for fields in json.loads(path.read_bytes())]
        return {end.id: replace(end, last=_progress(end.last)) for end in read}
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _progress(fields: object) -> Progress | None:
    return Progress(**fields) if isinstance(fields, dict) else None


def _standing(folders: Iterable[RunFolder]) -> list[tuple[int, ...]]:
    """How far the runs have come, so that two looks can be compared: when their files were last committed."""
    return [tuple(_modified(path) for path in (folder.record, folder.checkpoint)) for folder in folders]


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _was_stopped(results: Path, sweep: str) -> bool:
    """Whether the sweep was asked to stop, or is over."""
    registration = Registration.read(results, sweep)
    return registration is None or registration.stop is not None


def _this_task() -> str:
    """What names this task and no other: one task of each array has the whole array's number for its job."""
    if (array := os.environ.get("SLURM_ARRAY_JOB_ID")) is not None:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _is_still_running() -> bool:
    """Whether SLURM has decided nothing about this task; where it does not answer, it may have."""
    for _ in range(_TRIES):
        if (running := is_running(_this_task())) is not None:
            return running
        time.sleep(_TRY_SECONDS)
    return False


def _go_on_in_another_life() -> None:
    """Requeue this task where SLURM has not done so, and end; what cannot be requeued, the sweep submits again."""
    for _ in range(_TRIES if _is_still_running() else 0):
        try:
            requeue(_this_task())
            break
        except SlurmError:
            time.sleep(_TRY_SECONDS)
    sys.exit(INTERRUPTED)


def _too_short(end: RemoteResult, folder: RunFolder) -> RemoteResult:
    """The failure of a run that was interrupted before it came any further than it was."""
    cause = "the job's time was up before anything could be committed: give it a longer --time"
    _note_failure(folder, cause)
    return replace(end, fate="failed", cause=cause, attempts=max(1, end.attempts), returncode=1)


def _note_failure(folder: RunFolder, cause: str) -> None:
    with contextlib.suppress(OSError):  # it only informs: the task's last word is what counts, and may find room
        write_failure(folder, cause)
