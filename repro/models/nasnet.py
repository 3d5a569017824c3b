"""NASNet-A in its CIFAR form, N = 4 normal cells a stack.

Paper: Zoph, Vasudevan, Shlens, Le, "Learning Transferable Architectures for Scalable Image Recognition", CVPR 2018,
arXiv 1707.07012: Figure 2 (the CIFAR-10 stacking), Figure 4 (the NASNet-A cells), section A.4 (what joins the cells:
ReLU before each convolution, separable convolutions applied twice, 1x1 convolutions that match widths). Where the
paper is silent (the factorized reduction, which states a cell outputs, no biases, average pooling without the padding,
He's initialization of the convolutions), this follows the authors' TensorFlow models (research/slim/nets/nasnet); the
classifier is initialized as in torch.

Widths: 44 filters in the first stack, doubled at both reductions: 6 x 176 = 1056 maps at the end, the "4 @ 1056" of
the paper's mobile network. These cells give that network's exact number of parameters (5,289,978 at 1000 classes, with
its stem of two reduction cells; a test builds it). With one 3x3 convolution of 44 filters as the stem, this network
has 5.26M parameters at 1000 classes, 4.31M at 100. The 5.22M at 100 of github weiaicunzai/pytorch-cifar100 are the
same network with biases (4.33M) and 0.89M parameters that every cell declares and none uses: alternatives for matching
the older input.

Deviations from the paper's CIFAR training:
- No auxiliary head and no drop-path, as in weiaicunzai/pytorch-cifar100, whose figure is Table 2's cross-entropy.
- The stem has 44 filters, as there, not three times the first width.
- Stride-2 windows are centred (padding on both sides) where TensorFlow pads on the right only.
- Stem stride 2 (64x64 images) is ours, so that the first stack sees 32x32 pixels.
Features: the output of the last cell, after the ReLU that precedes the global pooling, 1056 maps.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from repro.models.classifier import ImageClassifier, pooled

FIRST_FILTERS = 44
CELLS_PER_STACK = 4


def nasnet_a(num_classes: int, *, stem_stride: int) -> ImageClassifier:
    """NASNet-A (N = 4), 44 filters first, 1056 maps last."""
    body = NASNetA(FIRST_FILTERS, CELLS_PER_STACK, stem_stride)
    network = ImageClassifier(body, pooled(nn.Linear(body.out_channels, num_classes)))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            # TensorFlow's fan of a depthwise kernel does not count the channels: torch's fan_in.
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in")
    return network


class NASNetA(nn.Module):
    """Three stacks of normal cells, with reduction cells between them (Figure 2, left)."""

    def __init__(self, filters: int, cells_per_stack: int, stem_stride: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, filters, kernel_size=3, stride=stem_stride, padding=1, bias=False), nn.BatchNorm2d(filters)
        )
        self.cells = nn.ModuleList()
        older, newer = filters, filters  # channels of the last two outputs
        older_is_larger = False
        stack: list[type[NormalCell | ReductionCell]] = [NormalCell] * cells_per_stack
        for cell in [*stack, ReductionCell, *stack, ReductionCell, *stack]:
            if cell is ReductionCell:
                filters *= 2
            self.cells.append(cell(older, newer, filters, older_is_larger=older_is_larger))
            older, newer = newer, cell.output_states * filters
            older_is_larger = cell is ReductionCell
        self.out_channels = newer

    def forward(self, images: Tensor) -> Tensor:
        """Feature maps (N, out_channels, H / 4, W / 4) of the stem's (N, filters, H, W), rectified."""
        older = newer = self.stem(images)
        for cell in self.cells:
            older, newer = newer, cell(older, newer)
        return F.relu(newer)


class NormalCell(nn.Module):
    """The normal cell of NASNet-A (Figure 4, left): keeps the resolution, outputs 6 x ``filters`` maps."""

    output_states = 6

    def __init__(self, older: int, newer: int, filters: int, *, older_is_larger: bool) -> None:
        super().__init__()
        self.match_older = matched(older, filters, larger=older_is_larger)
        self.match_newer = rectified_1x1(newer, filters)
        self.first_newer_5x5 = SeparableTwice(filters, kernel_size=5)
        self.first_older_3x3 = SeparableTwice(filters, kernel_size=3)
        self.second_older_5x5 = SeparableTwice(filters, kernel_size=5)
        self.second_older_3x3 = SeparableTwice(filters, kernel_size=3)
        self.fifth_newer_3x3 = SeparableTwice(filters, kernel_size=3)

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        """Combine the outputs of the last two cells; ``older`` may have twice the resolution."""
        older, newer = self.match_older(older), self.match_newer(newer)
        # Each separable convolution rectifies its input first; shared inputs are rectified once.
        older_relu, newer_relu = F.relu(older), F.relu(newer)
        older_average = average_3x3(older)
        states = [
            older,
            self.first_newer_5x5(newer_relu) + self.first_older_3x3(older_relu),
            self.second_older_5x5(older_relu) + self.second_older_3x3(older_relu),
            average_3x3(newer) + older,
            older_average + older_average,
            self.fifth_newer_3x3(newer_relu) + newer,
        ]
        return torch.cat(states, dim=1)


