"""Training does what the YAML says: against a plain loop written here, with every field of the recipe off its default.

The step below is the textbook's: PIL images through torchvision's functions one by one, the updates of SGD and AdamW
written out, cross-entropy weighted by the formula. It shares only the draws (order, augmentation, initialization) with
what it is held against, and begins each step where that stands: through batch norms of random images, a last bit's
difference grows ten-thousandfold in a step.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as transforms

from repro.data import Dataset
from repro.data.augment import draw_augmentation
from repro.engine import learner
from repro.engine import training as train
from repro.engine.batches import Feed
from repro.engine.device import set_up_device
from repro.engine.evaluate import Evaluator
from repro.engine.randomness import derived_seed, generator
from repro.engine.training import train_run
from repro.experiment.catalog import DatasetFacts
from repro.experiment.config import load_table
from repro.experiment.schema import Execution, Run
from repro.models import build_model

MakeRun = Callable[..., Run]

EVERY_FIELD = """
table: every_field
label: Every field
title: A recipe with every field off its default
kind: study
dataset: {name: digits}
recipe:
OPTIMIZER
  epochs: 3
  batch_size: 24
  warmup_epochs: 1
  weight_decay: 0.03
  drop_last: true
  augmentation: {crop_padding_pixels: 3, horizontal_flip: true, rotation_degrees: 20}
weighting: {alpha: 0.9, beta: 0.2}
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: shufflenetv2, title: ShuffleNetV2 0.5x, model: shufflenetv2_x0_5, options: {stem_stride: 2}}
"""
SGD = """\
  learning_rate: 0.05
  decay_epochs: [1, 2]
  decay_factor: 0.3
  momentum: 0.6
  nesterov: true
"""
ADAMW = """\
  optimizer: adamw
  learning_rate: 0.002
  schedule: cosine
  final_learning_rate: 0.0005
  betas: [0.8, 0.95]
  epsilon: 0.001
  label_smoothing: 0.2
"""
# The learning rate of every step: 84 images make 3 full batches of 24; the warm-up takes epoch 1. The cosine of 6 steps
# passes through pi/6, pi/3, pi/2, 2 pi/3 and 5 pi/6.
HALF = 3**0.5 / 2
FALLING = [0.00125 + 0.00075 * cosine for cosine in (1, HALF, 0.5, 0, -0.5, -HALF)]
RATES = {
    SGD: [[0.05 / 3, 0.1 / 3, 0.05], [0.015] * 3, [0.0045] * 3],
    ADAMW: [[0.002 / 3, 0.004 / 3, 0.002], FALLING[:3], FALLING[3:]],
}
State = dict[str, Tensor]


def initial_model(run: Run) -> nn.Module:
    torch.manual_seed(derived_seed(run.seed, "initialization"))
    return build_model(run.cell.row.model, 10, 32, stem_stride=2).train()


def picture(image: Tensor, offset: list[int], flip: bool, angle: float, dataset: Dataset) -> Tensor:
    drawn = Image.fromarray(image.permute(1, 2, 0).numpy())
    drawn = transforms.crop(transforms.pad(drawn, 3), offset[0], offset[1], 32, 32)
    drawn = transforms.rotate(transforms.hflip(drawn) if flip else drawn, angle)
    return transforms.normalize(transforms.to_tensor(drawn), dataset.mean, dataset.std)


def batch_of(dataset: Dataset, seed: int, epoch: int, step: int) -> tuple[Tensor, Tensor]:
    order = torch.randperm(84, generator=generator(seed, "order", epoch)).tolist()
    draws = draw_augmentation(
        84,
        crop_padding_pixels=3,
        horizontal_flip=True,
        rotation_degrees=20,
        generator=generator(seed, "augmentation", epoch),
    )
    images, targets = [], []
    for place in range(24 * step, 24 * step + 24):
        image, offset = dataset.train_images[order[place]], draws.offsets[place].tolist()
        images.append(picture(image, offset, bool(draws.flips[place]), float(draws.angles[place]), dataset))
        targets.append(int(dataset.train_labels[order[place]]))
    return torch.stack(images).contiguous(memory_format=torch.channels_last), torch.tensor(targets)


def plain_gradients(model: nn.Module, images: Tensor, targets: Tensor, smoothing: float) -> list[Tensor]:
    """The gradients of the bias loss over cross-entropy whose targets are smoothed, class by class."""
    logits, features = model(images)
    variance = features.detach().flatten(1).var(dim=1)
    scaled = (variance - variance.min()) / (variance.max() - variance.min())
    weights = torch.exp(0.9 * scaled) - 0.2
    wanted = (1 - smoothing) * nn.functional.one_hot(targets, 10) + smoothing / 10
    loss = (weights * -(wanted * logits.log_softmax(dim=1)).sum(dim=1)).mean()
    return list(torch.autograd.grad(loss, list(model.parameters())))


def sgd(weight: Tensor, gradient: Tensor, state: State, rate: float) -> tuple[Tensor, State]:
    """SGD with weight decay 0.03, momentum 0.6 and Nesterov's step."""
    gradient = gradient + 0.03 * weight
    moved = 0.6 * state["momentum_buffer"] + gradient
    return weight - rate * (gradient + 0.6 * moved), {"momentum_buffer": moved}


