"""The units of ShuffleNetV2 are torchvision's, whatever the layout of the maps in memory."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.shufflenetv2 import InvertedResidual, channel_shuffle

from repro.models.shufflenetv2 import Unit, shuffled

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


@LAYOUTS
def test_channels_are_shuffled_as_torchvision_does_and_the_layout_is_kept(layout: torch.memory_format) -> None:
    maps = torch.randn(3, 12, 5, 4).to(memory_format=layout)
    ours = shuffled(maps)
    assert torch.equal(ours, channel_shuffle(maps, 2))
    assert ours.is_contiguous(memory_format=layout)


@LAYOUTS
@pytest.mark.parametrize(("channels", "out_channels", "stride"), [(24, 24, 1), (24, 48, 2)])
def test_a_unit_is_torchvisions(channels: int, out_channels: int, stride: int, layout: torch.memory_format) -> None:
    theirs = InvertedResidual(channels, out_channels, stride).to(memory_format=layout).eval()
    images = torch.randn(2, channels, 8, 8).to(memory_format=layout)
    with torch.no_grad():
        torch.testing.assert_close(Unit(theirs)(images), theirs(images), rtol=0, atol=1e-6)
    assert list(Unit(theirs).state_dict()) == list(theirs.state_dict())
