"""What ``auto`` stands for, by device and network: chosen by measurement, docs/performance.md has the figures.

Measured again by ``biasrepro bench MODEL --arms memory,format``: how much faster ``format`` is than ``memory`` is what
``channels_last`` is worth. A CPU was measured; on CUDA the choice is the usual one, and is not measured yet.
"""

from __future__ import annotations

from repro.experiment.catalog import NETWORKS
from repro.experiment.schema import Execution


def memory_format(execution: Execution, model: str, device_type: str) -> str:
    """``contiguous`` or ``channels_last``: what ``execution`` says, or what suits ``model`` on that type of device."""
    if execution.memory_format != "auto":
        return execution.memory_format
    if device_type == "cpu":
        return NETWORKS[model].cpu_memory_format
    # Tensor cores take channels_last; full fp32 arithmetic does not use them. The gradient of max-pooling in
    # channels_last adds up atomically, in an order of its own at every run.
    uses_tensor_cores = execution.precision in ("tf32", "bf16")
    return "channels_last" if uses_tensor_cores and not execution.deterministic else "contiguous"
