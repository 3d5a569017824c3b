"""Turns a GPU's errors into messages for people, and into a kind for a sweep that may try again.

Errors are recognised by name and text: this module is imported without torch.
"""

from __future__ import annotations

from repro.errors import NoRoomOnGpu, NoSuchDevice, RunFailure, UserError
from repro.experiment.plugins import place_in_plugin
from repro.progress import Trouble

# torch raises AcceleratorError; older code paths raise a RuntimeError with one of these texts.
_LOST_DEVICE = ("CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS", "cuDNN error", "NVML")
# What a GPU without free memory says outside of torch's allocator. cuDNN finds no engine also if all want too much.
_OUT_OF_MEMORY = ("CUDA out of memory", "CUDA error: out of memory")
_PROBABLY_SO = ("ALLOC_FAILED", "ALLOCATION_FAILED", "unable to find an engine")
_NO_HOST_MEMORY = "can't allocate memory"  # torch's allocator on a CPU
_NO_COMPILER = ("InvalidCxxCompiler", "No working C++ compiler", "Failed to find C compiler")
# In the first line of CUDA's errors 900 to 907, such as "operation not permitted when stream is capturing": the GPU is
# well, the work cannot be a graph.
_CAPTURE = "captur"


def explain(error: Exception, run_id: str) -> tuple[Exception, Trouble | None]:
    """The error as people should read it, and its kind if another attempt may succeed."""
    name, text = type(error).__name__, str(error)
    first_line = text.splitlines()[0] if text else name
    from_torch = name in ("RuntimeError", "AcceleratorError")
    surely = name == "OutOfMemoryError" or (from_torch and any(sign in text for sign in _OUT_OF_MEMORY))
    if surely or (from_torch and any(sign in text for sign in _PROBABLY_SO)):
        failure = RunFailure(
            "the GPU's memory ran out" if surely else f"the GPU's memory probably ran out: {first_line}",
            where=run_id,
            hint="Use fewer --jobs-per-gpu, --set execution.recompute=true if the network has it, or a GPU with more "
            "memory. The batch size is part of the experiment and is never changed.",
        )
        return failure, "out_of_memory"
    of_the_gpu = name == "AcceleratorError" or (name == "RuntimeError" and any(sign in text for sign in _LOST_DEVICE))
    if of_the_gpu and _CAPTURE not in first_line:
        failure = RunFailure(
            f"the GPU failed: {first_line}",
            where=run_id,
            hint="`nvidia-smi` shows whether it still works. The same command resumes from the last checkpoint.",
        )
        return failure, "device_lost"
    if isinstance(error, NoSuchDevice):
        return error, "device_lost"
    if isinstance(error, NoRoomOnGpu):
        return error, "out_of_memory"
    if name == "MemoryError" or (from_torch and _NO_HOST_MEMORY in text):
        hint = "Train fewer runs at once (--jobs), or on a machine with more memory."
        return RunFailure("this machine's memory ran out", where=run_id, hint=hint), None
    if any(sign in text for sign in _NO_COMPILER):
        hint = "Install one (on Debian and Ubuntu: apt install g++), or leave execution.compile out."
        return RunFailure("execution.compile found no C or C++ compiler", where=run_id, hint=hint), None
    if not isinstance(error, UserError) and (where := place_in_plugin(error)) is not None:
        return RunFailure(f"the plugin failed: {name}: {text}", where=where), None
    return error, None
