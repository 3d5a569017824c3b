"""What a failed run's error means for the person who reads it, and for the sweep that may try again.

Errors are told apart by name and text: this is imported before torch is.
"""

from __future__ import annotations

from repro.errors import RunFailure
from repro.progress import Trouble

# torch raises AcceleratorError, and where it does not yet, a RuntimeError with one of these in it.
_LOST_DEVICE = ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS", "cuDNN error", "NVML")


def explain(error: Exception, run_id: str) -> tuple[Exception, Trouble | None]:
    """The error as a person should read it, and its kind where another attempt may go better."""
    name, text = type(error).__name__, str(error)
    if name == "OutOfMemoryError" or (name == "RuntimeError" and "CUDA out of memory" in text):
        failure = RunFailure(
            "the GPU's memory ran out",
            where=run_id,
            hint="Fewer --jobs-per-gpu, --set execution.recompute=true where the network offers it, or a GPU with more "
            "memory. The batch size belongs to the experiment and is never changed.",
        )
        return failure, "out_of_memory"
    if name == "AcceleratorError" or (name == "RuntimeError" and any(sign in text for sign in _LOST_DEVICE)):
        failure = RunFailure(
            f"the GPU failed: {text.splitlines()[0] if text else name}",
            where=run_id,
            hint="`nvidia-smi` shows whether it is still there. The same command goes on from the last checkpoint.",
        )
        return failure, "device_lost"
    return error, None
