"""ShuffleNetV2.

Paper: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
ECCV 2018, arXiv 1807.11164. Architecture: torchvision (``shufflenet_v2_x0_5``, ``shufflenet_v2_x1_0``).

Deviations from it:
- The stem is the 3x3 convolution alone, with the stride asked for (1 for 32x32 images, 2 for 64x64); its max-pool is
  left out, so that the first stage sees 32x32 pixels and the last feature map has 4x4.
Parameters are unchanged. Features: the output of conv5, after its ReLU, 1024 maps.
"""

from __future__ import annotations

from torch import nn
from torchvision import models

from repro.models.classifier import ImageClassifier, pooled


def shufflenetv2_x0_5(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """ShuffleNetV2 0.5x: the row as Tables 1 and 2 print it."""
    return _without_max_pool(models.shufflenet_v2_x0_5(weights=None, num_classes=num_classes), stem_stride)


def shufflenetv2_x1_0(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """ShuffleNetV2 1.0x: what the released code builds under the label "0.5x"."""
    return _without_max_pool(models.shufflenet_v2_x1_0(weights=None, num_classes=num_classes), stem_stride)


def _without_max_pool(network: models.ShuffleNetV2, stem_stride: int) -> ImageClassifier:
    network.conv1[0].stride = (stem_stride, stem_stride)
    body = nn.Sequential(network.conv1, network.stage2, network.stage3, network.stage4, network.conv5)
    return ImageClassifier(body, pooled(network.fc))
