"""How a run at SLURM ended whose task left no results: by the run's record, or by what SLURM remembers of the task."""

from __future__ import annotations

from repro.progress import Progress
from repro.sweep.executor import Ended, Job
from repro.sweep.slurm.queue import EndedTask
from repro.sweep.survey import WITH_ACCURACY, Stage, state_of

# States of a task that ended through no fault of its own.
_DISPLACED = ("NODE_FAIL", "PREEMPTED", "TIMEOUT", "BOOT_FAIL", "DEADLINE", "REVOKED", "COMPLETED")
# The signal that SLURM reports for a job whose log its node could not open.
_NO_LOG = 53


def lost(job: Job, task: str, ended: EndedTask | None, last_words: str, *, stopping: bool) -> Ended:
    """The end of a job whose task left the queue without results."""
    where = f"SLURM's job {task}"
    if stopping:
        return Ended(job, 0, fate="interrupted", cause=f"{where} was cancelled")
    if ended is None or ended.state in _DISPLACED:
        why = "SLURM no longer knows why" if ended is None else ended.state
        return Ended(job, 0, cause=f"{where} is gone ({why})", displaced=True)
    if ended.state == "CANCELLED":
        return Ended(job, 0, fate="failed", cause=f"{where} was cancelled; it can resume from its checkpoint")
    if ended.state == "OUT_OF_MEMORY":
        return Ended(job, 0, fate="failed", cause=f"{where} ran out of memory: give it more with --memory-per-job")
    if ended.signal == _NO_LOG:
        cause = f"{where} could not open its log under {job.folder.results} on {ended.node or 'its node'}"
        hint = "give a --results folder that all nodes share, under the same path, and may write to"
        return Ended(job, 1, fate="failed", cause=f"{cause}: {hint}")
    words = f"{where}: {ended.state}\n{last_words}".strip()
    return Ended(job, -ended.signal if ended.signal else ended.exit_code or 1, last_words=words)


def recorded(job: Job) -> Ended | None:
    """The end of a job that has a record, no matter which process made it."""
    if not job.folder.record.exists():
        return None
    state = state_of(job.folder, job.run)
    if state.stage in WITH_ACCURACY and state.record is not None:
        last = Progress(job.id, "completed", test_top1_percent=state.record.last_top1_percent)
        return Ended(job, 0, last, fate="completed")
    if state.stage is Stage.DIVERGED:
        return Ended(job, 1, fate="diverged", cause=state.detail)
    if state.stage is Stage.UNREADABLE:  # perhaps only now: the next look may see it
        return None
    return Ended(job, 1, fate="failed", cause=f"{job.folder.record}: {state.stage.value}: {state.detail}")
