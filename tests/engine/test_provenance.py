"""What a record says of the machine that made it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repro.data import Dataset
from repro.engine import provenance
from repro.engine.changes import check_changes
from repro.engine.provenance import PACKAGES, environment_facts, fingerprint, peak_memory_bytes
from repro.errors import ConfigError
from repro.experiment.config import find_table
from repro.experiment.schema import Run
from repro.results import Provenance


def test_a_gpus_record_has_the_versions_of_cuda_and_cudnn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "device_name", lambda device: "a GPU")
    monkeypatch.setattr(provenance.machine, "driver_version", lambda: "1.2")
    monkeypatch.setattr(provenance, "gpu_uuid", lambda device: None)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91002)
    on_a_gpu, on_a_cpu = (environment_facts(torch.device(kind))["packages"] for kind in ("cuda", "cpu"))
    assert set(on_a_cpu) == set(PACKAGES)
    assert on_a_gpu == {**on_a_cpu, "CUDA": "13.2", "cuDNN": "91002"}


def test_a_run_says_its_gpu_and_its_peak_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cpu = environment_facts(torch.device("cpu"))
    assert on_a_cpu["device_uuid"] is None
    assert peak_memory_bytes(torch.device("cpu")) > 50e6  # PyTorch alone
    monkeypatch.setattr(provenance, "device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="0-1-2"))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 4096)
    assert environment_facts(torch.device("cuda"))["device_uuid"] == "0-1-2"
    assert peak_memory_bytes(torch.device("cuda")) == 4096


def test_an_anonymous_record_does_not_name_its_gpu(fake_runs: Any) -> None:
    made = fake_runs.record(Run(cell=find_table("demo").cells[0], seed=0)).provenance.model_dump()
    assert Provenance(**{**made, "device_uuid": "0-1-2"}).device_uuid == "0-1-2"
    assert Provenance(**{**made, "device_uuid": "0-1-2", "host": ""}).device_uuid is None


@pytest.mark.parametrize(
    ("module", "question"), [(provenance.machine, "processor_model"), (torch.backends.cpu, "get_cpu_capability")]
)
def test_a_run_notices_another_processor_of_the_same_name(
    monkeypatch: pytest.MonkeyPatch, small_dataset: Dataset, module: Any, question: str
) -> None:
    run = Run(cell=find_table("demo").cells[0], seed=0)
    monkeypatch.setattr(provenance, "device_name", lambda device: "a name")
    before = [fingerprint(run, torch.device(kind), small_dataset) for kind in ("cpu", "cuda")]
    monkeypatch.setattr(module, question, lambda: "another")
    cpu, gpu = (fingerprint(run, torch.device(kind), small_dataset) for kind in ("cpu", "cuda"))
    assert {key for key in cpu if cpu[key] != before[0][key]} == {"processor"}
    assert gpu == before[1]


@pytest.mark.parametrize("key", ["processor", "images"])
def test_what_an_older_checkpoint_does_not_say_has_not_changed(key: str) -> None:
    run = Run(cell=find_table("demo").cells[0], seed=0)
    now = {"threads": "1", key: "one"}

    def changes(*, accepted: bool = True, **before: str) -> list[str]:
        saved = {"configuration": run.configuration(), "epoch": 1, "fingerprint": before}
        return check_changes(saved, run, now, accepted=accepted, where="here")

    assert changes(threads="1") == []
    assert changes(**now) == []
    assert changes(threads="1", **{key: "another"}) == [f"{key}: was another, is one"]
    assert changes(**{key: "one"}) == ["threads: was absent, is 1"]
    with pytest.raises(ConfigError, match="was another, is one"):
        changes(accepted=False, threads="1", **{key: "another"})
