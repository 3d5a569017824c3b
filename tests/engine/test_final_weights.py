"""The weights that a run keeps: those that it ended with, in a file that its record names."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from repro.data import Dataset
from repro.engine import training as train
from repro.engine.device import choose_device, set_up_device
from repro.engine.evaluate import Evaluation
from repro.engine.final_weights import evaluate_weights, load_weights, weights_to_bytes, what_differs
from repro.engine.recording import Recording
from repro.engine.training import train_run
from repro.errors import DataError, RunFailure, UserError
from repro.experiment.schema import Run
from repro.models import build_model
from repro.results import RunFolder, read_record
from repro.results.weights_file import facts_of

MakeRun = Callable[..., Run]
pytestmark = pytest.mark.usefixtures("loaded")
KEEP = Recording(keep_weights=True)


def run_it(run: Run, results: Path, **options: Any) -> Any:
    return train_run(run, results=results, data_root=results, device="cpu", threads=1, **options)


def test_the_weights_are_those_that_the_run_ended_with(
    make_run: MakeRun, tmp_path: Path, loaded: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[nn.Module] = []
    untouched = train.conclude

    def conclude(run: Run, state: Any, *rest: Any) -> Any:
        ended.append(state.model)
        return untouched(run, state, *rest)

    monkeypatch.setattr(train, "conclude", conclude)
    run = make_run("recipe.epochs=1", "execution.memory_format=channels_last")
    record, file = run_it(run, tmp_path, recording=KEEP), RunFolder.of(tmp_path, run).weights
    assert record.weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.weights.size_bytes == file.stat().st_size
    assert read_record(RunFolder.of(tmp_path, run).record) == record

    kept, expected = load_file(file), ended[0].state_dict()
    assert kept.keys() == expected.keys()
    for name, tensor in expected.items():
        assert kept[name].dtype == tensor.dtype
        assert torch.equal(kept[name], tensor), name
        assert kept[name].is_contiguous()
    with safe_open(file, framework="pt") as opened:
        facts = json.loads(opened.metadata()["biasrepro"])
    assert facts == facts_of(file.read_bytes())
    assert facts == {
        "run": run.id,
        "configuration_hash": run.hash,
        "network": "shufflenetv2_x0_5",
        "num_classes": 10,
        "image_size": 32,
        "mean": list(loaded.mean),
        "std": list(loaded.std),
    }


@pytest.mark.parametrize("settings", [[], ["execution.precision=bf16", "execution.memory_format=channels_last"]])
def test_the_weights_evaluate_to_the_last_epoch_of_the_record(
    make_run: MakeRun, tmp_path: Path, loaded: Dataset, settings: list[str]
) -> None:
    run = make_run("recipe.epochs=1", *settings)
    record = run_it(run, tmp_path, recording=KEEP)
    in_force = set_up_device(choose_device("cpu"), run.cell.execution, 1, run.cell.row.model)
    raw = RunFolder.of(tmp_path, run).weights.read_bytes()
    tested, last = evaluate_weights(run, raw, loaded, in_force, where="here"), record.epochs[-1]
    assert tested == Evaluation(last.test_loss, last.test_top1_percent, last.test_top5_percent)
    assert what_differs(record, run, in_force) == []


def test_what_may_change_an_accuracy_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("recipe.epochs=1")
    record = run_it(run, tmp_path)
    elsewhere = record.provenance.model_copy(
        update={"device_name": "NVIDIA H200", "packages": {"torch": "2.11.0", "CUDA": "13.0"}, "code_hash": "c" * 64}
    )
    made = {"precision": "bf16", "threads": 1}
    record = record.model_copy(update={"provenance": elsewhere, "execution_in_force": made})
    in_force = set_up_device(choose_device("cpu"), run.cell.execution, 1, run.cell.row.model)
    named = [line.partition(",")[0] for line in what_differs(record, run, in_force)]
    assert named == [
        "device_name: was NVIDIA H200",
        "packages.torch: was 2.11.0",
        "packages.CUDA: was 13.0",
        "execution.precision: was bf16",
        "code: was cccccccccccc",
    ]


def test_no_weights_are_kept_unless_asked_for_and_the_numbers_are_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("recipe.epochs=1")
    without, with_them = run_it(run, tmp_path / "a"), run_it(run, tmp_path / "b", recording=KEEP)
    assert without.weights is None
    assert not RunFolder.of(tmp_path / "a", run).weights.exists()
    assert b'"weights"' not in RunFolder.of(tmp_path / "a", run).record.read_bytes()
    assert without.outcome() == with_them.outcome()


def test_equal_weights_are_equal_files(make_run: MakeRun, loaded: Dataset) -> None:
    run, model = make_run(), build_model("shufflenetv2_x0_5", 10)
    again = build_model("shufflenetv2_x0_5", 10)
    again.load_state_dict(model.state_dict())
    again = again.to(memory_format=torch.channels_last)
    assert weights_to_bytes(model, run, loaded) == weights_to_bytes(again, run, loaded)


def test_weights_of_torchvision_load_into_torchvision_s_network_as_documented(
    make_run: MakeRun, loaded: Dataset, tmp_path: Path
) -> None:
    trained = build_model("torchvision/mobilenet_v3_small", 100, 32)
    file = tmp_path / "weights.safetensors"
    file.write_bytes(weights_to_bytes(trained, make_run(), loaded))
    text = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    [lines] = [block for block in blocks if "torchvision.models.get_model" in block]
    names: dict[str, Any] = {}
    exec(compile(re.sub(r'"results/\S+\.safetensors"', repr(str(file)), lines), "records.md", "exec"), names)
    images = torch.rand(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(names["network"].eval()(images), trained.eval()(images)[0])
    again = build_model("torchvision/mobilenet_v3_small", 100, 32)
    load_weights(again, file.read_bytes(), where="here")
    assert weights_to_bytes(again, make_run(), loaded) == file.read_bytes()


def test_a_tensor_under_two_names_is_kept_under_both(make_run: MakeRun, loaded: Dataset) -> None:
    layer = nn.Linear(2, 2)
    network = nn.Sequential(layer, layer)
    other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    load_weights(other, weights_to_bytes(network, make_run(), loaded), where="here")
    assert torch.equal(other[0].weight, layer.weight)
    assert torch.equal(other[1].weight, layer.weight)


def test_weights_that_are_none_or_another_networks_are_refused(
    make_run: MakeRun, loaded: Dataset, tmp_path: Path
) -> None:
    model = build_model("squeezenet", 10)
    with pytest.raises(DataError, match="here: not a safetensors file"):
        load_weights(model, b"none", where="here")
    other = weights_to_bytes(build_model("shufflenetv2_x0_5", 10), make_run(), loaded)
    with pytest.raises(DataError, match="here: these are the weights of another network: Missing key"):
        load_weights(model, other, where="here")
    fewer = weights_to_bytes(build_model("squeezenet", 9), make_run(), loaded)
    with pytest.raises(DataError, match="another network: size mismatch"):
        load_weights(model, fewer, where="here")
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign")  # without metadata
    assert facts_of((tmp_path / "foreign").read_bytes()) == facts_of(b"none") == {}


@pytest.mark.parametrize("again", [KEEP, Recording()])
def test_a_run_killed_between_its_weights_and_its_record_leaves_no_half_state(
    again: Recording, make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("recipe.epochs=1")
    folder = RunFolder.of(tmp_path, run)

    def killed(*_: object) -> None:
        assert folder.weights.exists()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "write_record", killed)
        with pytest.raises(KeyboardInterrupt):
            run_it(run, tmp_path, recording=KEEP)
    first = folder.weights.read_bytes()
    assert not folder.record.exists()
    record = run_it(run, tmp_path, recording=again)
    assert folder.weights.exists() == again.keep_weights == (record.weights is not None)
    if again.keep_weights:
        assert folder.weights.read_bytes() == first


def test_weights_that_cannot_be_written_leave_no_record(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train, "write_weights", full)
    run = make_run("recipe.epochs=1")
    with pytest.raises(RunFailure, match="the disk is full: the weights file could not be written"):
        run_it(run, tmp_path, recording=KEEP)
    assert not RunFolder.of(tmp_path, run).record.exists()


def test_a_record_without_weights_is_neither_done_nor_trained_again(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("recipe.epochs=1")
    kept = run_it(run, tmp_path / "kept", recording=KEEP)
    without = run_it(run, tmp_path)
    monkeypatch.setattr(train, "Training", None)
    assert run_it(run, tmp_path / "kept", recording=KEEP) == kept
    with pytest.raises(UserError, match=r"run\.json: this run was recorded without its weights\n.*move run\.json away"):
        run_it(run, tmp_path, recording=KEEP)
    assert run_it(run, tmp_path) == without
    RunFolder.of(tmp_path / "kept", run).weights.unlink()
    with pytest.raises(UserError, match="the weights file that the record names is missing"):
        run_it(run, tmp_path / "kept", recording=KEEP)
    assert run_it(run, tmp_path / "kept") == kept


def test_a_diverged_run_keeps_none(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("recipe.epochs=1", "recipe.warmup_epochs=0", "recipe.learning_rate=100")
    for _ in range(2):  # trained, and asked again
        record = run_it(run, tmp_path, recording=KEEP)
        assert (record.status, record.weights) == ("diverged", None)
    assert not RunFolder.of(tmp_path, run).weights.exists()
