"""The description of a network: counted operations, and nothing computed or drawn."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from repro.errors import UserError
from repro.experiment.catalog import NETWORKS
from repro.experiment.dataset_choice import SIZES
from repro.models.describe import ModelDescription, describe_model


def test_resnet18_multiply_accumulates_by_hand() -> None:
    def stage(before: int, channels: int, side: int) -> int:
        convolutions = before * channels * 9 + 3 * channels * channels * 9
        shortcut = before * channels if before != channels else 0
        return (convolutions + shortcut) * side * side

    stages = stage(64, 64, 32) + stage(64, 128, 16) + stage(128, 256, 8) + stage(256, 512, 4)
    by_hand = 3 * 64 * 7 * 7 * 32 * 32 + stages + 512 * 200
    assert describe_model("resnet18", 200, 64).gmacs_per_image == by_hand / 1e9


@pytest.mark.parametrize(
    ("name", "image_size", "options", "gmacs"),
    [
        ("shufflenetv2_x1_0", 32, {}, 0.045),
        ("squeezenet", 32, {}, 0.205),
        ("nasnet_a", 32, {}, 0.657),
        ("densenet100_k12", 32, {}, 1.770),
        ("resnet18", 64, {"stem_stride": 1}, 2.222),
        ("efficientnet_b4", 64, {}, 0.126),
    ],
)
def test_multiply_accumulates(name: str, image_size: int, options: dict[str, object], gmacs: float) -> None:
    assert describe_model(name, 100, image_size, **options).gmacs_per_image == pytest.approx(gmacs, abs=0.0005)


@pytest.mark.slow
@pytest.mark.parametrize("image_size", SIZES)
def test_every_network_takes_every_size_of_a_folder_of_images(image_size: int) -> None:
    for name in NETWORKS:
        _channels, height, width = describe_model(name, 7, image_size).feature_shape
        assert height == width > 1, name


def test_a_depthwise_convolution_counts_its_own_group_only() -> None:
    assert describe_model("mobilenetv2_x1_0", 100).gmacs_per_image == pytest.approx(0.0439, abs=0.0001)


def test_description_is_complete_and_frozen() -> None:
    described = describe_model("squeezenet", 100, 32)
    assert described == ModelDescription(100, 32, 775_204, described.gmacs_per_image, (100, 8, 8))
    with pytest.raises(dataclasses.FrozenInstanceError):
        described.parameters = 0


def test_describing_draws_no_random_number() -> None:
    before = torch.get_rng_state()
    describe_model("inception_v3", 200, 64)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_name_is_the_user_s_error() -> None:
    with pytest.raises(UserError, match="Did you mean 'nasnet_a'"):
        describe_model("nasnet", 100)
