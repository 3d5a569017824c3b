"""Errors of torch as people should read them, and whether a sweep may try again: by the texts that torch has."""

from __future__ import annotations

import pytest
import torch

from repro.engine.faults import explain
from repro.errors import NoRoomOnGpu, RunFailure


@pytest.mark.parametrize(
    ("error", "trouble", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "out_of_memory", "memory ran out"),
        (torch.AcceleratorError("CUDA error: out of memory\nCompile with"), "out_of_memory", "memory ran out"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            "out_of_memory",
            "memory probably ran out: CUDA error: CUBLAS_STATUS_ALLOC_FAILED",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "out_of_memory", "memory probably ran out"),
        (
            RuntimeError("FIND was unable to find an engine to execute this computation"),
            "out_of_memory",
            "memory probably ran out: FIND was unable",
        ),
        (NoRoomOnGpu("the images take 1 GB"), "out_of_memory", "the images take 1 GB"),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "device_lost", "the GPU failed"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            None,
            "this machine's memory ran out",
        ),
        (MemoryError(), None, "this machine's memory ran out"),
        (
            RuntimeError("InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx"),
            None,
            "execution.compile found no C or C++ compiler",
        ),
    ],
)
def test_what_failed_is_said_and_whether_it_is_worth_another_attempt(
    error: Exception, trouble: str | None, said: str
) -> None:
    shown, found = explain(error, "table/row/ce/seed-0")
    assert isinstance(shown, RunFailure)
    assert found == trouble
    assert said in str(shown)


def test_any_other_error_stays_as_it_is() -> None:
    for error in (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("out of memory")):
        assert explain(error, "run") == (error, None)
