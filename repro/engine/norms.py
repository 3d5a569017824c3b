"""Faster batch norm, with PyTorch's own kernels.

On a GPU each of them launches a kernel to count the batch; here one counts for all. On a CPU two things slow their
backward pass down several times (docs/performance.md has the figures): gradients that are not dense in channels_last,
and, on a few threads, a number of channels that does not fill whole cache lines. PyTorch keeps each thread's sums in a
row, one row after the other: neighbouring threads then write to the cache line that their rows share, and take it from
each other at every pixel.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

CHANNELS_IN_A_CACHE_LINE = 16  # 64 bytes of float32
# Channels for which one thread was faster than two that share a line; with more channels that line matters less.
ONE_THREAD_FORWARD = range(33, 65)
ONE_THREAD_BACKWARD = range(1, 129)
# More threads shorten the work and share no more lines: one thread is not faster than many.
MOST_THREADS = 4


@contextlib.contextmanager
def batches_counted_at_once(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    """Within this, for one training step, count the batch in one kernel for all ``norms``, none without momentum.

    A norm without a counter does not count; only without momentum would it read the counter.
    """
    counters = [norm.num_batches_tracked for norm in norms if norm.num_batches_tracked is not None]
    for norm in norms:
        norm.num_batches_tracked = None
    try:
        yield
    finally:
        for norm, counter in zip(norms, counters, strict=True):
            norm.num_batches_tracked = counter
    if counters:
        torch._foreach_add_(counters, 1)


def norms_that_count(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of ``model`` that ``batches_counted_at_once`` can count for."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    return [norm for norm in norms if norm.momentum is not None and norm.num_batches_tracked is not None]


def prepare_norms(model: nn.Module) -> None:
    """Speed up all batch norms of ``model`` for training on a CPU in channels_last.

    Their gradients are made dense; norms whose threads would share cache lines run on one. Call it after the number of
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
    """Make the gradient of ``maps`` (N, C, H, W), in channels_last, dense and channels_last too.

    The gradient of a global pooling is one number per map, repeated by strides of zero; that of a part of a
    concatenation is a slice. A CPU reads either element by element, which takes a batch norm 5 to 18 times as long.
    """
    if maps.requires_grad and maps.is_contiguous(memory_format=torch.channels_last):
        maps.register_hook(_dense)


def _dense(gradient: Tensor | None) -> Tensor | None:
    """The gradient in channels_last; None without one, as from a compiled network, which is one operation."""
    return None if gradient is None else gradient.contiguous(memory_format=torch.channels_last)


def _go_back_on_one_thread(maps: Tensor, threads: int) -> None:
    """Run the backward pass of the operation that made ``maps`` on one thread, then return to ``threads``."""
    node = maps.grad_fn
    if node is None or not maps.is_contiguous(memory_format=torch.channels_last):
        return
    node.register_prehook(lambda _gradients: torch.set_num_threads(1))
    node.register_hook(lambda _inputs, _outputs: torch.set_num_threads(threads))
