"""SqueezeNet 1.0.

Paper: Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer, "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters
and <0.5MB model size", 2016, arXiv 1602.07360. Architecture: torchvision (``squeezenet1_0``: no batch normalization,
no bypass, dropout 0.5 before the last convolution).

Deviations from it:
- Stem stride 1 (32x32 images): the first convolution is 3x3 with stride 1 instead of 7x7 with stride 2, which takes
  11,520 parameters away (0.775M instead of 0.787M at 100 classes).
- Stem stride 2 (64x64 images): the 7x7 convolution stays, padded by 3, so that 32x32 pixels come out; parameters as
  published (0.787M at 100 classes, 1.248M at 1000).
- The max-pool after it is left out in both, so that the first fire module sees 32x32 pixels; the last map has 8x8.

The network of github weiaicunzai/pytorch-cifar100, with whose figure Table 2's cross-entropy coincides, is another
form of the same name: batch normalization after every convolution but the last, a bypass around every other fire
module, the max-pool kept, no dropout and no ReLU at the end; 0.78M parameters at 100 classes.

Features: what the global pooling pools is the output of the last convolution after its ReLU, one map a class.
"""

from __future__ import annotations

from torch import nn
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
