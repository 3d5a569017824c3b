"""Stands in for nvidia-ml-py: answers from the JSON in $FAKE_NVML, in this process and in those it starts.

``{"driver": "570.1", "gpus": [{"uuid": ..., "name": ..., "memory": [total, free], "energy": mJ, "processes": [...],
"slices": [...]}]}``; a slice is like a GPU. What is left out, the driver does not tell. Without the variable there is
no driver.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

Device = dict[str, Any]


class NVMLError(Exception):
    """The driver has no answer."""


def _machine() -> dict[str, Any]:
    if "FAKE_NVML" not in os.environ:
        raise NVMLError("Driver Not Loaded")
    machine: dict[str, Any] = json.loads(os.environ["FAKE_NVML"])
    return machine


def _told(of: Device, what: str) -> Any:
    if what not in of:
        raise NVMLError("Not Supported")
    return of[what]


def nvmlInit() -> None:
    _machine()


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return str(_told(_machine(), "driver"))


def nvmlDeviceGetCount() -> int:
    return len(_machine()["gpus"])


def nvmlDeviceGetHandleByIndex(index: int) -> Device:
    return dict(_machine()["gpus"][index])


def nvmlDeviceGetUUID(device: Device) -> str:
    return str(_told(device, "uuid"))


def nvmlDeviceGetName(device: Device) -> str:
    return str(_told(device, "name"))


def nvmlDeviceGetMemoryInfo(device: Device) -> SimpleNamespace:
    total, free = _told(device, "memory")
    return SimpleNamespace(total=total, free=free)


def nvmlDeviceGetTotalEnergyConsumption(device: Device) -> int:
    return int(_told(device, "energy"))


def nvmlDeviceGetComputeRunningProcesses(device: Device) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid) for pid in _told(device, "processes")]


def nvmlDeviceGetMaxMigDeviceCount(device: Device) -> int:
    return 7 if "slices" in device else 0


def nvmlDeviceGetMigDeviceHandleByIndex(device: Device, index: int) -> Device:
    if index >= len(device["slices"]):
        raise NVMLError("Not Found")
    return dict(device["slices"][index])