def adamw(weight: Tensor, gradient: Tensor, state: State, rate: float) -> tuple[Tensor, State]:
    """AdamW with betas 0.8 and 0.95, epsilon 0.001 and weight decay 0.03: Loshchilov and Hutter 2019, algorithm 2."""
    step = state["step"] + 1
    first = 0.8 * state["exp_avg"] + 0.2 * gradient
    second = 0.95 * state["exp_avg_sq"] + 0.05 * gradient**2
    direction = first / (1 - 0.8**step) / ((second / (1 - 0.95**step)).sqrt() + 0.001)
    return weight - rate * (direction + 0.03 * weight), {"step": step, "exp_avg": first, "exp_avg_sq": second}


@pytest.mark.usefixtures("loaded")
@pytest.mark.parametrize(
    ("fields", "update", "smoothing"), [(SGD, sgd, 0.0), (ADAMW, adamw, 0.2)], ids=["sgd", "adamw"]
)
def test_every_step_is_the_textbooks_with_every_field_off_its_default(
    fields: str, update: Any, smoothing: float, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "every_field.yaml"
    file.write_text(EVERY_FIELD.replace("OPTIMIZER\n", fields))
    table = load_table(file)
    run = Run(cell=table.cell(table.rows[0], table.columns[1]), seed=0)
    take = learner.Learner.train_on_batch
    taken: list[tuple[int, int]] = []

    def compared(self: learner.Learner, step: int) -> int:
        model, optimizer, epoch = self.state.model, self.state.optimizer, self.state.epoch
        before = copy.deepcopy(model)
        if not taken:
            for name, tensor in initial_model(run).state_dict().items():
                assert torch.equal(before.state_dict()[name], tensor), name
        states = [copy.deepcopy(optimizer.state[parameter]) for parameter in model.parameters()]
        images, targets = batch_of(small_dataset, run.seed, epoch, step)
        gradients = plain_gradients(before, images, targets, smoothing)
        count = take(self, step)
        for old, ours, gradient, state in zip(before.parameters(), model.parameters(), gradients, states, strict=True):
            weight, after = update(old.detach(), gradient, state, RATES[fields][epoch - 1][step])
            torch.testing.assert_close(ours.detach(), weight, rtol=1e-4, atol=1e-5)
            assert optimizer.state[ours].keys() == after.keys()
            for name, expected in after.items():
                torch.testing.assert_close(optimizer.state[ours][name], expected, rtol=1e-3, atol=1e-4)
        taken.append((epoch, step))
        return count

    monkeypatch.setattr(learner.Learner, "train_on_batch", compared)
    record = train_run(run, results=tmp_path, data_root=tmp_path, device="cpu", threads=1)
    assert taken == [(epoch, step) for epoch in (1, 2, 3) for step in (0, 1, 2)]
    assert [epoch.learning_rate for epoch in record.epochs] == pytest.approx([rates[-1] for rates in RATES[fields]])
    for epoch in record.epochs:
        assert (epoch.weight_min, epoch.weight_max) == pytest.approx((0.8, math.exp(0.9) - 0.2), abs=1e-5)


@pytest.mark.usefixtures("loaded")
def test_all_losses_of_a_seed_begin_alike_and_see_the_same_batches(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begun: dict[str, tuple[list[Tensor], list[Tensor]]] = {}
    columns = ("ce", "inverse_bias", "mean_bias", "bias")
    for column in columns:
        batches: list[Tensor] = []
        weights: list[Tensor] = []
        with monkeypatch.context() as patch:
            untouched = Feed.batch

            def watched(feed: Any, step: int, kept: Any = untouched, seen: list[Tensor] = batches) -> Any:
                images, targets = kept(feed, step)
                seen += [images.clone(), targets.clone()]
                return images, targets

            patch.setattr(Feed, "batch", watched)

            def building(*arguments: Any, kept: list[Tensor] = weights, **options: Any) -> nn.Module:
                model = build_model(*arguments, **options)
                kept += [tensor.clone() for tensor in model.state_dict().values()]
                return model

            patch.setattr(learner, "build_model", building)
            run = make_run("recipe.epochs=1", column=column, seed=5)
            train_run(run, results=tmp_path, data_root=tmp_path, device="cpu", threads=1)
        begun[column] = (weights, batches)
    for column in columns[1:]:
        for expected, found in zip(begun["ce"], begun[column], strict=True):
            assert len(expected) == len(found) > 0
            assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_subset_and_the_weighting_reach_training(
    make_run: MakeRun, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def loading(facts: DatasetFacts, root: Path, classes: int | None = None, **named: Any) -> Dataset:
        asked.append((facts.name, classes))
        return small_dataset

    monkeypatch.setattr(train, "load_dataset", loading)
    train_run(
        make_run("dataset.classes=10", "recipe.epochs=1"), results=tmp_path, data_root=tmp_path, device="cpu", threads=1
    )
    assert asked == [("digits", 10)]


def test_evaluation_uses_running_statistics_and_no_dropout() -> None:
    torch.manual_seed(0)
    model = build_model("mobilenetv2_x0_75", 10, 32, stem_stride=2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    images = torch.randint(256, (60, 3, 32, 32), dtype=torch.uint8)
    labels = torch.randint(10, (60,))
    with torch.no_grad():
        logits, _ = model.eval()(images.float() / 255)
    expected = 100 * float((logits.argmax(dim=1) == labels).double().mean())
    model.train()
    settings = set_up_device(torch.device("cpu"), Execution(), None, "mobilenetv2_x0_75")
    evaluator = Evaluator(model, lambda batch: batch.float() / 255, settings, None, 128)
    tested = evaluator(images=images, labels=labels)
    assert tested.top1_percent == pytest.approx(expected)
    assert tested.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-4)
    assert model.training
