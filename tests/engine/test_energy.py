"""The energy of a run is that of its GPU, if nothing else is seen on it; otherwise there is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from repro import machine
from repro.engine.energy import EnergyMeter

UUID = "11111111-aaaa"
GPU = torch.device("cuda", 0)


def has_used(
    monkeypatch: pytest.MonkeyPatch, millijoules: int | None, processes: list[int] | None, **more: Any
) -> None:
    """The driver says this of the GPU from now on; None where it does not tell."""
    facts = {"uuid": f"GPU-{UUID}", "energy": millijoules, "processes": processes, **more}
    gpu = {key: value for key, value in facts.items() if value is not None}
    monkeypatch.setenv("FAKE_NVML", json.dumps({"gpus": [{"uuid": "GPU-2", "energy": 1, "processes": [3]}, gpu]}))


@pytest.fixture(autouse=True)
def _one_gpu(fake_driver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_driver()
    monkeypatch.setattr("repro.engine.energy.gpu_uuid", lambda device: UUID if device.type == "cuda" else None)
    monkeypatch.setattr(machine, "mps_is_running", lambda: False)
    has_used(monkeypatch, 5_000, [77])


def test_it_is_the_difference_of_the_drivers_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = EnergyMeter(GPU)
    meter.look()
    has_used(monkeypatch, 12_500, [77])
    assert meter.joules() == 7.5


def test_a_gpu_that_was_shared_for_a_while_tells_none(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = EnergyMeter(GPU)
    has_used(monkeypatch, 6_000, [77, 78])
    meter.look()  # too soon after the beginning
    assert meter._began is not None
    monkeypatch.setattr("repro.engine.energy.SECONDS_BETWEEN_LOOKS", 0.0)
    meter.look()
    has_used(monkeypatch, 7_000, [77])
    assert meter.joules() is None


@pytest.mark.parametrize(
    "told",
    [
        {"millijoules": None, "processes": [77]},
        {"millijoules": 5_000, "processes": None},
        {"millijoules": 5_000, "processes": [77, 78]},
        {"millijoules": 5_000, "processes": []},  # in a container that hides even this process
        {"millijoules": 4_000, "processes": [77]},  # the driver was loaded anew
        {"millijoules": 9_000, "processes": [77], "slices": [{"uuid": f"MIG-{UUID}"}]},
    ],
    ids=str,
)
def test_what_the_driver_does_not_tell_of_this_run_alone_is_none(
    told: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = EnergyMeter(GPU)
    has_used(monkeypatch, **told)
    assert meter.joules() is None


def test_under_mps_or_on_a_cpu_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert EnergyMeter(torch.device("cpu")).joules() is None
    monkeypatch.setattr(machine, "mps_is_running", lambda: True)
    assert EnergyMeter(GPU).joules() is None
