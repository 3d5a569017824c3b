"""Random crop, flip and rotation of whole batches, equal to torchvision's PIL pipeline in every pixel.

The pipeline is ``RandomCrop(size, padding=p)``, ``RandomHorizontalFlip()``, ``RandomRotation(deg)``, in that order, on
8-bit images, with nearest-neighbour sampling and black fill. Pillow rotates in 16.16 fixed point: for the output pixel
(x, y) it reads the input pixel ``((x0 + a x + b y) >> 16, (y0 + d x + e y) >> 16)``, with the six integers rounded once
per image. So all three transforms together are one integer gather: ``gather_plan`` computes its coefficients on the
CPU, ``augment_batch`` applies them on any device.

Flip and crop change the six integers exactly: ``W - 1 - (v >> 16) == ((W << 16) - 1 - v) >> 16`` for every integer v,
and adding k to a coordinate is adding ``k << 16``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FIXED_POINT_ONE = 1 << 16
_DOUBTFUL_DISTANCE = 1e-6
CROP_FLIP_COLUMNS = 3
ROTATION_COLUMNS = 10


@dataclass(frozen=True)
class AugmentationDraws:
    """The random choices for N images, with the distributions of torchvision's transforms.

    offsets: int64 (N, 2), the crop's top and left in the zero-padded image, in pixels;
    flips: bool (N,); angles: float64 (N,), counter-clockwise, in degrees.
    """

    offsets: Tensor
    flips: Tensor
    angles: Tensor


def draw_augmentation(
    count: int,
    *,
    crop_padding_pixels: int,
    horizontal_flip: bool,
    rotation_degrees: float,
    generator: torch.Generator,
) -> AugmentationDraws:
    """Draws for ``count`` images: offsets uniform over 0..2p, flips with p = 0.5, angles uniform in [-deg, deg].

    All three are always drawn from the CPU ``generator``, in this order: switching one off does not change the others.
    """
    offsets = torch.randint(0, 2 * crop_padding_pixels + 1, (count, 2), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    turns = 2 * torch.rand(count, dtype=torch.float64, generator=generator) - 1
    return AugmentationDraws(offsets, flips & horizontal_flip, turns * rotation_degrees)


def gather_plan(draws: AugmentationDraws, image_size: int, crop_padding_pixels: int) -> Tensor:
    """The integers that ``augment_batch`` needs for each image, for square images of ``image_size`` pixels.

    Returns int32 (N, 10) on the CPU: x0, a, b, y0, d, e in 16.16 fixed point, then the first and last column and
    the first and last row of the image that the crop contains. Without any rotation, int32 (N, 3) in pixels:
    the column read for x = 0, the direction +1 or -1 along the row, the row read for y = 0.
    """
    size = image_size
    top, left = (draws.offsets - crop_padding_pixels).unbind(1)
    flips = draws.flips
    if not bool(draws.angles.any()):
        first_column = torch.where(flips, size - 1 + left, left)
        direction = torch.where(flips, -1, 1)
        return torch.stack((first_column, direction, top), dim=1).to(torch.int32)

    x0, a, b, y0, d, e = _rotation_coefficients(draws.angles, size)
    x0 = torch.where(flips, size * FIXED_POINT_ONE - 1 - x0, x0) + left * FIXED_POINT_ONE
    y0 = y0 + top * FIXED_POINT_ONE
    a, b = torch.where(flips, -a, a), torch.where(flips, -b, b)
    bounds = (left.clamp(min=0), left.clamp(max=0) + size - 1, top.clamp(min=0), top.clamp(max=0) + size - 1)
    return torch.stack((x0, a, b, y0, d, e, *bounds), dim=1).to(torch.int32)


def _rotation_coefficients(angles: Tensor, size: int) -> tuple[Tensor, ...]:
    """x0, a, b, y0, d, e, each int64 (N,), as ``PIL.Image.rotate`` and its C code compute them.

    Pillow uses Python's cosine, sine and round; a vectorized cosine may differ in the last bit, which changes the
    values rounded down here by less than 1e-8. So all images are computed at once, and the few (1 in 100,000) with a
    value within 1e-6 of an integer are computed again as Pillow does it.
    """
    radians = -torch.deg2rad(angles.remainder(360.0))
    values = _unrounded(radians.cos(), radians.sin(), size)
    near = ((values - values.round()).abs() < _DOUBTFUL_DISTANCE).any(dim=0).nonzero().flatten()
    if near.numel():
        values[:, near] = _unrounded(*_pillows_cosines_and_sines(angles[near]), size)
    return torch.floor(values).to(torch.int64).unbind()


def _pillows_cosines_and_sines(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, each float64 (N,), as ``PIL.Image.rotate`` has them."""
    radians = [-math.radians(angle % 360.0) for angle in angles.tolist()]
    cosines = torch.tensor([round(math.cos(r), 15) for r in radians], dtype=torch.float64)
    return cosines, torch.tensor([round(math.sin(r), 15) for r in radians], dtype=torch.float64)


