from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from repro.errors import RunFailure, UserError
from repro.experiment.config import find_cell
from repro.experiment.schema import Run
from repro.sweep.cost import measure as measuring
from repro.sweep.cost.estimate import Cost
from repro.sweep.cost.measure import measure
from repro.sweep.devices.slots import Slot

CPU = Slot("cpu", "cpu", 1, {"OMP_NUM_THREADS": "1"})


def run() -> Run:
    return Run(cell=find_cell("table2/shufflenetv2/ce"), seed=0)


@pytest.mark.slow
def test_a_short_measurement_needs_no_data() -> None:
    cells = [find_cell("demo/shufflenetv2/bias"), find_cell("table2/shufflenetv2/ce")]
    digits, cifar = measure(cells, CPU, seconds=0.1)
    assert digits.source == cifar.source == "measured"
    assert (digits.parameters, cifar.parameters) == (352_042, 444_292)
    assert digits.seconds_per_epoch is not None
    assert cifar.seconds_per_epoch is not None
    assert min(digits.start_seconds, cifar.start_seconds) > 0.5  # PyTorch was imported
    # 50,000 and 10,000 images a epoch instead of 1,442 and 355, in networks of about the same work an image.
    assert 5 < cifar.seconds_per_epoch / digits.seconds_per_epoch < 200


def test_a_measurement_that_breaks_down_says_its_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring.sys, "executable", "/bin/sh")
    with pytest.raises(UserError, match="the measurement failed: "):
        list(measure([find_cell("demo/shufflenetv2/bias")], CPU))


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [4, 128]), ("cuda", [128])])
def test_a_gpu_is_measured_at_the_full_batch_only(
    device: str, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = SimpleNamespace(state=SimpleNamespace(model=torch.nn.Identity()))
    built: list[int] = []
    monkeypatch.setattr(measuring, "_training", lambda _run, size, _device, _threads: built.append(size) or training)
    monkeypatch.setattr(measuring, "_seconds_per_step", lambda _training, _seconds: 0.004)
    cost = measuring.measure_run(run(), device=device, threads=1, seconds=3.0)
    assert built == sizes
    assert cost.seconds_per_epoch == pytest.approx((50_000 + 10_000 / 3) * 0.004 / 128)


def test_the_first_epoch_is_not_timed_and_takes_nothing_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it chooses algorithms and captures graphs for longer than the measurement is to take."""
    clock = 0.0
    costs = iter([100.0, *[0.125] * 100])
    begun: list[int] = []

    def train(_step: int) -> None:
        nonlocal clock
        clock += next(costs)

    training = SimpleNamespace(
        steps=2,
        learner=SimpleNamespace(train_on_batch=train),
        feed=SimpleNamespace(begin_epoch=begun.append),
        device=torch.device("cpu"),
    )
    monkeypatch.setattr(measuring, "time", SimpleNamespace(monotonic=lambda: clock))
    assert measuring._seconds_per_step(training, 1.0) == 0.125
    assert len(begun) == 1 + 4  # augmentation is timed too, as in a run


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RunFailure("the training step cannot be captured as a CUDA graph: a wait", hint="Without."), "graph: a wait"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU's memory ran out"),
    ],
)
def test_a_cell_that_cannot_be_measured_says_why_and_the_others_are(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    costs = [error, Cost(1.0, 10, "measured")]

    def measure_run(_run: Run, **_named: Any) -> Cost:
        if isinstance(first := costs.pop(0), Exception):
            raise first
        return first

    monkeypatch.setattr(measuring, "measure_run", measure_run)
    request = {"runs": [run().model_dump(mode="json")] * 2, "device": "cuda", "threads": 1, "seconds": 3.0}
    request["plugins"] = []
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(request)))
    measuring.main()
    failed, good = (Cost(**json.loads(line)) for line in capsys.readouterr().out.splitlines())
    assert failed.source == "unknown"
    assert said in (failed.problem or "")
    assert good == Cost(1.0, 10, "measured")


def test_asking_for_a_measurement_does_not_import_torch() -> None:
    assert measuring.__name__ in sys.modules
    assert not hasattr(measuring, "torch")
