"""A network in numbers, without computing anything: parameters, operations, feature shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.models import build_model


@dataclass(frozen=True)
class ModelDescription:
    """A network as built for a data set.

    ``parameters`` counts trainable numbers; ``gmacs_per_image`` is in 1e9 multiply-accumulates of a forward pass, in
    convolutions and linear layers; ``feature_shape`` is (C, H, W), or (L, D) of tokens, and ``feature_module`` the name
    of the module that returns the features, where it has been looked for.
    """

    num_classes: int
    image_size: int
    parameters: int
    gmacs_per_image: float
    feature_shape: tuple[int, ...]
    feature_module: str | None = None


def describe_model(name: str, num_classes: int, image_size: int = 32, **options: object) -> ModelDescription:
    """Describe what ``build_model`` builds from these arguments; raises the same errors.

    It runs on torch's meta device: no memory for weights, no arithmetic, no random number drawn.
    """
    with torch.device("meta"):
        model = build_model(name, num_classes, image_size, **options).eval()
        image = torch.empty(1, 3, image_size, image_size)
    multiply_accumulates: list[int] = []

    def count(layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # Each output number is a dot product with one filter of the weight.
            multiply_accumulates.append(output.numel() * layer.weight[0].numel())

    for layer in model.modules():
        layer.register_forward_hook(count)
    with torch.no_grad():
        _logits, features = model(image)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return ModelDescription(
        num_classes,
        image_size,
        parameters,
        sum(multiply_accumulates) / 1e9,
        tuple(features.shape[1:]),
        getattr(model, "feature_module", None),
    )
