"""The ways to train that are compared. Each adds one thing to the one before it, so that the gain of each is seen:

    plain      the loop of most published code: torchvision's transforms on PIL images in worker processes, batches
               copied to the device, contiguous, the loss read at every step
    resident   images on the device as uint8 and not augmented, the loss not read: what is left is the network
    augment    our engine, eager, contiguous: batches augmented on the device
    memory     (CPU) and the memory that a step frees kept for the next
    graph      (CUDA) and the whole step replayed as one CUDA graph
    format     and the memory format and precision of choice
    compile    and the network compiled by torch.compile

One stands beside them, for what a declared mode costs against ``format``:

    deterministic   ``format`` with deterministic algorithms, which on CUDA keeps maps contiguous

This module knows names and settings; ``repro.bench.loops`` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from repro.errors import UserError, nearest
from repro.experiment.schema import Run

ARMS = ("plain", "resident", "augment", "memory", "graph", "format", "compile", "deterministic")
# What has to be asked for: the one takes a minute to compile, the other is no step on the way.
_ONLY_ASKED_FOR = ("compile", "deterministic")
_ONLY_ON = {"memory": "cpu", "graph": "cuda"}


@dataclass(frozen=True)
class Setting:
    """One arm for one network: the run it takes its steps from, and how it is set up.

    ``images`` is the size of an epoch here, ``workers`` the plain loop's processes.
    """

    arm: str
    run: Run
    device: str
    threads: int
    workers: int
    images: int

    def to_json(self) -> dict[str, Any]:
        """As plain data, for another process."""
        return {**self.__dict__, "run": self.run.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Setting:
        """The setting that ``to_json`` made."""
        return cls(**{**data, "run": Run.model_validate(data["run"])})


def choose_arms(names: str | None, device: str) -> tuple[str, ...]:
    """The arms in the order above, from a list such as ``plain,format``; None takes the steps that need no compilation.

    Raises UserError for a name that is none, and for a list without anything to compare.
    """
    possible = [arm for arm in ARMS if _ONLY_ON.get(arm, device) == device]
    if names is None:
        return tuple(arm for arm in possible if arm not in _ONLY_ASKED_FOR)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in ARMS:
            raise UserError(f"no arm is called '{name}'", hint=nearest(name, ARMS))
        if name not in possible:
            raise UserError(f"the arm '{name}' is one of {_ONLY_ON[name]}, not of {device}")
    chosen = tuple(arm for arm in possible if arm in wanted)
    if len(chosen) < 2:
        raise UserError("--arms names fewer than two arms", hint="The first is what the others are compared with.")
    return chosen


def with_execution(run: Run, arm: str, precision: str) -> Run:
    """``run`` as ``arm`` executes it: everything off that a later arm adds.

    The arms before ``format`` have the arithmetic of the plain loop: fp32, or beside tf32 and bf16 what torch does
    unless it is told otherwise, which is TF32 convolutions.
    """
    place = ARMS.index(arm)
    usual = "fp32" if precision == "fp32" else "tf32"
    chosen = {
        "precision": precision if has_precision(arm) else usual,
        "memory_format": "auto" if place >= ARMS.index("format") else "contiguous",
        "cuda_graph": place >= ARMS.index("graph"),
        "compile": arm == "compile",
        "deterministic": arm == "deterministic",
    }
    execution = run.cell.execution.model_copy(update=chosen)
    return run.model_copy(update={"cell": run.cell.model_copy(update={"execution": execution})})


def has_precision(arm: str) -> bool:
    """Whether the arm has the precision that is asked for, and not the plain loop's."""
    return ARMS.index(arm) >= ARMS.index("format")


def keeps_memory(arm: str) -> bool:
    """Whether the arm keeps freed memory, where that is ours to decide (on a CPU)."""
    return ARMS.index(arm) >= ARMS.index("memory")
