"""Batch norm on a CPU: PyTorch's kernels as they are, called so that they do not wait for themselves.

Two things make their backward pass several times slower than it need be (docs/performance.md has the figures):
gradients that are not dense in channels_last, and, on a few threads, sums over a number of channels that does not fill
whole cache lines. The latter are kept in one row for each thread, one row after the other, so that neighbouring threads
write to the line which both rows share, and take it from each other at every pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

CHANNELS_IN_A_CACHE_LINE = 16  # 64 bytes of float32
# Where one thread was faster than two that share lines; with more channels the lines they share matter less.
ONE_THREAD_FORWARD = range(33, 65)
ONE_THREAD_BACKWARD = range(1, 129)
# Every further thread shares no more lines and shortens the work: with many of them, one alone is not faster.
MOST_THREADS = 4


def prepare_norms(model: nn.Module) -> None:
    """Have all batch norms of ``model``, trained on a CPU in channels_last, take the faster way.

    Gradients come to them laid out; those that share cache lines are computed on one thread. Call it once the number of
    threads is set.
    """
    threads = torch.get_num_threads()
    for norm in model.modules():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        norm.register_forward_hook(lambda _norm, _inputs, maps: lay_out_gradient(maps))
        if not 1 < threads <= MOST_THREADS or norm.num_features % CHANNELS_IN_A_CACHE_LINE == 0:
            continue
        if norm.num_features in ONE_THREAD_FORWARD:
            norm.register_forward_pre_hook(lambda _norm, _inputs: torch.set_num_threads(1))
            norm.register_forward_hook(lambda _norm, _inputs, _maps: torch.set_num_threads(threads), always_call=True)
        if norm.num_features in ONE_THREAD_BACKWARD:
            norm.register_forward_hook(lambda _norm, _inputs, maps: _go_back_on_one_thread(maps, threads))


def lay_out_gradient(maps: Tensor) -> None:
    """Have the gradient of ``maps`` (N, C, H, W), in channels_last, come to what made them dense and in channels_last.

    The gradient of a global pooling is one number a map, repeated by strides of zero; that of a part of a
    concatenation is a slice. A CPU walks through either element by element: 5 to 18 times as long, for a batch norm.
    """
    if maps.requires_grad and maps.is_contiguous(memory_format=torch.channels_last):
        maps.register_hook(_dense)


def _dense(gradient: Tensor | None) -> Tensor | None:
    """The gradient in channels_last; None where none comes, as from a compiled network, which is one operation."""
    return None if gradient is None else gradient.contiguous(memory_format=torch.channels_last)


def _go_back_on_one_thread(maps: Tensor, threads: int) -> None:
    """Compute the gradients of what made ``maps`` on one thread, and go on with ``threads``."""
    node = maps.grad_fn
    if node is None or not maps.is_contiguous(memory_format=torch.channels_last):
        return
    node.register_prehook(lambda _gradients: torch.set_num_threads(1))
    node.register_hook(lambda _inputs, _outputs: torch.set_num_threads(threads))
