"""SLURM's queue, by SLURM's own commands; no daemon of ours, and no ``sacct``, which many clusters lack."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from repro.environment import settled
from repro.errors import UserError
from repro.sweep.executor import Notice
from repro.wording import counted, duration

PREFIX = "biasrepro-"  # of the names of our jobs; the batch's id follows
_COMMAND_SECONDS = 60.0
_FORMAT = "%F|%K|%T|%N|%r|%j"
_NO_CONFIGURATION = re.compile("configuration (source|file)")
_OWN_NAME = re.compile(r"^(sbatch|scancel|scontrol|squeue): ")
_NAME = re.compile(PREFIX + r"([0-9a-f]{12})")


class SlurmError(UserError):
    """A command of SLURM failed."""


@dataclass(frozen=True)
class Queued:
    """A task in the queue: ``id`` is what scancel takes (``12_3``), ``node`` where it runs, ``reason`` why it waits."""

    id: str
    state: str
    node: str
    reason: str = ""

    @property
    def is_held(self) -> bool:
        """Whether SLURM holds it because a node could not launch it: it never starts by itself."""
        return self.state == "PENDING" and "launch failed" in self.reason.replace("_", " ").lower()


@dataclass(frozen=True)
class EndedTask:
    """How a task ended that left the queue, on ``node``; ``signal`` is 0 if none killed it."""

    state: str
    exit_code: int
    signal: int
    node: str = ""


def run_command(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """The output of one of SLURM's commands. Raises SlurmError, with SLURM's message, if it fails or is missing."""
    chosen = settled(os.environ) if environment is None else environment
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_COMMAND_SECONDS,
            check=False,
            env=chosen,
        )
    except OSError as error:
        raise not_here(command[0], error) from error
    except subprocess.TimeoutExpired as error:
        raise refused(f"no answer in {duration(_COMMAND_SECONDS)}", *command) from error
    if done.returncode:
        raise refused(done.stderr.strip() or f"nothing, and ended with exit code {done.returncode}", *command)
    return done.stdout


def not_here(command: str, error: OSError) -> SlurmError:
    """The error for a command of SLURM that cannot be run."""
    return SlurmError(
        f"{command} cannot be run here: {error.strerror}",
        hint="Start the sweep where SLURM's commands are installed, on a login node of the cluster.",
    )


def refused(said: str, *command: str) -> SlurmError:
    """The error for a command of SLURM that failed with the message ``said``."""
    words, asked = _reason(said), shlex.join(command)
    if _NO_CONFIGURATION.search(words):
        variable = os.environ.get("SLURM_CONF")
        return SlurmError(
            f"SLURM's commands are installed here but find no cluster: `{asked}` said: {words}",
            hint=f"SLURM_CONF is {variable or 'not set'}. Start the sweep on a login node of the cluster, or set "
            "SLURM_CONF to the cluster's slurm.conf. Sweeps can be submitted wherever plain `squeue` answers.",
        )
    hint = "Nothing is lost: submitted jobs continue by themselves, and the same command follows them again."
    if command[0] == "sbatch":
        hint = "These runs were not submitted. `sinfo` shows the partitions, --dry-run what sbatch is given."
    return SlurmError(f"`{asked}` said: {words}", hint=hint)


def _reason(said: str) -> str:
    """The fatal line of SLURM's message if there is one, else all lines; each without the program's name."""
    lines = [_OWN_NAME.sub("", line.strip()) for line in said.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("fatal: ")]
    return "; ".join(line.removeprefix("fatal: ").removeprefix("error: ") for line in fatal[:1] or lines)


def queued_tasks() -> Mapping[tuple[str, int], Queued]:
    """Our tasks in the queue, by batch and index (0 for a job that is not an array). Raises SlurmError."""
    text = run_command("squeue", "--noheader", "--array", f"--user={os.getuid()}", f"--format={_FORMAT}")
    return parse_queue(text)


def parse_queue(text: str) -> Mapping[tuple[str, int], Queued]:
    """The tasks in the output of ``squeue`` in our format; other jobs of the user are skipped."""
    found = {}
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 6 and (match := _NAME.fullmatch(fields[5])):
            job, index, state, node, reason, _ = fields
            is_array = index.isdecimal()
            key = (match[1], int(index) if is_array else 0)
            found[key] = Queued(f"{job}_{index}" if is_array else job, state, node, reason)
    return found


def queue_note(runs: int, numbers: Iterable[str]) -> Notice:
    """The jobs in the queue, and how to see what they wait for."""
    jobs = ",".join(sorted(numbers, key=int))
    subject = counted(runs, "run is", "runs are")
    return Notice(f"{subject} in SLURM's queue, as job {jobs}; squeue --jobs {jobs} shows the reason for waiting")


def ended_task(task: str) -> EndedTask | None:
    """How the task ended; None once the controller has forgotten it, after some minutes."""
    try:
        return parse_ended_task(run_command("scontrol", "--oneliner", "show", "job", task))
    except SlurmError:
        return None


def parse_ended_task(text: str) -> EndedTask | None:
    """The end of one task in the output of ``scontrol show job``."""
    state = re.search(r"\bJobState=([A-Z_]+)", text)
    code = re.search(r"\bExitCode=(\d+):(\d+)", text)
    if state is None or code is None:
        return None
    node = re.search(r"\bNodeList=([^\s()]+)", text)
    return EndedTask(state[1], int(code[1]), int(code[2]), node[1] if node is not None else "")


def is_running(task: str) -> bool | None:
    """Whether SLURM believes the task to be running; None if it does not answer."""
    try:
        return run_command("squeue", "--noheader", f"--jobs={task}", "--format=%T").split() == ["RUNNING"]
    except SlurmError:
        return None


def requeue(task: str) -> None:
    """Put a running task back into the queue. Raises SlurmError."""
    run_command("scontrol", "requeue", task)


def cancel(tasks: Iterable[str], *, only_pending: bool = False) -> None:
    """Cancel tasks; those that have ended meanwhile are ignored. Raises SlurmError."""
    chosen = list(tasks)
    options = ["--quiet", *(["--state=PENDING"] if only_pending else [])]
    for start in range(0, len(chosen), 500):
        run_command("scancel", *options, *chosen[start : start + 500])


def largest_array() -> int:
    """The most tasks of an array here: MaxArraySize of slurm.conf, by default 1001, is one more."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", run_command("scontrol", "show", "config"), re.MULTILINE)
    return max(1, int(match[1]) - 1) if match else 1000


def cluster_name() -> str:
    """The name of the cluster whose queue is seen from here, empty if it does not answer."""
    try:
        found = re.search(r"^ClusterName\s*=\s*(\S+)", run_command("scontrol", "show", "config"), re.MULTILINE)
    except SlurmError:
        return ""
    return found[1] if found else ""