class ReductionCell(nn.Module):
    """The reduction cell of NASNet-A (Figure 4, right): halves the resolution, outputs 4 x ``filters`` maps."""

    output_states = 4

    def __init__(self, older: int, newer: int, filters: int, *, older_is_larger: bool) -> None:
        super().__init__()
        self.match_older = matched(older, filters, larger=older_is_larger)
        self.match_newer = rectified_1x1(newer, filters)
        self.first_newer_5x5 = SeparableTwice(filters, kernel_size=5, stride=2)
        self.first_older_7x7 = SeparableTwice(filters, kernel_size=7, stride=2)
        self.second_older_7x7 = SeparableTwice(filters, kernel_size=7, stride=2)
        self.third_older_5x5 = SeparableTwice(filters, kernel_size=5, stride=2)
        self.fifth_first_3x3 = SeparableTwice(filters, kernel_size=3)

    def forward(self, older: Tensor, newer: Tensor) -> Tensor:
        """Combine the outputs of the last two cells, both of the same resolution here."""
        older, newer = self.match_older(older), self.match_newer(newer)
        older_relu, newer_relu = F.relu(older), F.relu(newer)
        newer_max = F.max_pool2d(newer, kernel_size=3, stride=2, padding=1)
        first = self.first_newer_5x5(newer_relu) + self.first_older_7x7(older_relu)
        second = newer_max + self.second_older_7x7(older_relu)
        third = average_3x3(newer, stride=2) + self.third_older_5x5(older_relu)
        fourth = second + average_3x3(first)
        fifth = self.fifth_first_3x3(F.relu(first)) + newer_max
        return torch.cat([second, third, fourth, fifth], dim=1)


class SeparableTwice(nn.Sequential):
    """Depthwise, 1x1, normalization, twice with a ReLU between (section A.4), on rectified maps.

    Only the first has the ``stride``.
    """

    def __init__(self, channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__(
            *separable(channels, kernel_size, stride), nn.ReLU(inplace=True), *separable(channels, kernel_size, 1)
        )


def separable(channels: int, kernel_size: int, stride: int) -> tuple[nn.Module, ...]:
    """A separable convolution and its normalization."""
    padding = kernel_size // 2
    return (
        nn.Conv2d(channels, channels, kernel_size, stride, padding, groups=channels, bias=False),
        nn.Conv2d(channels, channels, kernel_size=1, bias=False),
        nn.BatchNorm2d(channels),
    )


def matched(channels: int, filters: int, *, larger: bool) -> nn.Module:
    """Bring the older input to the cell's width and resolution, if they differ."""
    if larger:
        return FactorizedReduction(channels, filters)
    return nn.Identity() if channels == filters else rectified_1x1(channels, filters)


def rectified_1x1(channels: int, filters: int) -> nn.Sequential:
    """ReLU, 1x1 convolution, normalization: (N, channels, H, W) to (N, filters, H, W)."""
    # Not in place: the next cell uses the input too.
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, filters, kernel_size=1, bias=False), nn.BatchNorm2d(filters))


class FactorizedReduction(nn.Module):
    """Halve an even resolution: half of the filters see even pixels, the other half odd ones."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels, filters // 2, kernel_size=1, bias=False)
        self.odd = nn.Conv2d(channels, filters - filters // 2, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm2d(filters)

    def forward(self, maps: Tensor) -> Tensor:
        """(N, channels, 2H, 2W) to (N, filters, H, W)."""
        maps = F.relu(maps)
        halves = [self.even(maps[:, :, ::2, ::2]), self.odd(maps[:, :, 1::2, 1::2])]
        normalized: Tensor = self.norm(torch.cat(halves, dim=1))
        return normalized


def average_3x3(maps: Tensor, stride: int = 1) -> Tensor:
    """The mean over each 3x3 window of the pixels inside the image."""
    return F.avg_pool2d(maps, kernel_size=3, stride=stride, padding=1, count_include_pad=False)
