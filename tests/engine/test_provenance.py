"""What a record says of the machine that made it."""

from __future__ import annotations

import pytest
import torch

from repro.engine import provenance
from repro.engine.provenance import PACKAGES, environment_facts


def test_a_gpus_record_has_the_versions_of_cuda_and_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "device_name", lambda device: "a GPU")
    monkeypatch.setattr(provenance.machine, "driver_version", lambda: "1.2")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    on_a_gpu, on_a_cpu = (environment_facts(torch.device(kind))["packages"] for kind in ("cuda", "cpu"))
    assert set(on_a_cpu) == set(PACKAGES)
    assert on_a_gpu == {**on_a_cpu, "CUDA": "13.2", "cuDNN": "91002"}
