"""ResNet-18.

Paper: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385.
Architecture: torchvision (``resnet18``).

Deviations from it:
- Stem stride 1 (32x32 images): the first convolution is 3x3 with stride 1 instead of 7x7 with stride 2, which takes
  7,680 parameters away.
- Stem stride 2 (64x64 images): the 7x7 convolution with stride 2 stays as published.
- The max-pool after it is left out in both, so that the first stage sees 32x32 pixels and the last map has 4x4.

Features: the output of the last stage, after its ReLU, 512 maps.
"""

from __future__ import annotations

from torch import nn
from torchvision import models

from repro.models.classifier import ImageClassifier, pooled


def resnet18(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """ResNet-18."""
    network = models.resnet18(weights=None, num_classes=num_classes)
    if stem_stride == 1:
        network.conv1 = nn.Conv2d(3, 64, kernel_size=3, padding=1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    stem = nn.Sequential(network.conv1, network.bn1, network.relu)
    body = nn.Sequential(stem, network.layer1, network.layer2, network.layer3, network.layer4)
    return ImageClassifier(body, pooled(network.fc))
