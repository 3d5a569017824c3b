"""The common form of the networks: a body that computes feature maps, and a head that pools and classifies them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from repro.errors import ConfigError, nearest


class ImageClassifier(nn.Module):
    """A network cut at the feature maps that the bias loss uses.

    ``body`` maps images (N, 3, H, W) to features (N, C, h, w), the last feature map before the global pooling;
    ``head`` pools these features and maps them to logits (N, num_classes).
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.head = head
        # In place, autograd would first copy their input: one more pass over the memory.
        for module in body.modules():
            if isinstance(module, nn.ReLU6 | nn.SiLU):
                module.inplace = False

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(logits, features)`` of ``images``, float (N, 3, H, W)."""
        features = self.body(images)
        return self.head(features), features


def pooled(*classifier: nn.Module) -> nn.Sequential:
    """A head: global average pooling, then ``classifier`` on (N, C)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *classifier)


class WithFeatures(nn.Module):
    """A network with the output of one of its modules: ``(logits, features)`` of images (N, 3, H, W).

    Features are (N, C, h, w), or (N, L, D) of a transformer's tokens. Raises ConfigError if there is no such module.
    """

    def __init__(self, network: nn.Module, features: str) -> None:
        super().__init__()
        self.network = network
        self.feature_module = features
        self._outputs: list[Tensor] = []  # of the present call
        modules = dict(network.named_modules())
        if features not in modules:
            raise ConfigError(f"the network has no module '{features}'", hint=nearest(features, modules))
        modules[features].register_forward_hook(self._keep)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(logits, features)`` of ``images``, float (N, 3, H, W)."""
        self._outputs.clear()
        logits = self.network(images)
        return logits, self._outputs.pop()

    def _keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._outputs.append(output)


class ChosenFeatures(WithFeatures):
    """``WithFeatures`` with a module that the user has chosen: it may never be called, or return no tensor."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``(logits, features)`` of ``images``, float (N, 3, H, W). Raises ConfigError without features."""
        self._outputs.clear()
        logits = self.network(images)
        chosen = f"the module '{self.feature_module}'"
        if not self._outputs:
            what = f"the network never calls {chosen}, so that it has no features"
            raise ConfigError(what, hint="Name a module that its forward calls: @network(features='layer4').")
        features = self._outputs.pop()
        if not isinstance(features, Tensor):
            what = f"{chosen} of the network returns a {type(features).__name__}, not a tensor of features"
            raise ConfigError(what, hint="Name a module that returns one: (N, C, H, W), or tokens (N, L, D).")
        return logits, features


def require_outputs(name: str, num_classes: int, network: nn.Module, _inputs: Any, returned: Any) -> None:
    """A forward hook of the network of that name, from ``num_classes`` on. It looks at types and shapes alone.

    Raises ConfigError if the network returns anything but logits (N, num_classes) and features (N, ...).
    """
    parts = returned if isinstance(returned, tuple) else (returned,)
    dimensions = [part.ndim if isinstance(part, Tensor) else 0 for part in parts]
    if len(parts) != 2 or dimensions[0] != 2 or dimensions[1] < 2:
        hint = "If it returns logits alone, name the module of its features: @network(features='layer4')."
        if isinstance(network, WithFeatures):
            hint = f"With features='{network.feature_module}', it returns logits alone, and that module the features."
        what = f"the network {name} does not return a pair of logits (N, K) and features (N, C, H, W)"
        raise ConfigError(what, hint=hint)
    if (logits := parts[0].shape[1]) != num_classes:
        raise ConfigError(
            f"the network {name} returns {logits} logits an image, for {num_classes} classes",
            hint="Give its last layer num_classes outputs.",
        )
