"""DenseNet-100 without bottleneck and compression (k = 12, k = 24), and DenseNet-121 (k = 32).

Paper: Huang, Liu, van der Maaten, Weinberger, "Densely Connected Convolutional Networks", CVPR 2017, arXiv 1608.06993.
DenseNet-100 (section 3 and Table 2, first rows): 16 filters first, then three blocks of 32 layers BN-ReLU-3x3;
transitions BN-ReLU-1x1 keep the number of maps and halve the resolution (their ReLU is in the authors' code, not in
the text). DenseNet-121 (Table 1): bottleneck layers BN-ReLU-1x1-BN-ReLU-3x3 with 4k maps between, transitions that
halve the number of maps; the same network as torchvision's ``densenet121`` (a test compares them), written here so that
``recompute`` works for it too. He's initialization, as in torchvision. No dropout: the paper uses it only if images
are not augmented.

Deviations from the paper:
- DenseNet-100: stem stride 2 (64x64 images) is ours; the stem stays a 3x3 convolution.
- DenseNet-121: with stem stride 1 (32x32 images) the first convolution is 3x3 with stride 1, which takes 7,680
  parameters away; with stem stride 2 it is the published 7x7. The stem's max-pool is left out in both, so that the
  first block sees 32x32 pixels and the last map has 4x4 (DenseNet-100: 8x8).

Features, by ``feature_point``: ``default`` is what the classifier pools, the last maps after the final BN and ReLU;
``before_norm`` is the same maps before both, which the released code of the bias loss takes.

``recompute``: a layer does not keep its concatenated and normalized inputs (quadratic in the depth) but computes both
again in the backward pass (Pleiss et al., "Memory-Efficient Implementation of DenseNets", arXiv 1707.06990). The
numbers are the same, bit for bit: only the first computation updates the running statistics of BN. For k = 24 at 64x64,
stem stride 1, fp32, a training step takes 0.09 GB per image instead of 0.91: 11 GB at batch 128, not 116 (allocations
counted on a CPU at batch 2 and 4).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BOTTLENECK_WIDTH = 4  # times the growth rate


def densenet100_k12(num_classes: int, *, stem_stride: int, **options: Any) -> DenseNet:
    """DenseNet of depth 100 with growth rate 12."""
    return _densenet100(12, num_classes, stem_stride, options)


def densenet100_k24(num_classes: int, *, stem_stride: int, **options: Any) -> DenseNet:
    """DenseNet of depth 100 with growth rate 24."""
    return _densenet100(24, num_classes, stem_stride, options)


def _densenet100(growth_rate: int, num_classes: int, stem_stride: int, options: dict[str, Any]) -> DenseNet:
    stem = nn.Sequential(nn.Conv2d(3, 16, kernel_size=3, stride=stem_stride, padding=1, bias=False))
    return DenseNet(stem, 16, num_classes, (32, 32, 32), growth_rate, bottleneck=False, compression=1.0, **options)


def densenet121(num_classes: int, *, stem_stride: int, **options: Any) -> DenseNet:
    """DenseNet-121 (BC, growth rate 32), the network of the released code."""
    kernel_size = 3 if stem_stride == 1 else 7
    stem = nn.Sequential(
        nn.Conv2d(3, 64, kernel_size, stride=stem_stride, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
    )
    return DenseNet(stem, 64, num_classes, (6, 12, 24, 16), 32, bottleneck=True, compression=0.5, **options)


class DenseNet(nn.Module):
    """A stem with ``channels`` maps, dense blocks with transitions between them, normalization, and the classifier.

    ``layers_per_block`` counts dense layers; a transition keeps the share ``compression`` of the maps.
    """

    def __init__(
        self,
        stem: nn.Module,
        channels: int,
        num_classes: int,
        layers_per_block: Sequence[int],
        growth_rate: int,
        *,
        bottleneck: bool,
        compression: float,
        feature_point: str = "default",
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.feature_point = feature_point
        self.body = nn.Sequential(stem)
        for index, layers in enumerate(layers_per_block):
            if index > 0:
                kept = int(channels * compression)
                self.body.append(transition(channels, kept))
                channels = kept
            self.body.append(DenseBlock(layers, channels, growth_rate, bottleneck=bottleneck, recompute=recompute))
            channels += layers * growth_rate
        self.final_norm = nn.BatchNorm2d(channels)
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, num_classes) and features (N, C, H, W) of ``images``, float (N, 3, H', W')."""
        maps = self.body(images)
        activated = F.relu(self.final_norm(maps), inplace=True)
        logits = self.classifier(F.adaptive_avg_pool2d(activated, 1).flatten(1))
        return logits, activated if self.feature_point == "default" else maps


