"""The device's speed in a large matrix product and a large copy, and the work of a training step.

The work is a lower bound for kernels that are not fused. Arithmetic: convolutions and linear layers, once forward and
twice backward, 2 operations per multiply-accumulate. Memory, in 4-byte numbers: each layer reads its input and writes
its output; backward it reads its input and the gradient of its output, and writes the gradient of its input. A speed
above this bound means that kernels were fused or that maps stayed in a cache.
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
    """The device's best speeds: operations and bytes per second."""

    operations_per_second: float
    bytes_per_second: float


@dataclass(frozen=True)
class Need:
    """The least that training on one image takes: arithmetic operations, and bytes read and written."""

    operations: float
    bytes: float

    def images_per_second(self, bound: Bound) -> tuple[float, str]:
        """The most that ``bound`` allows, and what limits it: ``arithmetic`` or ``memory``."""
        by_arithmetic = bound.operations_per_second / self.operations
        by_memory = bound.bytes_per_second / self.bytes
        return (by_arithmetic, "arithmetic") if by_arithmetic < by_memory else (by_memory, "memory")


def measure_bound(device: torch.device, precision: str) -> Bound:
    """Time a matrix product in ``precision`` and a copy on ``device``; the best of some repeats each."""
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
    """Count the work of the cell's network on torch's meta device, without computing anything."""
    size = cell.dataset.side_pixels
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
    """Seconds of the fastest repeat, after one to warm up."""
    times = []
    for _ in range(_REPEATS + 1):
        wait_for(device)
        began = time.perf_counter()
        work()
        wait_for(device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def wait_for(device: torch.device) -> None:
    """Wait until a GPU has done its queued work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
