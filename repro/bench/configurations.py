"""The arms: the ways to train that are compared. Each adds one thing to the one before it, which shows its gain:

    plain      a standard PyTorch loop with torch's own defaults, whatever --precision says: torchvision's transforms on
               PIL images in worker processes, batches copied to the device, contiguous, the loss read at every step
    resident   images on the device as uint8 and not augmented, the loss not read: only the network is left
    augment    our engine, eager, contiguous: batches are augmented on the device
    memory     (CPU) and a step's freed memory is kept for the next step
    graph      (CUDA) and the whole step is replayed as one CUDA graph
    format     and the preferred memory format, and the chosen precision
    compile    and the network is compiled by torch.compile

The last one shows what determinism costs, compared with ``format``:

    deterministic   ``format`` with deterministic algorithms, which on CUDA keeps maps contiguous

This module has names and settings; ``repro.bench.loops`` runs them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from repro.errors import UserError, nearest
from repro.experiment.schema import Run

ARMS = ("plain", "resident", "augment", "memory", "graph", "format", "compile", "deterministic")
STANDARD_LOOP = ("plain", "resident")
# Only on request: one takes a minute to compile, the other adds nothing to the arm before it.
_ONLY_ASKED_FOR = ("compile", "deterministic")
_ONLY_ON = {"memory": "cpu", "graph": "cuda"}


@dataclass(frozen=True)
class Setting:
    """One arm for one network: ``run`` in epochs of ``images`` images; ``workers`` are the plain loop's processes.

    ``plugins`` are the files that its process loads. ``streams`` is how many runs our engine trains at once in the
    process, each on a CUDA stream of its own.
    """

    arm: str
    run: Run
    device: str
    threads: int
    workers: int
    images: int
    plugins: tuple[str, ...] = ()
    streams: int = 1

    def to_json(self) -> dict[str, Any]:
        """As plain data, for another process."""
        return {**self.__dict__, "run": self.run.model_dump(mode="json")}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Setting:
        """The setting that ``to_json`` made."""
        return cls(**{**data, "run": Run.model_validate(data["run"])})


def choose_arms(names: str | None, device: str) -> tuple[str, ...]:
    """The arms in a list such as ``plain,format``, in the order above; by default all but the last two.

    Raises UserError for an unknown name, and for fewer than two arms.
    """
    possible = [arm for arm in ARMS if _ONLY_ON.get(arm, device) == device]
    if names is None:
        return tuple(arm for arm in possible if arm not in _ONLY_ASKED_FOR)
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in ARMS:
            raise UserError(f"unknown arm '{name}'", hint=nearest(name, ARMS))
        if name not in possible:
            raise UserError(f"the arm '{name}' is only for {_ONLY_ON[name]}")
    chosen = tuple(arm for arm in possible if arm in wanted)
    if len(chosen) < 2:
        raise UserError("--arms names fewer than two arms", hint="The others are compared with the first.")
    return chosen


def with_execution(run: Run, arm: str, precision: str) -> Run:
    """``run`` as ``arm`` executes it, without what later arms add.

    The arms before ``format`` compute like the plain loop: in fp32, which is torch's default on the device.
    """
    place = ARMS.index(arm)
    chosen = {
        "precision": precision if has_precision(arm) else "fp32",
        "memory_format": "auto" if place >= ARMS.index("format") else "contiguous",
        "cuda_graph": place >= ARMS.index("graph"),
        "compile": arm == "compile",
        "deterministic": arm == "deterministic",
    }
    if arm in STANDARD_LOOP:  # the plain loop's network is built without it
        chosen["recompute"] = False
    execution = run.cell.execution.model_copy(update=chosen)
    return run.model_copy(update={"cell": run.cell.model_copy(update={"execution": execution})})


def has_precision(arm: str) -> bool:
    """Whether the arm uses the requested precision, not that of the plain loop."""
    return ARMS.index(arm) >= ARMS.index("format")


def keeps_memory(arm: str) -> bool:
    """Whether the arm keeps freed memory on a CPU."""
    return ARMS.index(arm) >= ARMS.index("memory")
