"""Augmentation against torchvision's own PIL pipeline, and the distribution of the draws."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import Normalize, functional

from repro.data import augment
from repro.data.augment import (
    CROP_FLIP_COLUMNS,
    ROTATION_COLUMNS,
    AugmentationDraws,
    augment_batch,
    draw_augmentation,
    gather_plan,
    normalize,
)


def random_images(count: int, size: int, seed: int = 0) -> Tensor:
    """uint8 noise without a zero, so that fill and pixels cannot be confused."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def torchvision_pipeline(images: Tensor, draws: AugmentationDraws, padding: int) -> Tensor:
    size = images.shape[-1]
    augmented = []
    for image, (top, left), flip, angle in zip(
        images, draws.offsets.tolist(), draws.flips.tolist(), draws.angles.tolist(), strict=True
    ):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture = functional.crop(functional.pad(picture, padding, fill=0), top, left, size, size)
        picture = functional.hflip(picture) if flip else picture
        picture = functional.rotate(picture, angle, functional.InterpolationMode.NEAREST, expand=False, fill=0)
        augmented.append(functional.pil_to_tensor(picture))
    return torch.stack(augmented)


def assert_equal_to_torchvision(images: Tensor, draws: AugmentationDraws, padding: int) -> None:
    plan = gather_plan(draws, images.shape[-1], padding)
    assert torch.equal(augment_batch(images, plan), torchvision_pipeline(images, draws, padding))


@pytest.mark.parametrize(
    ("size", "padding", "flip", "degrees", "count"),
    [
        (32, 4, True, 15.0, 1500),
        (64, 4, True, 15.0, 300),
        (32, 4, True, 0.0, 300),
        (64, 8, True, 0.0, 100),
        (32, 0, False, 180.0, 200),
        (33, 3, True, 40.0, 100),
        (96, 12, True, 15.0, 40),
        (224, 32, True, 15.0, 10),
        (224, 28, True, 0.0, 10),
    ],
)
def test_every_pixel_equals_torchvision(size: int, padding: int, flip: bool, degrees: float, count: int) -> None:
    generator = torch.Generator().manual_seed(size + padding)
    draws = draw_augmentation(
        count, crop_padding_pixels=padding, horizontal_flip=flip, rotation_degrees=degrees, generator=generator
    )
    assert_equal_to_torchvision(random_images(count, size), draws, padding)


def test_special_angles_equal_torchvision() -> None:
    # Pillow has separate code for the quarter turns and for a rotation that rounds to none.
    angles = [0.0, 90.0, 180.0, 270.0, -90.0, 360.0, 30.0, -30.0, 45.0, 60.0, 1e-9, -1e-9, 15.0, -15.0]
    count = 4 * len(angles)
    draws = draw_augmentation(
        count,
        crop_padding_pixels=4,
        horizontal_flip=True,
        rotation_degrees=0.0,
        generator=torch.Generator().manual_seed(1),
    )
    draws = AugmentationDraws(draws.offsets, draws.flips, torch.tensor(angles * 4, dtype=torch.float64))
    for size in (32, 64):
        assert_equal_to_torchvision(random_images(count, size), draws, 4)


def test_angles_at_the_edge_between_two_fixed_point_values_equal_torchvision() -> None:
    # Their sine is (k + 1/2) / 65536: Pillow's rounding to 15 decimals decides which integer it becomes.
    angles = [math.degrees(math.asin((k + 0.5) / 65536)) for k in range(0, 17_000, 40)]
    count = len(angles)
    draws = AugmentationDraws(
        torch.full((count, 2), 4), torch.zeros(count, dtype=torch.bool), torch.tensor(angles, dtype=torch.float64)
    )
    assert_equal_to_torchvision(random_images(count, 64), draws, 4)


@pytest.mark.parametrize("flip", [False, True])
def test_every_crop_offset_equals_torchvision(flip: bool) -> None:
    offsets = torch.cartesian_prod(torch.arange(9), torch.arange(9))
    count = len(offsets)
    for angle in (0.0, 7.0):
        draws = AugmentationDraws(offsets, torch.full((count,), flip), torch.full((count,), angle, dtype=torch.float64))
        assert_equal_to_torchvision(random_images(count, 32), draws, 4)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("doubtful_distance", [1e-6, 0.01, 1.0])
