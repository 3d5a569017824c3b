"""The common form of the networks: a body that computes feature maps, and a head that pools and classifies them."""

from __future__ import annotations

from torch import Tensor, nn


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
