"""MobileNetV2.

Paper: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
arXiv 1801.04381. Architecture: torchvision (``mobilenet_v2`` with its width multiplier).

Deviations from it:
- The first convolution has stride 1 for 32x32 images and 2 for 64x64, so that the first stage sees 32x32 pixels.
- The stage of 160 channels (before multiplication) has stride 1 instead of 2, so that the last feature map has 4x4
  pixels, not 2x2. It is this stage because github weiaicunzai/pytorch-cifar100, whose figure is Table 2's
  cross-entropy, has stride 1 there.
Parameters are unchanged. Features: the output of the last 1x1 convolution, after its ReLU6, 1280 maps at both widths.
"""

from __future__ import annotations

from torchvision import models

from repro.models.classifier import ImageClassifier, pooled

# Index in torchvision's `features` of the first block of the 160-channel stage (the paper's Table 2, sixth stage).
FIRST_BLOCK_OF_160_CHANNELS = 14


def mobilenetv2_x0_75(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """MobileNetV2 with width multiplier 0.75: the row as Table 2 prints it."""
    return _mobilenetv2(num_classes, stem_stride, width=0.75)


def mobilenetv2_x1_0(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """MobileNetV2 with width multiplier 1.0: the network whose public result is the row's cross-entropy figure."""
    return _mobilenetv2(num_classes, stem_stride, width=1.0)


def _mobilenetv2(num_classes: int, stem_stride: int, width: float) -> ImageClassifier:
    network = models.mobilenet_v2(weights=None, num_classes=num_classes, width_mult=width)
    network.features[0][0].stride = (stem_stride, stem_stride)
    _expansion, depthwise, *_projection = network.features[FIRST_BLOCK_OF_160_CHANNELS].conv
    depthwise[0].stride = (1, 1)
    return ImageClassifier(network.features, pooled(network.classifier))
