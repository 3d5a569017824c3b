"""ShuffleNetV2.

Paper: Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design",
ECCV 2018, arXiv 1807.11164. Architecture: torchvision (``shufflenet_v2_x0_5``, ``shufflenet_v2_x1_0``).

Deviations from it:
- The stem is the 3x3 convolution alone, with stride 1 for 32x32 images and 2 for 64x64; its max-pool is left out, so
  that the first stage sees 32x32 pixels and the last feature map has 4x4.
Not a deviation: channels are shuffled in the memory layout of the maps; torchvision's units convert channels_last maps
at every shuffle (on a CPU, a sixth of the whole step).
Parameters are unchanged. Features: the output of conv5, after its ReLU, 1024 maps.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.shufflenetv2 import InvertedResidual

from repro.models.classifier import ImageClassifier, pooled


def shufflenetv2_x0_5(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """ShuffleNetV2 0.5x: the row as Tables 1 and 2 print it."""
    return _without_max_pool(models.shufflenet_v2_x0_5(weights=None, num_classes=num_classes), stem_stride)


def shufflenetv2_x1_0(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """ShuffleNetV2 1.0x: what the released code builds under the label "0.5x"."""
    return _without_max_pool(models.shufflenet_v2_x1_0(weights=None, num_classes=num_classes), stem_stride)


def _without_max_pool(network: models.ShuffleNetV2, stem_stride: int) -> ImageClassifier:
    network.conv1[0].stride = (stem_stride, stem_stride)
    stages = [nn.Sequential(*map(Unit, stage)) for stage in (network.stage2, network.stage3, network.stage4)]
    body = nn.Sequential(network.conv1, *stages, network.conv5)
    return ImageClassifier(body, pooled(network.fc))


class Unit(nn.Module):
    """The unit of the paper's Figure 3 (c, d), with the branches of torchvision's ``InvertedResidual``."""

    def __init__(self, unit: InvertedResidual) -> None:
        super().__init__()
        self.splits = unit.stride == 1
        self.branch1: nn.Module = unit.branch1
        self.branch2: nn.Module = unit.branch2

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W), or with stride 2 to (N, C', H / 2, W / 2)."""
        if self.splits:
            kept, changed = maps.chunk(2, dim=1)
        else:
            kept, changed = self.branch1(maps), maps
        return shuffled(torch.cat((kept, self.branch2(changed)), dim=1))


def shuffled(maps: Tensor) -> Tensor:
    """Interleave the channels of the two halves of (N, C, H, W), in the same memory layout."""
    if maps.is_contiguous(memory_format=torch.channels_last):
        pixels = maps.permute(0, 2, 3, 1)
        count, height, width, channels = pixels.shape
        halves = pixels.view(count, height, width, 2, channels // 2)
        return halves.transpose(3, 4).flatten(3).permute(0, 3, 1, 2)
    count, channels, height, width = maps.shape
    return maps.view(count, 2, channels // 2, height, width).transpose(1, 2).flatten(1, 2)
