"""How much of a GPU's memory a run takes at most: an estimate, from what a small batch keeps for its backward pass.

It is made on a CPU, in a process of its own, so that whoever asks never imports torch and no GPU is touched: what is
measured beside other runs would crash them just as a run would.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.experiment.catalog import dataset_facts
from repro.experiment.schema import Cell, Run
from repro.sweep.cost.estimate import cost_key
from repro.sweep.devices.packing import CONTEXT_BYTES

if TYPE_CHECKING:
    import torch

_SECONDS = 300.0
_IMAGES = 2  # batch norm needs more than one
_STATE_BYTES = 12  # of a parameter: weight, gradient, momentum
# Of the activations that a batch keeps: themselves and what the backward pass makes beside them; once more for the
# steps that come before a CUDA graph is captured, whose memory the allocator keeps.
_EAGER, _GRAPHED = 1.5, 3.0

_known: dict[str, int] = {}


def estimated_bytes(cell: Cell) -> int:
    """Bytes that a run of ``cell`` takes at most, asked of a process. Raises UserError where that cannot say."""
    key = cost_key(cell)
    if key not in _known:
        request = Run(cell=cell, seed=0).model_dump_json()
        command = [sys.executable, "-m", "repro.sweep.cost.memory_estimate"]
        try:
            done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=_SECONDS, check=True)
            _known[key] = int(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise UserError(f"{cell.id}: what it takes of a GPU could not be estimated") from error
    return _known[key]


def upper_bound(*, activations: float, parameters: int, resident: float, graphed: bool) -> int:
    """The estimate from the bytes that a batch keeps, the number of parameters, and the bytes of the data set."""
    held = activations * (_GRAPHED if graphed else _EAGER)
    return round(held + parameters * _STATE_BYTES + resident) + CONTEXT_BYTES


def estimate(run: Run) -> int:
    """``upper_bound`` of ``run``, from a forward pass of a small batch."""
    import torch

    from repro.engine.learner import fresh_state
    from repro.losses import losses_and_weights

    cell = run.cell
    state = fresh_state(run, torch.device("cpu"), torch.contiguous_format)
    size = cell.dataset.image_size
    images = torch.rand((_IMAGES, 3, size, size))
    targets = torch.zeros(_IMAGES, dtype=torch.int64)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    parameters = list(state.model.parameters())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits, features = state.model(images)
        returned = state.loss(logits=logits, features=features, targets=targets)
        loss = losses_and_weights(returned)[0].mean()
    assert loss.requires_grad  # what it keeps is alive up to here, so no address was used twice
    for parameter in parameters:
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    facts = dataset_facts(cell.dataset.name)
    return upper_bound(
        activations=sum(kept.values()) * cell.recipe.batch_size / _IMAGES,
        parameters=sum(parameter.numel() for parameter in parameters),
        resident=facts.decoded_bytes * cell.dataset.num_classes / facts.num_classes,
        graphed=cell.execution.cuda_graph,
    )


if __name__ == "__main__":
    print(estimate(Run.model_validate_json(sys.stdin.read())))