def _unrounded(cosines: Tensor, sines: Tensor, size: int) -> Tensor:
    """Float64 (6, N): x0, a, b, y0, d, e in fixed point, plus a half, before rounding down."""
    a, b, d, e = cosines, sines, -sines, cosines
    centre = size / 2
    x_shift = a * -centre + b * -centre + centre
    y_shift = d * -centre + e * -centre + centre
    x0 = x_shift + a * 0.5 + b * 0.5
    y0 = y_shift + d * 0.5 + e * 0.5
    return torch.stack((x0, a, b, y0, d, e)) * FIXED_POINT_ONE + 0.5


def augment_batch(images: Tensor, coefficients: Tensor, indices: Tensor | None = None) -> Tensor:
    """Applies a plan to uint8 (N, 3, H, W); returns the same shape, black where crop or rotation leave the image.

    coefficients: int32 (N, 3) or (N, 10), rows of ``gather_plan``, on the device of ``images``. indices: int64 (N,);
    if given, ``images`` is a whole data set, and row i takes image ``indices[i]``.

    All shapes are static and the host never waits, so a CUDA graph can capture it. Everything is in integers, so every
    device gives the same pixels.
    """
    if indices is not None:
        images = images.index_select(0, indices)
    count, channels, height, width = images.shape
    columns = coefficients.shape[1]
    if columns == CROP_FLIP_COLUMNS:
        source, inside = _crop_flip_source(coefficients, width)
    elif columns == ROTATION_COLUMNS:
        source, inside = _rotation_source(coefficients, width)
    else:
        raise ValueError(f"a plan has {CROP_FLIP_COLUMNS} or {ROTATION_COLUMNS} columns, not {columns}")
    index = source.view(count, 1, height * width).to(torch.int64).expand(-1, channels, -1)
    gathered = images.view(count, channels, height * width).gather(2, index)
    return gathered.mul_(inside.view(count, 1, height * width)).view(count, channels, height, width)


def _crop_flip_source(coefficients: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Flat source index, int32, and whether it lies inside the image, bool; both (N, H, W)."""
    first_column, direction, first_row = coefficients.unsqueeze(2).unbind(1)
    steps = torch.arange(size, dtype=torch.int32, device=coefficients.device)
    columns = first_column + direction * steps
    rows = first_row + steps
    columns_inside, rows_inside = columns.clamp(0, size - 1), rows.clamp(0, size - 1)
    source = (rows_inside * size).unsqueeze(2) + columns_inside.unsqueeze(1)
    return source, (rows == rows_inside).unsqueeze(2) & (columns == columns_inside).unsqueeze(1)


def _rotation_source(coefficients: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """As ``_crop_flip_source``; inside means inside the crop before the rotation, and inside the image."""
    x0, a, b, y0, d, e, x_first, x_last, y_first, y_last = coefficients.view(-1, ROTATION_COLUMNS, 1, 1).unbind(1)
    x = torch.arange(size, dtype=torch.int32, device=coefficients.device)
    y = x.unsqueeze(1)
    columns = (x0 + a * x + b * y).bitwise_right_shift_(16)
    rows = (y0 + d * x + e * y).bitwise_right_shift_(16)
    columns_inside, rows_inside = columns.clamp(x_first, x_last), rows.clamp(y_first, y_last)
    inside = (columns == columns_inside) & (rows == rows_inside)
    return rows_inside.mul_(size).add_(columns_inside), inside


def normalize(
    images: Tensor,
    mean: Tensor | Sequence[float],
    std: Tensor | Sequence[float],
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Uint8 (N, 3, H, W) to ``dtype``: bitwise torchvision's ``ToTensor`` and ``Normalize`` in float32, then cast.

    mean, std: one value per channel, for pixels in [0, 1]. A list of floats is copied to the device; to avoid that wait
    (inside a CUDA graph, say), pass float32 tensors on the device of ``images``. Call it after ``augment_batch``, whose
    fill is black, not the mean.
    """
    shape = (-1, 1, 1)
    mean = torch.as_tensor(mean, dtype=torch.float32, device=images.device).view(shape)
    std = torch.as_tensor(std, dtype=torch.float32, device=images.device).view(shape)
    # CUDA divides by a number as a product with its reciprocal, which differs in the last bit for half of the pixel
    # values; by a tensor it divides.
    white = torch.full((), 255.0, device=images.device)
    normalized = images.to(torch.float32).div_(white).sub_(mean).div_(std)
    return normalized.to(dtype, memory_format=memory_format)
