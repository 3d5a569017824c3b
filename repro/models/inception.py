"""Inception v3.

Paper: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer Vision", CVPR
2016, arXiv 1512.00567. Architecture: torchvision (``inception_v3``, with the truncated-normal initialization of the
original, dropout 0.5 before the classifier).

Deviations from it:
- No auxiliary head: the published parameter count of the reproduced table is that of the network without it.
- The two max-pools of the stem are left out. At 64x64 its three scales then have 27, 13 and 6 pixels; with them the
  network refuses images under 75 pixels.
- With stem stride 1 (32x32 images) the first convolution has stride 1: 26, 12 and 5 pixels.
Parameters are otherwise unchanged. Features: the output of the last block, after its ReLUs, 2048 maps.
"""

from __future__ import annotations

from torch import nn
from torchvision import models

from repro.models.classifier import ImageClassifier, pooled

STEM_MAX_POOLS = ("maxpool1", "maxpool2")
LAST_BLOCK = "Mixed_7c"


def inception_v3(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """Inception v3 without auxiliary head."""
    network = models.inception_v3(weights=None, num_classes=num_classes, aux_logits=False, init_weights=True)
    network.Conv2d_1a_3x3.conv.stride = (stem_stride, stem_stride)
    body = nn.Sequential()
    for name, block in network.named_children():  # in the order in which torchvision runs them
        if name not in STEM_MAX_POOLS:
            body.append(block)
        if name == LAST_BLOCK:
            break
    return ImageClassifier(body, pooled(network.dropout, network.fc))
