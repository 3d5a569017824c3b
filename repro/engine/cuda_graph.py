"""A training step as a CUDA graph: captured once for each batch size, then replayed with one launch.

Small networks leave a GPU idle while the host launches hundreds of kernels one by one; a graph launches all at once.
A graph holds addresses, not values, so everything that changes from step to step keeps its place in memory: images and
targets are copied into the graph's own tensors, the learning rate is a tensor, and weights, momentum, statistics and
totals are updated in place. Dropout draws from the device's generator, whose seed is read at every replay.

A capture needs a few real steps first, which choose cuDNN's algorithms and reserve memory. They are undone bit for bit.
See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from repro.engine.faults import explain
from repro.errors import RunFailure

WARM_UP_STEPS = 3

BatchFunction = Callable[[Tensor, Tensor], None]
"""Takes images and targets of a batch, and changes state in place."""

Capture = Callable[[Callable[[], None], Callable[[], None]], Callable[[], None]]
"""Takes the work and a function that undoes it; returns a function that repeats it. Keeps the generator's state."""


class GraphedBatch:
    """``function`` as graphs, one for each batch size: full batches, and the short one at an epoch's end.

    ``state`` lists every tensor that ``function`` changes.
    """

    def __init__(self, function: BatchFunction, state: Callable[[], Iterable[Tensor]], capture: Capture) -> None:
        self._function = function
        self._state = state
        self._capture = capture
        self._captured: dict[int, tuple[Tensor, Tensor, Callable[[], None]]] = {}

    def __call__(self, images: Tensor, targets: Tensor) -> None:
        """Run on images (N, 3, H, W) and targets (N,)."""
        size = len(targets)
        if size not in self._captured:
            self._captured[size] = self._prepare(images.clone(), targets.clone())
        graph_images, graph_targets, replay = self._captured[size]
        graph_images.copy_(images)
        graph_targets.copy_(targets)
        replay()

    def _prepare(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Callable[[], None]]:
        """Capture the step on these tensors, and leave the state as it was. Returns both and the replay."""
        before = [(tensor, tensor.detach().clone()) for tensor in self._state()]

        def work() -> None:
            self._function(images, targets)

        def undo() -> None:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)

        return images, targets, self._capture(work, undo)


class CudaCapture:
    """Captures on ``device``, the current one. All graphs share a memory pool, since they never run at once.

    ``seconds`` is what all of them took: ``warm_up``, in which cuDNN chooses its algorithms, and ``capture``.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device()  # starts CUDA, which makes the generators
        self._generator = torch.cuda.default_generators[index]
        # One stream for warm-up and capture: autograd nodes belong to the stream they were made on.
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self.seconds = {"warm_up": 0.0, "capture": 0.0}

    def __call__(self, work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        """Warm up, undo that, capture. Raises RunFailure for work that cannot be captured."""
        began = time.monotonic()
        generator_state = self._generator.get_state()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_STEPS):
                work()
            undo()
        torch.cuda.current_stream().wait_stream(self._stream)
        self._stream.synchronize()
        torch.cuda.empty_cache()  # the graph has memory of its own: what the warm-up took is free again
        self.seconds["warm_up"] += (warm := time.monotonic()) - began
        self._generator.set_state(generator_state)
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with nothing_collected(), torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
        except RuntimeError as error:
            torch.cuda.set_stream(stream)  # torch.cuda.graph leaves its own where ending the capture failed
            raise capture_failure(error) from error
        self._generator.set_state(generator_state)
        self.seconds["capture"] += time.monotonic() - warm
        return graph.replay


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Within this Python collects no garbage: an old graph that is freed during a capture makes the capture fail."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def capture_failure(error: RuntimeError) -> Exception:
    """The error to raise for a capture that ended with ``error``: out of memory, a lost GPU, or else a RunFailure.

    Ending a capture whose work failed raises a second error, with the first one as its context. Out of memory and a
    lost GPU stay as they are, since a sweep tries those runs again.
    """
    first: BaseException = error
    while first.__context__ is not None:
        first = first.__context__
    if isinstance(first, Exception) and explain(first, "")[1] is not None:
        return first
    return RunFailure(
        f"the training step cannot be captured as a CUDA graph: {(str(first).splitlines() or [''])[0]}",
        hint="Train without it: --set execution.cuda_graph=false. The numbers are the same.",
    )
