"""The device of a run: which one, and its settings.

``memory_format: auto`` follows measurements on a CPU (docs/performance.md; measure again with ``biasrepro bench MODEL
--arms memory,format``). On CUDA it is an expectation, not measured yet (``benchmarks/choices.py`` measures it).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from repro.errors import ConfigError, NoSuchDevice, UserError
from repro.experiment.catalog import network
from repro.experiment.schema import Execution

# The first so many of cuDNN's list for a convolution, which has those it expects to be fast first. torch tries 10, for
# hundreds of convolutions at every start; the later ones are seldom the fastest. Not measured on a GPU.
CUDNN_ALGORITHMS_TRIED = 4
_VALID = "Valid: auto, cpu, cuda, cuda:0, cuda:1, …"
# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 * 2**20


@dataclass(frozen=True)
class DeviceSettings:
    """The settings in force on ``device``: those of the configuration, as far as the device supports them."""

    device: torch.device
    precision: str
    tf32_convolutions: bool
    tf32_products: bool
    memory_format: str
    compile: bool
    cuda_graph: bool
    deterministic: bool
    recompute: bool
    threads: int

    @property
    def torch_memory_format(self) -> torch.memory_format:
        """``memory_format`` as torch's constant."""
        return torch.channels_last if self.memory_format == "channels_last" else torch.contiguous_format

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """bf16 autocast if the run declares it, else nothing."""
        if self.precision != "bf16":
            return contextlib.nullcontext()
        # Without the cache of cast weights: a graph would reuse the weights of its capture.
        return torch.autocast(self.device.type, dtype=torch.bfloat16, cache_enabled=False)

    @contextlib.contextmanager
    def tuned_convolutions(self, tuned: bool) -> Iterator[None]:
        """Within this, if ``tuned``, cuDNN times algorithms for each new shape and uses the fastest.

        That takes seconds at the start, so it is for full training batches only; short batches take cuDNN's first
        choice, or what was timed for their shape. A deterministic run always takes the first: timings differ from run
        to run.
        """
        torch.backends.cudnn.benchmark = tuned and self.device.type == "cuda" and not self.deterministic
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = False

    def to_record(self) -> dict[str, Any]:
        """The settings as plain values, for a record."""
        return {**vars(self), "device": self.device.type}


@contextlib.contextmanager
def settled_convolutions() -> Iterator[None]:
    """Within this, cuDNN takes its own first choice for a shape, so that another process can repeat an evaluation.

    torch takes what training timed for the same shape again, but not where determinism is asked.
    """
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before


def _has_tf32(device: torch.device) -> bool:
    """Whether ``device`` computes in TF32: NVIDIA's GPUs do from Ampere on, compute capability 8.0."""
    return device.type == "cuda" and not torch.version.hip and torch.cuda.get_device_capability(device) >= (8, 0)


def choose_device(name: str) -> torch.device:
    """``auto`` (CUDA if available), ``cpu``, ``cuda`` or ``cuda:N``. Raises UserError for any other device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device '{name}'", hint=_VALID) from error
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device '{name}' is not supported", hint=_VALID)
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise NoSuchDevice("no CUDA device is available", hint="`biasrepro doctor` shows why; --device cpu works.")
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise NoSuchDevice(f"{name} does not exist: {torch.cuda.device_count()} CUDA device(s) are visible")
        device = torch.device("cuda", index)
    return device


def set_up_device(device: torch.device, execution: Execution, threads: int | None, model: str) -> DeviceSettings:
    """Prepare this process to train ``model`` on ``device``; returns the settings in force.

    Without ``threads``, a run on a CPU takes one, unless OMP_NUM_THREADS is set: the numbers are those of a sweep's
    runs, and beside other work it is faster than several, which wait for each other.

    Raises ConfigError for a run that declares determinism with settings that are not deterministic.
    """
    if threads is None and device.type == "cpu" and not os.environ.get("OMP_NUM_THREADS"):
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.set_device(device)  # streams, graphs and events are made on the current device
    layout = memory_format(execution, model, device.type)
    if on_cuda and execution.deterministic and layout == "channels_last":
        raise ConfigError(
            "execution.deterministic cannot be combined with execution.memory_format channels_last on a GPU: "
            "the gradient of max-pooling adds up in no fixed order there",
            hint="Leave memory_format at auto, or set it to contiguous.",
        )
    # fp32 is what torch does by default, whatever was set in this process before; ieee has no TF32 at all.
    tf32 = _has_tf32(device)
    torch.backends.cudnn.allow_tf32 = tf32_convolutions = tf32 and execution.precision in ("fp32", "tf32")
    torch.backends.cuda.matmul.allow_tf32 = tf32_products = tf32 and execution.precision == "tf32"
    torch.backends.cudnn.benchmark = False  # but for tuned_convolutions()
    torch.backends.cudnn.benchmark_limit = CUDNN_ALGORITHMS_TRIED
    if execution.deterministic and on_cuda:
        # cuBLAS needs this for determinism, and reads it at its first call.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(execution.deterministic)
    # Deterministic mode would also fill new memory, which takes time; nothing here reads memory before writing it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # made at run time
    return DeviceSettings(
        device=device,
        precision="fp32" if execution.precision == "tf32" and not tf32 else execution.precision,
        tf32_convolutions=tf32_convolutions,
        tf32_products=tf32_products,
        memory_format=layout,
        compile=execution.compile,
        cuda_graph=on_cuda and execution.cuda_graph,
        deterministic=execution.deterministic,
        recompute=execution.recompute and "recompute" in network(model).options,
        threads=torch.get_num_threads(),
    )


def memory_format(execution: Execution, model: str, device_type: str) -> str:
    """``contiguous`` or ``channels_last``: as in ``execution``, or for ``auto`` what suits ``model`` on that device."""
    if execution.memory_format != "auto":
        return execution.memory_format
    if device_type == "cpu":
        return network(model).cpu_memory_format
    # fp32 is torch's default, its layout included. The gradient of max-pooling in channels_last adds up in another
    # order in every run.
    if execution.precision not in ("tf32", "bf16") or execution.deterministic:
        return "contiguous"
    return network(model).cuda_memory_format


def keep_freed_memory() -> bool:
    """Tell the C library to keep the memory that a training step frees; returns whether it will.

    By default glibc returns large blocks to the system, and every step waits for the same pages to be mapped and zeroed
    again: a third of SqueezeNet's step on a CPU. Only for a process that trains.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, -1) and mallopt(_M_TOP_PAD, _TOP_PAD_BYTES))
