"""``biasrepro evaluate``: the accuracies of kept weights, and whether they are those of the record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import repro
from repro.data import Dataset, load_dataset
from repro.engine.final_weights import weights_to_bytes
from repro.experiment.catalog import LOSSES
from repro.experiment.config import find_cell
from repro.experiment.plugins import PLUGINS, Plugin
from repro.experiment.schema import Run
from repro.models import build_model
from repro.results import RunFolder, RunRecord, write_record, write_weights

Say = Callable[..., Any]
TABLE = "demo+dataset.classes=2"
RUN = Run(cell=find_cell(f"{TABLE}/shufflenetv2/ce"), seed=0)
CELL = RUN.cell.id


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", classes=2)


@pytest.fixture(scope="module")
def network(digits: Dataset) -> nn.Module:
    """A network that was never trained, with the statistics of the images in its batch norms."""
    torch.manual_seed(3)
    model = build_model("shufflenetv2_x0_5", 2, 32, stem_stride=2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model(normalized(digits, digits.train_images[:64]))
    return model.eval()


def normalized(digits: Dataset, images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (digits.mean, digits.std))
    return (images.float() / 255 - mean) / std


@pytest.fixture(scope="module")
def top1_percent(digits: Dataset, network: nn.Module) -> float:
    """By a loop of this test's own."""
    with torch.no_grad():
        predicted = network(normalized(digits, digits.test_images))[0].argmax(dim=1)
    assert predicted.unique().tolist() == [0, 1]
    return 100 * ((predicted == digits.test_labels).sum().item() / len(digits.test_labels))


@pytest.fixture
def recorded(tmp_path: Path, fake_runs: Any, digits: Dataset, network: nn.Module, top1_percent: float) -> Any:
    """Records the network as if trained, on this machine or another; returns its folder."""

    def record(*, run: Run = RUN, top1: float = top1_percent, keep: bool = True, **fields: Any) -> RunFolder:
        folder = RunFolder.of(tmp_path, run)
        kept = write_weights(folder, weights_to_bytes(network, run, digits)) if keep else None
        last = {"test_top1_percent": top1, "test_top5_percent": 100.0}
        *before, end = fake_runs.epochs_of(run)
        epochs = (
            *(epoch.model_copy(update={"test_top1_percent": 0.0}) for epoch in before),
            end.model_copy(update=last),
        )
        made = {"device": "cpu", "device_name": "a processor", "data_fingerprint": digits.fingerprint}
        fields = (
            {"epochs": epochs, "last_top1_percent": top1, "weights": kept, "execution_in_force": {}} | made | fields
        )
        made_up: RunRecord = fake_runs.record(run, **fields)
        write_record(folder, made_up)
        return folder

    return record


def test_weights_that_come_to_their_record_s_accuracy_are_equal(
    say: Say, recorded: Any, tmp_path: Path, top1_percent: float
) -> None:
    folder = recorded()
    said = say("evaluate", CELL, "--results", tmp_path)
    assert (said.code, said.err) == (0, "")
    line = f"{RUN.id}: top-1 {top1_percent:.2f} %, top-5 100.00 % on 71 test images"
    assert said.out.splitlines() == [line, "equal to the record"]
    for path in (folder.path, folder.record, folder.weights):
        assert say("evaluate", path).out == said.out
    elsewhere = say("evaluate", "demo/shufflenetv2/ce", "--set", "dataset.classes=2", "--results", tmp_path)
    assert elsewhere.out == said.out


def test_a_difference_is_shown_with_its_probable_cause_and_exit_code_1(
    say: Say, recorded: Any, tmp_path: Path, top1_percent: float
) -> None:
    recorded(top1=top1_percent - 1.5)
    said = say("evaluate", CELL, "--results", tmp_path)
    assert said.code == 1
    assert (
        f"not equal to the record: top-1 {top1_percent - 1.5:.2f} % (+1.50 here), top-5 100.00 % (+0.00 here)"
        in said.out
    )
    assert "probable cause  device_name: was a processor, is " in said.out


def test_json_has_exact_numbers(say: Say, recorded: Any, tmp_path: Path, top1_percent: float) -> None:
    folder = recorded(top1=1.0)
    said = say("evaluate", CELL, "--results", tmp_path, "--json")
    assert said.code == 1
    shown = json.loads(said.out)
    assert (shown["run"], shown["equal"], shown["top1_percent"]) == (RUN.id, False, top1_percent)
    assert shown["recorded"]["top1_percent"] == 1.0
    assert shown["weights"]["path"] == str(folder.weights)
    assert shown["weights"]["size_bytes"] == folder.weights.stat().st_size
    assert shown["differs"][0].startswith("device_name: was a processor")


