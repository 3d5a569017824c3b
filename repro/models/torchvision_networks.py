"""Any classification network of torchvision, ``torchvision/NAME``, with its own layers and initialization.

The features are the output of one of its modules: the one that ``options.features`` names, or the one whose output the
network's last pooling takes. That module is found by a forward pass without arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from repro.errors import ConfigError, nearest
from repro.models.classifier import WithFeatures
from repro.wording import one_line

_OTHER_SIZE = "Choose another network, or another size of the images (image_size; `biasrepro models` has --image-size)."
# What the networks of torchvision pool their last feature map with.
_POOLING = {nn.functional.adaptive_avg_pool2d, torch.mean, Tensor.mean}


def torchvision_network(num_classes: int, *, name: str, image_size: int, features: str | None = None) -> WithFeatures:
    """Network ``name`` of torchvision for images of ``image_size`` pixels.

    Raises ConfigError if torchvision has no classification network of that name, if it does not take such images, and
    if ``features`` names no module of it with one tensor as its output, or is None and nothing is pooled.
    """
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise ConfigError(f"torchvision has no classification network '{name}'", hint=nearest(name, names))
    try:
        network = _build(name, num_classes, image_size)
        outputs, pooled = _outputs_of(network, image_size)
    except (RuntimeError, ValueError, AssertionError) as error:
        what = f"torchvision/{name} does not take images of {image_size}x{image_size} pixels"
        raise ConfigError(f"{what}: {one_line(str(error))}", hint=_OTHER_SIZE) from error
    return WithFeatures(network, _features_in(outputs, pooled, f"torchvision/{name}", features))


def _build(name: str, num_classes: int, image_size: int) -> nn.Module:
    """The network as torchvision builds it, without auxiliary heads, for images of ``image_size`` if that matters."""
    options: dict[str, Any] = {}
    wanted = device = torch.get_default_device()
    if name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": image_size}
    elif name.startswith("maxvit_"):
        options = {"input_size": (image_size, image_size)}
    elif name.startswith("regnet_"):
        device = torch.device("cpu")  # it computes its widths with tensors
    with device:
        network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)
    return network if device == wanted else network.to(wanted)


def _outputs_of(network: nn.Module, image_size: int) -> tuple[dict[str, Any], Tensor | None]:
    """What each module of ``network`` returns, by its name in the order of the calls, and the map that is pooled last.

    On torch's meta device: nothing is computed.
    """
    outputs: dict[str, Any] = {}

    def keep(path: str, _module: nn.Module, _inputs: Any, output: Any) -> None:
        outputs.pop(path, None)
        outputs[path] = output

    hooks = [module.register_forward_hook(partial(keep, path)) for path, module in network.named_modules() if path]
    state = dict(chain(network.named_parameters(), network.named_buffers()))
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in state.items()}
    images = torch.empty(2, 3, image_size, image_size, device="meta")
    with torch.no_grad(), _LastPooling() as pooling:
        functional_call(network.eval(), shapes, images)
    network.train()
    for hook in hooks:
        hook.remove()
    return outputs, pooling.pooled


def _features_in(outputs: Mapping[str, Any], pooled: Tensor | None, network: str, wanted: str | None) -> str:
    """The module whose output are the features: ``wanted``, else the outermost one that returns the ``pooled`` map."""
    if wanted is None:
        of_pooled = [path for path, output in outputs.items() if output is pooled]
        if pooled is None or not of_pooled:
            hint = "Name the module whose output is the last feature map, such as options: {features: encoder}."
            raise ConfigError(f"{network} pools no feature map that a module returns", hint=hint)
        # The last of the outermost: an activation in place returns what the layer before it returned.
        return min(reversed(of_pooled), key=lambda path: path.count("."))
    if wanted not in outputs:
        raise ConfigError(f"{network} has no module '{wanted}' that is called", hint=nearest(wanted, outputs))
    output = outputs[wanted]
    if not isinstance(output, Tensor) or output.ndim < 3:
        returned = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else "no tensor"
        hint = "Features are (N, C, H, W), or tokens (N, L, D)."
        raise ConfigError(f"the module '{wanted}' of {network} returns {returned}", hint=hint)
    return wanted


class _LastPooling(TorchFunctionMode):
    """Notes ``pooled``, the feature map (N, C, H, W) that was averaged last."""

    pooled: Tensor | None = None

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in _POOLING and args[0].ndim == 4:
            self.pooled = args[0]
        return function(*args, **(kwargs or {}))
