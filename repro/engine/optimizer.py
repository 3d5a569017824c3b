"""The optimizer of a recipe, with its whole state from the start: all steps are alike, and a graph can hold them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from repro.experiment.schema import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe, device: torch.device) -> torch.optim.Optimizer:
    """SGD or AdamW of ``recipe``, in one kernel for all parameters; weight decay is on every parameter.

    Its state is zero from the start; torch's first step gives the same. On CUDA the learning rate is a float32 tensor,
    which a graph reads at every replay; only the fused kernels use it without a copy to the host.
    """
    on_cuda = device.type == "cuda"
    rate = torch.tensor(recipe.learning_rate, device=device) if on_cuda else recipe.learning_rate
    parameters = list(model.parameters())
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "adamw":
        optimizer = torch.optim.AdamW(
            parameters,
            lr=rate,
            betas=(recipe.betas[0], recipe.betas[1]),
            eps=recipe.epsilon,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=on_cuda,
        )
        for parameter in parameters:
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return optimizer
    optimizer = torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
        fused=True,
    )
    if recipe.momentum:
        # SGD's first step is 0 x momentum + gradient.
        for parameter in parameters:
            optimizer.state[parameter] = {"momentum_buffer": torch.zeros_like(parameter)}
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step without waiting, in the tensor that a captured graph reads."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def states_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Tensor]]:
    """What the optimizer keeps for each parameter, in their order, by torch's names: {} for SGD without momentum."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    return [optimizer.state[parameter] for parameter in parameters]
