"""The watch over the loss: at once where asking costs nothing, never waiting long where it would."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from repro.engine.finite_check import COPIES_UNDER_WAY, STEPS_BETWEEN_COPIES, FiniteCheck
from repro.engine.step import NO_BAD_STEP

QUEUED_AT_MOST = (COPIES_UNDER_WAY + 1) * STEPS_BETWEEN_COPIES


class SlowLook:
    """A look that arrives once the device has come to the step at which it began."""

    def __init__(self, device: Device, value: int) -> None:
        self._device, self._began, self._value = device, device.queued, value

    def arrived(self) -> bool:
        self._device.done += 1  # it works on while the host asks
        return self._device.done >= self._began

    def value(self) -> int:
        assert self._device.done >= self._began
        return self._value


class Device:
    """Steps that were queued and steps that are done."""

    def __init__(self) -> None:
        self.queued = self.done = 0


def test_on_a_cpu_the_bad_step_is_known_at_once() -> None:
    bad_step = torch.tensor(NO_BAD_STEP)
    watch = FiniteCheck(bad_step)
    assert watch.after_step() is None
    bad_step.fill_(2)
    assert watch.after_step() == 2


@pytest.mark.parametrize("bad_at", [1, 5, 16, 17, 100])
def test_on_a_gpu_it_is_known_soon_and_the_host_never_runs_far_ahead(
    bad_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("repro.engine.finite_check._NAP_SECONDS", 0.0)
    device = Device()
    bad_step = torch.tensor(NO_BAD_STEP)

    def start_copy(tensor: Tensor) -> SlowLook:
        return SlowLook(device, int(tensor))

    watch = FiniteCheck(bad_step, start_copy)
    for step in range(1, 1000):
        device.queued = step
        if step == bad_at:
            bad_step.fill_(bad_at)
        told = watch.after_step()
        assert device.queued - device.done <= QUEUED_AT_MOST
        if told is not None:
            break
    assert told == bad_at
    assert step < bad_at + QUEUED_AT_MOST