class DenseBlock(nn.Module):
    """Layers that each see the maps of all before them: (N, C, H, W) to (N, C + layers x growth_rate, H, W)."""

    def __init__(self, layers: int, channels: int, growth_rate: int, *, bottleneck: bool, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        self.layers = nn.ModuleList(
            DenseLayer(channels + index * growth_rate, growth_rate, bottleneck=bottleneck, recompute=recompute)
            for index in range(layers)
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Concatenate the input and what every layer adds to it."""
        if not self.recompute:
            # The concatenation is the next layer's input: the gradients of all its maps are added up at once.
            for layer in self.layers:
                maps = torch.cat([maps, layer(maps)], dim=1)
            return maps
        pieces = [maps]
        for layer in self.layers:
            pieces.append(layer(*pieces))
        return torch.cat(pieces, dim=1)


class DenseLayer(nn.Module):
    """The composite function H of section 3: concatenated maps in, ``growth_rate`` new maps out."""

    def __init__(self, channels: int, growth_rate: int, *, bottleneck: bool, recompute: bool) -> None:
        super().__init__()
        self.recompute = recompute
        width = BOTTLENECK_WIDTH * growth_rate
        narrowing = normalized_convolution(channels, width, kernel_size=1) if bottleneck else ()
        channels = width if bottleneck else channels
        self.transform = nn.Sequential(*narrowing, *normalized_convolution(channels, growth_rate, kernel_size=3))

    def forward(self, *pieces: Tensor) -> Tensor:
        """New maps (N, growth_rate, H, W) from ``pieces`` (N, c_i, H, W); without ``recompute`` from one piece."""
        new_maps: Tensor
        if not self.recompute:
            new_maps = self.transform(*pieces)
            return new_maps
        new_maps = checkpoint(
            self._concatenate_and_transform,
            *pieces,
            use_reentrant=False,
            preserve_rng_state=False,  # nothing here is random, and a CUDA graph cannot read the state
            context_fn=lambda: (contextlib.nullcontext(), running_statistics_held(self)),
        )
        return new_maps

    def _concatenate_and_transform(self, *pieces: Tensor) -> Tensor:
        new_maps: Tensor = self.transform(torch.cat(pieces, dim=1))
        return new_maps


@contextlib.contextmanager
def running_statistics_held(module: nn.Module) -> Iterator[None]:
    """Let the batch norms of ``module`` update scratch buffers instead of their running statistics."""
    norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d) and norm.training]
    own = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in own:
        # Training never reads them, so they stay uninitialized, which costs no kernel.
        setattr(norm, name, torch.empty_like(buffer))
    try:
        yield
    finally:
        for norm, name, buffer in own:
            setattr(norm, name, buffer)


def normalized_convolution(channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, ...]:
    """BN-ReLU-convolution, in the paper's order, keeping the resolution."""
    return (
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
    )


def transition(channels: int, kept: int) -> nn.Sequential:
    """Between two blocks: (N, channels, 2H, 2W) to (N, kept, H, W)."""
    return nn.Sequential(*normalized_convolution(channels, kept, kernel_size=1), nn.AvgPool2d(2))
