from __future__ import annotations

import sys

import pytest

from repro.errors import UserError
from repro.experiment.config import find_cell
from repro.sweep.cost import measure as measuring
from repro.sweep.cost.measure import measure
from repro.sweep.devices.slots import Slot

CPU = Slot("cpu", "cpu", 1, {"OMP_NUM_THREADS": "1"})


@pytest.mark.slow
def test_a_short_measurement_needs_no_data() -> None:
    cells = [find_cell("demo/shufflenetv2/bias"), find_cell("table2/shufflenetv2/ce")]
    digits, cifar = measure(cells, CPU, seconds=0.1)
    assert digits.source == cifar.source == "measured"
    assert (digits.parameters, cifar.parameters) == (352_042, 444_292)
    assert digits.seconds_per_epoch is not None
    assert cifar.seconds_per_epoch is not None
    # 50,000 and 10,000 images a epoch instead of 1,442 and 355, in networks of about the same work an image.
    assert 5 < cifar.seconds_per_epoch / digits.seconds_per_epoch < 200


def test_a_measurement_that_breaks_down_says_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.sys, "executable", "/bin/sh")
    with pytest.raises(UserError, match="the measurement failed: "):
        list(measure([find_cell("demo/shufflenetv2/bias")], CPU))


def test_asking_for_a_measurement_does_not_import_torch() -> None:
    assert measuring.__name__ in sys.modules
    assert not hasattr(measuring, "torch")
