"""Stands in for a torch that is built for AMD's GPUs: $FAKE_AMD_GPUS has their names, and ``broken`` breaks the import.

As in ROCm, ROCR_VISIBLE_DEVICES chooses first, then HIP_VISIBLE_DEVICES (without it CUDA_VISIBLE_DEVICES) of those.
"""

from __future__ import annotations

import os
from types import SimpleNamespace

from . import version as version

_names = os.environ.get("FAKE_AMD_GPUS", "").split(",") if os.environ.get("FAKE_AMD_GPUS") else []
if _names == ["broken"]:
    raise ImportError("libamdhip64.so: cannot open shared object file")
for _variable in (
    "ROCR_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES" if "HIP_VISIBLE_DEVICES" in os.environ else "CUDA_VISIBLE_DEVICES",
):
    if _variable in os.environ:
        _names = [_names[int(entry)] for entry in os.environ[_variable].split(",")]

cuda = SimpleNamespace(
    device_count=lambda: len(_names),
    is_available=lambda: bool(_names),
    get_device_properties=lambda index: SimpleNamespace(name=_names[index], total_memory=192 * 2**30),
)
