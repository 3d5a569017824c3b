"""The energy that a GPU takes while a run trains on it alone."""

from __future__ import annotations

import time

import torch

from repro import machine
from repro.engine.provenance import gpu_uuid

# Asking the driver takes some 10 ms; epochs may be shorter than a second.
SECONDS_BETWEEN_LOOKS = 10.0


class EnergyMeter:
    """Reads the driver's counter of a GPU's energy from now on.

    The counter is of the whole GPU, idle power included. So it tells the energy of a run only while the driver names no
    other process on the GPU: now, at times when ``look`` is called, and at the end.
    """

    def __init__(self, device: torch.device) -> None:
        self._uuid = gpu_uuid(device)
        self._began = self._read()
        self._looked = time.monotonic()

    def look(self) -> None:
        """Give up for good if the GPU is shared now; asks at most every ``SECONDS_BETWEEN_LOOKS``."""
        if self._began is None or time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        if self._read() is None:
            self._began = None

    def joules(self) -> float | None:
        """The energy since the beginning in J; None on a CPU, if the GPU was shared, or if the driver does not tell."""
        now = self._read()
        return None if self._began is None or now is None or now < self._began else now - self._began

    def _read(self) -> float | None:
        return None if self._uuid is None else machine.energy_of_unshared_gpu(self._uuid)
