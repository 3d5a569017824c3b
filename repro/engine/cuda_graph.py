"""A training step as a CUDA graph: captured once for each batch size, then replayed with one launch.

Small networks leave a GPU idle while the host launches their hundreds of kernels one by one; a graph launches them all
at once. A graph holds addresses, not values, so everything that changes from step to step keeps its place in memory:
images and targets are copied into the graph's own tensors, the learning rate is a tensor, weights, momentum, statistics
and totals are updated in place. Dropout draws from the device's generator, whose seed every replay reads anew.

A capture needs a few real steps first: they choose cuDNN's algorithms and reserve memory. They are undone bit for bit.
See https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from repro.engine.faults import explain
from repro.errors import RunFailure

WARM_UP_STEPS = 3

BatchFunction = Callable[[Tensor, Tensor], None]
"""Takes images and targets of a batch, and changes state in place."""


@dataclass(frozen=True)
class Captured:
    """A captured step: its own input tensors, and what replays it."""

    images: Tensor
    targets: Tensor
    replay: Callable[[], None]


class GraphedBatch:
    """``function`` as graphs, one for each batch size: a full batch, and the short one at an epoch's end.

    ``state`` lists every tensor that ``function`` changes. ``capture`` turns work without arguments into a function
    that repeats it, as ``CudaCapture`` does.
    """

    def __init__(self, function: BatchFunction, state: Callable[[], Iterable[Tensor]], capture: Capture) -> None:
        self._function = function
        self._state = state
        self._capture = capture
        self._captured: dict[int, Captured] = {}

    def __call__(self, images: Tensor, targets: Tensor) -> None:
        """Run on images (N, 3, H, W) and targets (N,)."""
        size = len(targets)
        if size not in self._captured:
            self._captured[size] = self._prepare(images, targets)
        captured = self._captured[size]
        captured.images.copy_(images)
        captured.targets.copy_(targets)
        captured.replay()

    def _prepare(self, images: Tensor, targets: Tensor) -> Captured:
        """Capture the step for batches of this shape, and leave the state as it was."""
        images, targets = images.clone(), targets.clone()
        before = [(tensor, tensor.detach().clone()) for tensor in self._state()]

        def work() -> None:
            self._function(images, targets)

        def undo() -> None:
            with torch.no_grad():
                for tensor, value in before:
                    tensor.copy_(value)

        return Captured(images, targets, self._capture(work, undo))


Capture = Callable[[Callable[[], None], Callable[[], None]], Callable[[], None]]
"""Takes the work and what undoes its changes to the state; the generator's state is restored by the capture itself."""


class CudaCapture:
    """Captures on ``device``, the current one. All graphs share a memory pool, since they never run at once.

    Nothing in the pool outlives a replay: gradients are made and used within it.
    """

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device()  # starts CUDA, which makes the generators
        self._generator = torch.cuda.default_generators[index]
        # One stream for warm-up and capture: the nodes of autograd belong to the stream they were made on.
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], None], undo: Callable[[], None]) -> Callable[[], None]:
        """Warm up, undo that, capture. Raises RunFailure where the work cannot be captured."""
        generator_state = self._generator.get_state()
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UP_STEPS):
                work()
            undo()
        torch.cuda.current_stream().wait_stream(self._stream)
        self._generator.set_state(generator_state)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                work()
        except RuntimeError as error:
            raise capture_failure(error) from error
        self._generator.set_state(generator_state)
        return graph.replay


def capture_failure(error: RuntimeError) -> Exception:
    """What made a capture fail, given the error that it ended with: the work's own error, or else a RunFailure.

    Ending a capture whose work failed raises another error, which hides the first as its context. Too little memory
    and a lost GPU stay what they are: the sweep tries those runs again.
    """
    first: BaseException = error
    while first.__context__ is not None:
        first = first.__context__
    if isinstance(first, Exception) and explain(first, "")[1] is not None:
        return first
    return RunFailure(
        f"the training step cannot be captured as a CUDA graph: {first}",
        hint="--set execution.cuda_graph=false trains without; the numbers are the same.",
    )