def test_what_cannot_be_evaluated_is_one_message(say: Say, recorded: Any, tmp_path: Path, digits: Dataset) -> None:
    def refused(*arguments: object) -> str:
        said = say("evaluate", *arguments, "--results", tmp_path)
        assert (said.code, said.out) == (2, "")
        return str(said.err)

    # No record, no weights, a diverged run
    train = f"biasrepro train {CELL} --seed 0 --keep-weights --results {tmp_path}"
    assert f"run.json: this run has no record\n  {train} trains it.\n" in refused(CELL)
    assert f"  {train} --root {tmp_path}/data trains it.\n" in refused(CELL, "--root", tmp_path / "data")
    recorded(keep=False)
    said = refused(CELL)
    assert "run.json: this run was recorded without its weights\n  To get them, move run.json away" in said
    diverged = RUN.model_copy(update={"seed": 1})
    recorded(run=diverged, keep=False, status="diverged", reason="not finite at step 3")
    assert "this run diverged, and keeps no weights" in refused(CELL, "--seed", 1)

    # Missing, damaged and other weights
    folder = recorded(run=RUN.model_copy(update={"seed": 2}))
    other = recorded(run=RUN.model_copy(update={"seed": 3}))
    whole = folder.weights.read_bytes()
    folder.weights.unlink()
    assert "weights.safetensors: the weights file that the record names is missing" in refused(CELL, "--seed", 2)
    folder.weights.write_bytes(whole[:-1])
    said = refused(CELL, "--seed", 2)
    assert "does not match the hash in its record: it is cut short or damaged" in said
    folder.weights.write_bytes(other.weights.read_bytes())
    assert f"in its record: the file says that it is of {CELL}/seed-3" in refused(CELL, "--seed", 2)

    # Other images, another network
    recorded(run=RUN.model_copy(update={"seed": 4}), data_fingerprint="another", data_source="an archive")
    said = refused(CELL, "--seed", 4)
    assert "the images here are not those that the run was trained on" in said
    assert "Its images came from: an archive." in said
    squeezenet = Run(cell=RUN.cell.model_copy(update={"row": find_cell("table2/squeezenet/ce").row}), seed=0)
    said = say("evaluate", recorded(run=squeezenet).path)
    assert (said.code, "weights of another network: Missing key" in said.err) == (2, True)


def test_wrong_targets_are_one_message(say: Say, recorded: Any, tmp_path: Path) -> None:
    folder = recorded()
    for arguments, why in (
        ([folder.path / "progress.json"], "not a file of a run"),
        ([tmp_path / "seed-0"], "there is no record here"),
        ([folder.path, "--seed", 0], "--seed has no effect on a run's file"),
        ([folder.path, "--set", "recipe.epochs=2"], "--set has no effect"),
        (["demo/nasnet/ce"], "nasnet"),
        ([CELL, "--device", "tpu"], "unknown device 'tpu'"),
        ([CELL, "--device", "mps"], "Apple's GPU (mps) is not supported"),
    ):
        said = say("evaluate", *arguments, *(["--results", tmp_path] if arguments[0] == CELL else []))
        assert (said.code, why in said.err) == (2, True), said.err


def test_a_record_of_another_configuration_is_evaluated_by_its_folder(say: Say, recorded: Any, tmp_path: Path) -> None:
    other = RUN.cell.recipe.model_copy(update={"momentum": 0.5})
    folder = recorded(run=Run(cell=RUN.cell.model_copy(update={"recipe": other}), seed=0))
    said = say("evaluate", CELL, "--results", tmp_path)
    assert (said.code, f"name its folder: biasrepro evaluate {folder.path}" in said.err) == (2, True)
    assert say("evaluate", folder.path).code == 0


def test_a_plugin_that_has_changed_is_named_by_its_cell_and_by_its_folder(
    say: Say, own_text: str, fake_runs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = Plugin("my_study", tmp_path / "my_study.py", "a" * 64)
    monkeypatch.setitem(PLUGINS, "my_study", loss)
    monkeypatch.setitem(LOSSES, "my_study/focal", LOSSES["ce"])
    table = tmp_path / "mine.yaml"
    text = own_text.replace("{id: bias, title: Bias loss, loss: bias}", "{id: focal, title: F, loss: my_study/focal}")
    table.write_text(text.replace("bias: 91", "focal: 91"))
    run = Run(cell=find_cell(f"{table}/squeezenet/focal"), seed=0)
    folder = RunFolder.of(tmp_path, run)
    write_record(folder, fake_runs.record(run))
    monkeypatch.setitem(PLUGINS, "my_study", replace(loss, sha256="b" * 64))
    for target in ((folder.path,), (run.cell.id.replace("mine", str(table)), "--results", tmp_path)):
        said = say("evaluate", *target)
        assert (said.code, said.out) == (2, "")
        assert f"sources.my_study is '{'a' * 64}' there, '{'b' * 64}' here\n" in said.err
        assert "  The run was trained with another version of my_study.py: evaluate it with that version.\n" in said.err


def test_the_documented_lines_load_the_weights(
    recorded: Any, tmp_path: Path, digits: Dataset, network: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded()
    text = (Path(repro.__file__).parent.parent / "docs" / "records.md").read_text()
    [lines] = [block for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "safe_open" in block]
    lines = re.sub(r'"results/\S+\.safetensors"', repr(str(folder.weights)), lines)
    ours = 'build_model("shufflenetv2_x0_5", num_classes=2, stem_stride=2,'
    lines = lines.replace('build_model("squeezenet_bn", num_classes=100,', ours)
    names: dict[str, Any] = {"pixels": digits.test_images}
    exec(compile(lines, "records.md", "exec"), names)
    with torch.no_grad():
        expected, features = network(normalized(digits, digits.test_images))
    assert torch.equal(names["logits"], expected)
    assert torch.equal(names["features"], features)
