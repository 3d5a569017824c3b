"""A task of a SLURM array on its node: some runs of the sweep, and what to do when the walltime is over.

SLURM signals ahead of the walltime. The runs then save a checkpoint, and the task requeues itself, as often as
necessary, unless its time was too short for any progress. SLURM itself requeues a pre-empted task,
and a cancelled task stays cancelled: a task requeues only what SLURM still believes to be running.

The results of a task are a JSON file beside submitit's files, ``ends-<index>.json``; only submitit, on the node, reads
submitit's pickles.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from submitit.helpers import DelayedSubmission
from submitit.slurm.slurm import SlurmJobEnvironment

from repro.errors import UserError
from repro.progress import Progress
from repro.results import RunFolder, write_failure
from repro.results.durable import write_durably
from repro.results.files import file_version, read_file
from repro.sweep.cluster_node import NodeSettings, NotShared, RemoteJob, RemoteResult, run_on_node
from repro.sweep.registry import Registration
from repro.sweep.slurm.queue import SlurmError, is_running, requeue

INTERRUPTED = 143  # the exit code of a task that was requeued, or should have been
_TRIES, _TRY_SECONDS = 5, 5.0  # to reach the controller


@dataclass(frozen=True)
class ArrayTask:
    """The runs of one task of the batch in ``folder``. Plain data, which submitit calls on the node."""

    folder: str
    index: int
    jobs: tuple[RemoteJob, ...]
    settings: NodeSettings

    def __call__(self) -> None:
        """Train the runs. Returns once nothing is left for this task to do; otherwise requeues it and exits."""
        results = Path(self.settings.results)
        folders = {job.id: RunFolder(results / job.id) for job in self.jobs}
        before = _saved(folders.values())
        try:
            ends = run_on_node(self.jobs, self.settings)
        except UserError as error:
            ends = self._refused(error, folders.values())
        if any(end.fate == "interrupted" for end in ends) and not _was_stopped(results, self.settings.sweep):
            if _saved(folders.values()) != before or not _is_still_running():
                _requeue_and_exit()
            ends = [_too_short(end, folders[end.id]) if end.fate == "interrupted" else end for end in ends]
        write_durably(ends_file(Path(self.folder), self.index), to_bytes(ends))
        _end_detached_sweep(Path(self.folder), Registration.read(results, self.settings.sweep))

    def checkpoint(self) -> DelayedSubmission:
        """What submitit requeues at a signal that comes before or after the training: the same task."""
        return DelayedSubmission(self)

    def _refused(self, error: UserError, folders: Iterable[RunFolder]) -> list[RemoteResult]:
        """The results of a node that cannot train; also noted in the runs' folders, if these are the right ones."""
        if not isinstance(error, NotShared):
            for folder in folders:
                _note_failure(folder, str(error))
        return [RemoteResult(job.id, "failed", str(error), socket.gethostname(), 1, 1) for job in self.jobs]


def _end_detached_sweep(folder: Path, registration: Registration | None) -> None:
    """End a detached sweep if this was the last of its tasks to write its results."""
    if registration is None or not registration.detached:
        return
    for path in folder.parent.glob("*/plan.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            plan = json.loads(read_file(path))
            ended = (ends_file(path.parent, index).exists() for index in range(len(plan["tasks"])))
            if plan["sweep"] == registration.id and not all(ended):
                return
    registration.remove()


def ends_file(folder: Path, index: int) -> Path:
    """The file with the results of the task with this index."""
    return folder / f"ends-{index}.json"


def to_bytes(ends: Sequence[RemoteResult]) -> bytes:
    """The results as JSON."""
    return json.dumps([asdict(end) for end in ends]).encode() + b"\n"


def read_ends(path: Path) -> dict[str, RemoteResult] | None:
    """The results in the file at ``path`` by run, None if it is missing or unreadable."""
    ends = {}
    try:
        for fields in json.loads(read_file(path)):
            last = fields["last"]
            end = RemoteResult(**{**fields, "last": None if last is None else Progress(**last)})
            ends[end.id] = end
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return ends


def _saved(folders: Iterable[RunFolder]) -> list[tuple[int, int] | None]:
    """The versions of the runs' records and checkpoints, to see whether the runs made progress."""
    return [file_version(path) for folder in folders for path in (folder.record, folder.checkpoint)]


def _was_stopped(results: Path, sweep: str) -> bool:
    """Whether the sweep was asked to stop, or is over."""
    registration = Registration.read(results, sweep)
    return registration is None or registration.stop is not None


def _this_task() -> str:
    """What scancel takes, ``12_3``: the job number alone may mean the whole array."""
    return str(SlurmJobEnvironment().job_id)


def _is_still_running() -> bool:
    """Whether SLURM still believes this task to be running; False if it does not answer."""
    for _ in range(_TRIES):
        if (running := is_running(_this_task())) is not None:
            return running
        time.sleep(_TRY_SECONDS)
    return False


def _requeue_and_exit() -> None:
    """Requeue this task unless SLURM did, and exit. Where that fails, the sweep submits its runs again."""
    for _ in range(_TRIES if _is_still_running() else 0):
        try:
            requeue(_this_task())
            break
        except SlurmError:
            time.sleep(_TRY_SECONDS)
    sys.exit(INTERRUPTED)


def _too_short(end: RemoteResult, folder: RunFolder) -> RemoteResult:
    """The failure of a run that was interrupted before it made any progress."""
    cause = "the walltime was over before a checkpoint was saved: give a longer --time"
    _note_failure(folder, cause)
    return replace(end, fate="failed", cause=cause, attempts=max(1, end.attempts), returncode=1)


def _note_failure(folder: RunFolder, cause: str) -> None:
    with contextlib.suppress(OSError):  # it only informs; the task's results file is what counts
        if not folder.record.exists():  # another process finished the run meanwhile
            write_failure(folder, cause)
