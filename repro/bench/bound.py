"""What the device could do at best: its speed in a large matrix product and a large copy, and what a step needs.

The count of a step is a lower bound for kernels that are not fused. Arithmetic: the convolutions and linear layers,
forward and twice over backward, 2 operations a multiply-accumulate. Memory, in 4-byte numbers: every operation reads
its input and writes its output; going backward it reads its input and the gradient of its output, and writes the
gradient of its input. A share above 1 therefore says that kernels were fused or maps stayed in a cache.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from repro.experiment.schema import Cell
from repro.models import build_model

BYTES_A_NUMBER = 4
_REPEATS = 5


@dataclass(frozen=True)
class Bound:
    """The device's best: operations and bytes a second."""

    operations_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class Need:
    """What training on one image takes at least: arithmetic operations, and bytes read and written."""

    operations: float
    bytes: float

    def images_per_second(self, bound: Bound) -> tuple[float, str]:
        """The most that ``bound`` allows, and what of it is the tighter: ``arithmetic`` or ``memory``."""
        by_arithmetic = bound.operations_per_second / self.operations
        by_memory = bound.bytes_per_second / self.bytes
        return (by_arithmetic, "arithmetic") if by_arithmetic < by_memory else (by_memory, "memory")


def measure_bound(device: torch.device, precision: str) -> Bound:
    """The best of some runs of a matrix product in ``precision`` and of a copy on ``device``."""
    side, numbers = (8192, 2**28) if device.type == "cuda" else (2048, 2**26)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty(side, side, device=device, dtype=dtype)
    seconds = _best(device, lambda: torch.mm(left, right, out=product))
    source = torch.zeros(numbers, device=device)
    target = torch.empty_like(source)
    copying = _best(device, lambda: target.copy_(source))
    return Bound(2 * side**3 / seconds, 2 * numbers * BYTES_A_NUMBER / copying)


def need_of(cell: Cell) -> Need:
    """Counted on torch's meta device, without arithmetic."""
    size = cell.dataset.image_size
    options = cell.row.options.model_dump()
    with torch.device("meta"):
        model = build_model(cell.row.model, cell.dataset.num_classes, size, **options).eval()
        image = torch.empty(1, 3, size, size)
    multiplications = 0
    numbers = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal multiplications, numbers
        taken = sum(tensor.numel() for tensor in inputs)
        numbers += (taken + output.numel()) + (taken + output.numel() + taken)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            multiplications += output.numel() * layer.weight[0].numel()

    for layer in model.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    with torch.no_grad():
        model(image)
    return Need(operations=3 * 2 * multiplications, bytes=numbers * BYTES_A_NUMBER)


def _best(device: torch.device, work: Callable[[], object]) -> float:
    """Seconds of the fastest of some repeats, after one to warm up."""
    times = []
    for _ in range(_REPEATS + 1):
        _wait(device)
        began = time.perf_counter()
        work()
        _wait(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
