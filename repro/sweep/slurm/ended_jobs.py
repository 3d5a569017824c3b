"""How a run at SLURM ended, where its task left no word of its own: by the run's record, or by what SLURM remembers."""

from __future__ import annotations

from repro.progress import Progress
from repro.sweep.executor import Ended, Event, Job, Reported, Started
from repro.sweep.slurm.queue import EndedTask
from repro.sweep.survey import Stage, look_at

# States of a task that is gone through no fault of its own.
_DISPLACED = ("NODE_FAIL", "PREEMPTED", "TIMEOUT", "BOOT_FAIL", "DEADLINE", "REVOKED", "COMPLETED")
# What SLURM says killed a job whose log its node could not open.
_NO_LOG = 53


def lost(job: Job, task: str, gone: EndedTask | None, last_words: str, *, stopping: bool) -> Ended:
    """The end of a job whose task left the queue without a word."""
    where = f"SLURM's job {task}"
    if stopping:
        return Ended(job, 0, fate="interrupted", cause=f"{where} was cancelled")
    if gone is None or gone.state in _DISPLACED:
        return Ended(job, 0, cause=f"{where} is gone ({gone.state if gone else 'SLURM forgot why'})", displaced=True)
    if gone.state == "CANCELLED":
        return Ended(job, 0, fate="failed", cause=f"{where} was cancelled; its state is committed")
    if gone.state == "OUT_OF_MEMORY":
        return Ended(job, 0, fate="failed", cause=f"{where} ran out of memory: give it more with --memory-per-job")
    if gone.signal == _NO_LOG:
        cause = f"{where} could not open its log under {job.folder.results} on {gone.node or 'its node'}"
        hint = "give a --results folder that all nodes share, under the same path, and may write to"
        return Ended(job, 1, fate="failed", cause=f"{cause}: {hint}")
    words = f"{where}: {gone.state}\n{last_words}".strip()
    return Ended(job, -gone.signal if gone.signal else gone.exit_code or 1, last_words=words)


def recorded(job: Job) -> Ended | None:
    """The end of a job whose record is there, whoever made it."""
    if not job.folder.record.exists():
        return None
    state = look_at(job.folder, job.run)
    if state.stage is Stage.COMPLETED and state.record is not None:
        last = Progress(job.id, "completed", test_top1_percent=state.record.last_top1_percent)
        return Ended(job, 0, last, fate="completed")
    if state.stage is Stage.DIVERGED:
        return Ended(job, 1, fate="diverged", cause=state.detail)
    return Ended(job, 1, fate="failed", cause=f"{job.folder.record}: {state.stage.value}: {state.detail}")


def unsaid(ended: Ended, last: Progress | None, *, started: bool) -> list[Event]:
    """What the run was not seen to say before it was over, so that its end shows what it came to."""
    if ended.last is None or ended.last == last:
        return []
    return [*([] if started else [Started(ended.job, "a node")]), Reported(ended.job, ended.last)]