def test_coefficients_are_those_of_pythons_arithmetic(
    size: int, doubtful_distance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where some or all are computed a second time; a distance of 1 sends every image there."""
    generator = torch.Generator().manual_seed(11)
    count = 30_000
    angles = 360 * torch.rand(count, dtype=torch.float64, generator=generator) - 180
    angles[:9] = torch.tensor([0.0, -0.0, 90, -90, 180, -180, 45, 360, 1e-300])
    expected = torch.tensor([_in_python(angle, size) for angle in angles.tolist()])
    monkeypatch.setattr(augment, "_DOUBTFUL_DISTANCE", doubtful_distance)
    draws = AugmentationDraws(torch.full((count, 2), 4), torch.zeros(count, dtype=torch.bool), angles)
    assert torch.equal(gather_plan(draws, size, 4)[:, :6].long(), expected)


def _in_python(angle: float, size: int) -> list[int]:
    """x0, a, b, y0, d, e as Pillow computes them, one image at a time."""
    r, centre = -math.radians(angle % 360.0), size / 2
    c, s = round(math.cos(r), 15), round(math.sin(r), 15)
    t = c * -centre + s * -centre + centre
    u = -s * -centre + c * -centre + centre
    values = (t + c * 0.5 + s * 0.5, c, s, u - s * 0.5 + c * 0.5, -s, c)
    return [math.floor(value * 65536 + 0.5) for value in values]


def test_without_rotation_the_plan_is_the_short_one_with_the_same_pixels() -> None:
    images = random_images(50, 32)
    draws = draw_augmentation(
        50, crop_padding_pixels=4, horizontal_flip=True, rotation_degrees=0, generator=torch.Generator().manual_seed(2)
    )
    short = gather_plan(draws, 32, 4)
    one_turned = draws.angles.clone()
    one_turned[-1] = 10.0
    long = gather_plan(AugmentationDraws(draws.offsets, draws.flips, one_turned), 32, 4)
    assert short.shape == (50, CROP_FLIP_COLUMNS)
    assert long.shape == (50, ROTATION_COLUMNS)
    assert torch.equal(augment_batch(images, short)[:-1], augment_batch(images, long)[:-1])


@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_indices_gather_out_of_the_whole_data_set(degrees: float) -> None:
    dataset_images = random_images(40, 32)
    indices = torch.tensor([39, 0, 7, 7, 21])
    draws = draw_augmentation(
        5,
        crop_padding_pixels=4,
        horizontal_flip=True,
        rotation_degrees=degrees,
        generator=torch.Generator().manual_seed(3),
    )
    plan = gather_plan(draws, 32, 4)
    before = dataset_images.clone()
    batch = augment_batch(dataset_images, plan, indices)
    assert torch.equal(batch, augment_batch(dataset_images[indices], plan))
    assert torch.equal(dataset_images, before)


def test_a_plan_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="3 or 10 columns, not 4"):
        augment_batch(random_images(2, 32), torch.zeros(2, 4, dtype=torch.int32))


def test_draws_have_torchvisions_distribution_and_follow_the_generator() -> None:
    def draw(seed: int, degrees: float = 15.0) -> AugmentationDraws:
        return draw_augmentation(
            20_000,
            crop_padding_pixels=4,
            horizontal_flip=True,
            rotation_degrees=degrees,
            generator=torch.Generator().manual_seed(seed),
        )

    draws = draw(0)
    for axis in (0, 1):
        counts = draws.offsets[:, axis].bincount(minlength=9)
        assert counts.numel() == 9
        # 20,000 / 9 = 2222 expected a value, standard deviation 44: five of them either way
        assert counts.min() > 2000
        assert counts.max() < 2445
    assert abs(draws.flips.double().mean() - 0.5) < 0.018
    assert -15 <= draws.angles.min() < -14.9
    assert 14.9 < draws.angles.max() <= 15
    assert abs(draws.angles.mean()) < 0.31
    again, other, unturned = draw(0), draw(1), draw(0, degrees=0.0)
    assert torch.equal(draws.angles, again.angles)
    assert not torch.equal(draws.offsets, other.offsets)
    assert torch.equal(draws.offsets, unturned.offsets)
    assert torch.equal(draws.flips, unturned.flips)


def test_what_is_switched_off_is_not_drawn() -> None:
    draws = draw_augmentation(
        100,
        crop_padding_pixels=0,
        horizontal_flip=False,
        rotation_degrees=0.0,
        generator=torch.Generator().manual_seed(0),
    )
    images = random_images(100, 32)
    assert torch.equal(augment_batch(images, gather_plan(draws, 32, 0)), images)


def test_normalize_is_bitwise_totensor_and_normalize() -> None:
    images = random_images(20, 32)
    mean, std = (0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821)
    expected = torch.stack(
        [
            Normalize(mean, std)(functional.to_tensor(Image.fromarray(image.permute(1, 2, 0).numpy())))
            for image in images
        ]
    )
    assert torch.equal(normalize(images, mean, std), expected)
    channels_last = normalize(images, torch.tensor(mean), torch.tensor(std), memory_format=torch.channels_last)
    assert torch.equal(channels_last, expected)
    assert channels_last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(normalize(images, mean, std, dtype=torch.bfloat16), expected.to(torch.bfloat16))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("degrees", [0.0, 15.0])
def test_cuda_gives_the_same_pixels_also_from_a_captured_graph(degrees: float) -> None:
    images, indices = random_images(500, 32), torch.randperm(500)[:128]
    draws = draw_augmentation(
        128,
        crop_padding_pixels=4,
        horizontal_flip=True,
        rotation_degrees=degrees,
        generator=torch.Generator().manual_seed(0),
    )
    plan = gather_plan(draws, 32, 4)
    resident, device_plan, device_indices = images.cuda(), plan.cuda(), indices.cuda()
    mean, std = torch.full((3,), 0.5, device="cuda"), torch.full((3,), 0.25, device="cuda")
    augment_batch(resident, device_plan, device_indices)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        batch = augment_batch(resident, device_plan, device_indices)
        normalized = normalize(batch, mean, std, memory_format=torch.channels_last)
    graph.replay()
    expected = augment_batch(images, plan, indices)
    assert torch.equal(batch.cpu(), expected)
    assert torch.equal(normalized.cpu(), normalize(expected, [0.5] * 3, [0.25] * 3))
