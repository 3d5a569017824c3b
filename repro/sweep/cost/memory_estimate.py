"""An upper estimate of the GPU memory of a run, from what a small batch keeps for its backward pass.

It is made on the CPU, in a process of its own: its caller never imports torch, and no GPU is touched, because a
measurement beside other runs would crash them just as a run would.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import UserError
from repro.experiment.schema import Cell, Run
from repro.machine import python_command
from repro.plugin_files import load_plugins
from repro.sweep.cost.estimate import BYTES_PER_NUMBER, NUMBERS_PER_PARAMETER, cost_key
from repro.sweep.devices.packing import CONTEXT_BYTES

if TYPE_CHECKING:
    import torch

_SECONDS = 300.0
_IMAGES = 2  # batch norm needs more than one
# The memory of a batch, relative to the activations that it keeps: the backward pass makes more beside them; and a CUDA
# graph keeps all of its own.
_EAGER, _GRAPHED = 1.5, 2.0

_known: dict[str, int] = {}


def estimated_bytes(cell: Cell, plugins: Sequence[str]) -> int:
    """The most bytes that a run of ``cell`` takes, estimated by a process that loads the files of ``plugins``.

    Raises UserError if it fails.
    """
    key = cost_key(cell)
    if key not in _known:
        request = Run(cell=cell, seed=0).model_dump_json()
        command = [*python_command("repro.sweep.cost.memory_estimate"), *plugins]
        try:
            done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=_SECONDS, check=True)
            _known[key] = int(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            raise UserError(f"{cell.id}: its GPU memory could not be estimated") from error
    return _known[key]


def estimate(run: Run) -> int:
    """The estimate for ``run``, from a forward pass of a small batch."""
    import torch

    from repro.engine.learner import fresh_state
    from repro.losses import per_sample

    cell = run.cell
    state = fresh_state(run, torch.device("cpu"), torch.contiguous_format)
    size = cell.dataset.side_pixels
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
        losses, _weights = per_sample(state.loss, logits=logits, features=features, targets=targets)
        loss = losses.mean()
    assert loss.requires_grad  # the saved tensors are alive up to here, so no address was used twice
    for parameter in parameters:
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    facts = cell.dataset.known_facts
    activations = sum(kept.values()) * cell.recipe.batch_size / _IMAGES
    activations *= _GRAPHED if cell.execution.cuda_graph else _EAGER
    numbers = 2 + NUMBERS_PER_PARAMETER[cell.recipe.optimizer]  # of a parameter: weight, gradient, optimizer's state
    weights = sum(parameter.numel() for parameter in parameters) * numbers * BYTES_PER_NUMBER
    images_of_data_set = facts.decoded_bytes * cell.dataset.num_classes / facts.num_classes
    return round(activations + weights + images_of_data_set) + CONTEXT_BYTES


if __name__ == "__main__":
    load_plugins(map(Path, sys.argv[1:]))
    print(estimate(Run.model_validate_json(sys.stdin.read())))
