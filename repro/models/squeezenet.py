"""SqueezeNet 1.0, and the form with batch normalization of the code base that the authors say they used.

Paper: Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters
and <0.5MB model size", 2016, arXiv 1602.07360. Architecture: torchvision (``squeezenet1_0``: no batch normalization,
no bypass, dropout 0.5 before the last convolution).

Deviations from it:
- Stem stride 1 (32x32 images): the first convolution is 3x3 with stride 1 instead of 7x7 with stride 2, which takes
  11,520 parameters away (0.775M instead of 0.787M at 100 classes).
- Stem stride 2 (64x64 images): the 7x7 convolution stays, padded by 3, so that 32x32 pixels come out; parameters as
  published (0.787M at 100 classes, 1.248M at 1000).
- The max-pool after it is left out in both, so that the first fire module sees 32x32 pixels; the last map has 8x8.

``squeezenet_bn``: the network of github weiaicunzai/pytorch-cifar100, whose figure is Table 2's cross-entropy, is
another form of the same name: a 3x3 stem, batch normalization after every convolution but the last, the paper's simple
bypass around every other fire module, the max-pool after the stem kept, no dropout and no ReLU at the end. Written
from that description; the last map has 4x4 pixels.

Features: the output of the last convolution, after its ReLU, one map per class.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision import models

from repro.models.classifier import ImageClassifier, pooled


def squeezenet(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """SqueezeNet 1.0."""
    network = models.squeezenet1_0(weights=None, num_classes=num_classes)
    if stem_stride == 1:
        network.features[0] = nn.Conv2d(3, 96, kernel_size=3, padding=1)
        nn.init.kaiming_uniform_(network.features[0].weight)
        nn.init.zeros_(network.features[0].bias)
    else:
        network.features[0].padding = (3, 3)
    convolution, relu, _max_pool, *fire_modules = network.features
    dropout, last_convolution, last_relu, _pool = network.classifier
    body = nn.Sequential(convolution, relu, *fire_modules, dropout, last_convolution, last_relu)
    return ImageClassifier(body, pooled())


class NormalizedFire(nn.Module):
    """A fire module with batch normalization: squeeze to ``squeezed`` channels, expand to ``expanded`` by 1x1 and 3x3.

    ``bypass`` adds the input (N, expanded, H, W) to the output.
    """

    def __init__(self, channels: int, squeezed: int, expanded: int, *, bypass: bool = False) -> None:
        super().__init__()
        self.squeeze = _normalized(channels, squeezed, 1)
        self.expand_1x1 = _normalized(squeezed, expanded // 2, 1)
        self.expand_3x3 = _normalized(squeezed, expanded // 2, 3)
        self.bypass = bypass

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, expanded, H, W)."""
        squeezed = self.squeeze(x)
        expanded = torch.cat([self.expand_1x1(squeezed), self.expand_3x3(squeezed)], dim=1)
        return expanded + x if self.bypass else expanded


def _normalized(channels: int, filters: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """Convolution, batch normalization, ReLU."""
    convolution = nn.Conv2d(channels, filters, kernel_size, stride=stride, padding=kernel_size // 2)
    return nn.Sequential(convolution, nn.BatchNorm2d(filters), nn.ReLU(inplace=True))


def squeezenet_bn(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """SqueezeNet with batch normalization and simple bypass."""
    body = nn.Sequential(
        _normalized(3, 96, 3, stem_stride),
        nn.MaxPool2d(2),
        NormalizedFire(96, 16, 128),
        NormalizedFire(128, 16, 128, bypass=True),
        NormalizedFire(128, 32, 256),
        nn.MaxPool2d(2),
        NormalizedFire(256, 32, 256, bypass=True),
        NormalizedFire(256, 48, 384),
        NormalizedFire(384, 48, 384, bypass=True),
        NormalizedFire(384, 64, 512),
        nn.MaxPool2d(2),
        NormalizedFire(512, 64, 512),
        nn.Conv2d(512, num_classes, kernel_size=1),
    )
    return ImageClassifier(body, pooled())
