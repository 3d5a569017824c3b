"""Declared ways of computing: bf16 learns as fp32 does, compilation computes the same, and neither is ever silent."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from repro.data import Dataset
from repro.engine.device import DeviceSettings, memory_format, set_up_device
from repro.engine.learner import Learner
from repro.engine.training import train_run
from repro.errors import ConfigError
from repro.experiment.catalog import NETWORKS
from repro.experiment.config import load_table
from repro.experiment.schema import Execution, Run
from repro.models import build_model

MakeRun = Callable[..., Run]


def engine(run: Run, dataset: Dataset) -> Learner:
    device = torch.device("cpu")
    return Learner(run, dataset, set_up_device(device, run.cell.execution, 1, run.cell.row.model))


@pytest.mark.slow
def test_bf16_learns_digits_as_fp32_does(tmp_path: Path) -> None:
    """Measured with 5 seeds on a CPU with bf16 units: 92.8 % and 92.3 %, with standard deviations of 2.0 points.

    Each processor rounds differently, which is as good as another seed: the difference of two means of three has a
    standard error of 1.6 points, and may be three times that.
    """
    recipe = ("recipe.epochs=3", "recipe.decay_epochs=[2]", "recipe.batch_size=64")
    recipe += ("recipe.learning_rate=0.1", "recipe.warmup_epochs=1")
    accuracies: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        experiments = Path(__file__).parents[2] / "experiments"
        table = load_table(experiments / "demo.yaml", (*recipe, f"execution.precision={precision}"))
        cell = next(cell for cell in table.cells if cell.column.id == "bias")
        for seed in range(3):
            record = train_run(Run(cell=cell, seed=seed), results=tmp_path, data_root=tmp_path, device="cpu", threads=1)
            assert record.execution_in_force["precision"] == precision
            accuracies.setdefault(precision, []).append(record.last_top1_percent or 0.0)
    assert accuracies["bf16"] != accuracies["fp32"]
    assert min(accuracies["bf16"]) > 80
    assert statistics.mean(accuracies["bf16"]) > statistics.mean(accuracies["fp32"]) - 5


def test_bf16_keeps_weights_loss_and_momentum_in_float32(make_run: MakeRun, small_dataset: Dataset) -> None:
    learner = engine(make_run("execution.precision=bf16"), small_dataset)
    seen: list[torch.dtype] = []
    learner.state.model.register_forward_hook(lambda _model, _inputs, outputs: seen.append(outputs[1].dtype))
    learner.feed.begin_epoch(1)
    learner.train_on_batch(0)
    assert seen == [torch.bfloat16]
    floats = [tensor for tensor in learner.state.tensors() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float32, torch.float64}  # float64: the totals


def test_only_full_batches_are_compiled_and_evaluation_is_not(
    make_run: MakeRun, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[int] = []

    def compiler(model: nn.Module, **options: Any) -> Callable[[Tensor], Any]:
        assert options == {"dynamic": False}

        def forward(images: Tensor) -> Any:
            compiled.append(len(images))
            return model(images)

        return forward

    monkeypatch.setattr(torch, "compile", compiler)
    learner = engine(make_run("execution.compile=true"), small_dataset)
    learner.feed.begin_epoch(1)
    for step in range(learner.feed.steps):
        learner.train_on_batch(step)
    learner.evaluate()
    assert compiled == [32, 32]
    assert learner.settings.compile


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile needs on a CPU")
@pytest.mark.filterwarnings("default")  # of torch's own about itself
def test_a_compiled_step_is_the_eager_one_up_to_rounding(make_run: MakeRun, small_dataset: Dataset) -> None:
    models = []
    for compile_ in ("false", "true"):
        run = make_run("recipe.learning_rate=0.002", f"execution.compile={compile_}")
        row = run.cell.row.model_copy(update={"model": "squeezenet"})
        learner = engine(run.model_copy(update={"cell": run.cell.model_copy(update={"row": row})}), small_dataset)
        for module in learner.state.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # compiled kernels draw their own
        learner.feed.begin_epoch(1)
        for step in range(learner.feed.steps):
            learner.train_on_batch(step)
        models.append(torch.cat([value.detach().flatten() for value in learner.state.model.parameters()]))
    torch.testing.assert_close(models[1], models[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("execution", "device", "expected"),
    [
        ({}, "cpu", "channels_last"),
        ({"memory_format": "contiguous"}, "cpu", "contiguous"),
        ({}, "cuda", "contiguous"),
        ({"precision": "bf16"}, "cuda", "channels_last"),
        ({"precision": "tf32"}, "cuda", "channels_last"),
        ({"precision": "tf32", "deterministic": True}, "cuda", "contiguous"),
    ],
)
def test_auto_is_the_format_that_suits_the_device(execution: dict[str, Any], device: str, expected: str) -> None:
    assert memory_format(Execution(**execution), "squeezenet", device) == expected


def test_depthwise_networks_stay_contiguous_on_a_gpu() -> None:
    for name in NETWORKS:
        with torch.device("meta"):
            layers = list(build_model(name, 10).modules())
        depthwise = any(isinstance(layer, nn.Conv2d) and layer.groups > 1 for layer in layers)
        expected = "contiguous" if depthwise else "channels_last"
        assert memory_format(Execution(precision="bf16"), name, "cuda") == expected, name


def test_what_is_in_force_is_what_is_done_not_what_was_asked_for() -> None:
    device = torch.device("cpu")
    settings = set_up_device(device, Execution(precision="tf32"), 1, "squeezenet")
    assert (settings.precision, settings.cuda_graph) == ("fp32", False)


@pytest.mark.parametrize(("device", "deterministic"), [("cuda", False), ("cuda", True), ("cpu", False)])
def test_algorithms_are_timed_only_for_full_batches(
    device: str, deterministic: bool, make_run: MakeRun, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = engine(make_run(), small_dataset)
    seen: list[tuple[int, bool]] = []
    learner.state.model.register_forward_hook(
        lambda _model, inputs, _outputs: seen.append((len(inputs[0]), torch.backends.cudnn.benchmark))
    )
    tune = DeviceSettings.tuned_convolutions
    settings = replace(learner.settings, device=torch.device(device), deterministic=deterministic)
    monkeypatch.setattr(DeviceSettings, "tuned_convolutions", lambda _settings, full: tune(settings, full))
    learner.feed.begin_epoch(1)
    for step in range(learner.feed.steps):
        learner.train_on_batch(step)
    learner.evaluate()
    timed = device == "cuda" and not deterministic
    assert seen == [(32, timed), (32, timed), (20, False), (40, False)]


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize(
    ("precision", "convolutions", "products"),
    [("fp32", True, False), ("ieee", False, False), ("tf32", True, True), ("bf16", False, False)],
)
def test_tf32_is_in_force_as_declared(
    precision: str,
    convolutions: bool,
    products: bool,
    capability: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The default is torch's own on the device, whatever was set before; a CPU and older GPUs have no TF32."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    execution = Execution.model_validate({"precision": precision})
    for device, is_there in (("cuda", capability >= (8, 0)), ("cpu", False)):
        used = set_up_device(torch.device(device, 0), execution, 1, "squeezenet").to_record()
        in_force = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
        assert (used["tf32_convolutions"], used["tf32_products"]) == in_force
        assert in_force == (convolutions and is_there, products and is_there)


def test_deterministic_max_pooling_in_channels_last_is_refused_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    execution = Execution(deterministic=True, memory_format="channels_last")
    with pytest.raises(ConfigError, match="deterministic cannot be combined"):
        set_up_device(torch.device("cuda", 0), execution, 1, "squeezenet")
