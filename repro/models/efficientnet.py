"""EfficientNet-B4.

Paper: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, arXiv
1905.11946. Architecture: torchvision (``efficientnet_b4``: dropout 0.4, stochastic depth up to 0.2).

Deviations from it: none at 64x64, where the first stage sees 32x32 pixels after its own stride-2 stem. With stem
stride 1 (32x32 images) the first convolution has stride 1. Parameters are unchanged.

The four other strides stay at both sizes, so the last feature map has 2x2 pixels: the only network here below 4x4.
Features: the output of the last 1x1 convolution, after its SiLU, 1792 maps.
"""

from __future__ import annotations

from torchvision import models

from repro.models.classifier import ImageClassifier, pooled


def efficientnet_b4(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """EfficientNet-B4."""
    network = models.efficientnet_b4(weights=None, num_classes=num_classes)
    network.features[0][0].stride = (stem_stride, stem_stride)
    return ImageClassifier(network.features, pooled(network.classifier))
