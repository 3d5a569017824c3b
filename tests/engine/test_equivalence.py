"""The engine against training as one would write it down: PIL images, contiguous memory, SGD parameter by parameter.

In float32 both agree to 1e-5 where their kernels add up in one order. Another layout in memory means another order, and
20 steps of a network with batch normalization amplify that: the plain path itself ends 1% away from its own float64
form. Such networks are therefore compared in float64, where the amplified difference is below 1e-12.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional

from repro.data import Dataset
from repro.data.augment import draw_augmentation
from repro.engine.device import choose_device, set_up_device
from repro.engine.learner import Learner
from repro.engine.randomness import derived_seed, generator, seed_device
from repro.engine.schedule import learning_rate
from repro.experiment.schema import Run
from repro.losses import CrossEntropy, build_loss, per_sample
from repro.models import build_model

MakeRun = Callable[..., Run]
EPOCHS = 7  # of three steps, the last one short: 21, over two drops of the learning rate
RECIPE = (f"recipe.epochs={EPOCHS}", "recipe.decay_epochs=[2,4]", "recipe.learning_rate=0.002")


def with_model(run: Run, model: str) -> Run:
    """The run with another network, flips, and a loss that has a state."""
    cell = run.cell
    augmentation = cell.recipe.augmentation.model_copy(update={"horizontal_flip": True})
    changed = {
        "row": cell.row.model_copy(update={"model": model}),
        "recipe": cell.recipe.model_copy(update={"augmentation": augmentation}),
        "weighting": cell.weighting.model_copy(update={"normalization": "running"}),
    }
    return run.model_copy(update={"cell": cell.model_copy(update=changed)})


def plain_batches(run: Run, dataset: Dataset, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of ``epoch``, each image by torchvision's transforms of PIL images."""
    recipe, augmentation = run.cell.recipe, run.cell.recipe.augmentation
    count, padding, size = len(dataset.train_labels), augmentation.crop_padding_pixels, dataset.image_size
    order = torch.randperm(count, generator=generator(run.seed, "order", epoch))
    draws = draw_augmentation(
        count,
        crop_padding_pixels=padding,
        horizontal_flip=augmentation.horizontal_flip,
        rotation_degrees=augmentation.rotation_degrees,
        generator=generator(run.seed, "augmentation", epoch),
    )
    images = []
    for place, index in enumerate(order.tolist()):
        image = Image.fromarray(dataset.train_images[index].permute(1, 2, 0).numpy())
        top, left = draws.offsets[place].tolist()
        image = functional.crop(functional.pad(image, padding), top, left, size, size)
        if draws.flips[place]:
            image = functional.hflip(image)
        image = functional.rotate(image, float(draws.angles[place]))
        images.append(functional.normalize(functional.to_tensor(image), dataset.mean, dataset.std))
    yield from zip(
        torch.stack(images).split(recipe.batch_size), dataset.train_labels[order].split(recipe.batch_size), strict=True
    )


class InFloat64(CrossEntropy):
    """Cross-entropy that stays in the logits' type."""

    def forward(self, *, logits: Tensor, features: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, targets, reduction="none")


def without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def plainly_trained(
    run: Run, dataset: Dataset, *, dtype: torch.dtype = torch.float32, dropout: bool = True
) -> nn.Module:
    """The network after all epochs."""
    cell, recipe = run.cell, run.cell.recipe
    seed_device(torch.device("cpu"), derived_seed(run.seed, "initialization"))
    model = build_model(cell.row.model, cell.dataset.num_classes, 32, **cell.row.options.model_dump()).train()
    model = model.to(dtype)
    loss = InFloat64() if dtype == torch.float64 else build_loss(cell.column.loss, **cell.weighting.model_dump())
    if not dropout:
        without_dropout(model)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay, foreach=False
    )
    for epoch in range(1, EPOCHS + 1):
        for step, (images, targets) in enumerate(plain_batches(run, dataset, epoch)):
            optimizer.param_groups[0]["lr"] = learning_rate(recipe, epoch, step, 3)
            seed_device(torch.device("cpu"), derived_seed(run.seed, "dropout", epoch, step))
            optimizer.zero_grad()
            logits, features = model(images.to(dtype))
            value = per_sample(loss, logits=logits, features=features, targets=targets)[0].mean()
            value.backward()
            assert value.item() > 0
            optimizer.step()
    return model


def engine(run: Run, dataset: Dataset, device: str = "cpu") -> Learner:
    return Learner(run, dataset, set_up_device(choose_device(device), run.cell.execution, 1, run.cell.row.model))


def to_float64(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the engine compute in float64, which no run does."""
    state, prepare = learner.state, learner.feed.prepare
    state.model.double()
    state.loss = InFloat64()
    for buffers in state.optimizer.state.values():
        buffers["momentum_buffer"] = buffers["momentum_buffer"].double()
    monkeypatch.setattr(learner.feed, "prepare", lambda images: prepare(images).double())


def trained(learner: Learner) -> nn.Module:
    for epoch in range(1, EPOCHS + 1):
        learner.state.epoch = epoch
        learner.feed.begin_epoch(epoch)
        for step in range(learner.feed.steps):
            learner.train_on_batch(step)
    return learner.state.model


def distance(model: nn.Module, reference: nn.Module) -> float:
    """How far all parameters are from the reference's, relative to how far those are from nothing."""
    ours, theirs = (
        torch.cat([value.detach().cpu().double().flatten() for value in network.parameters()])
        for network in (model, reference)
    )
    return float((ours - theirs).norm() / theirs.norm())


@pytest.mark.parametrize(
    "model",
    [
        "shufflenetv2_x0_5",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("mobilenetv2_x0_75", "squeezenet")),
    ],
)
def test_the_engine_trains_as_the_plain_path_does(make_run: MakeRun, small_dataset: Dataset, model: str) -> None:
    run = with_model(make_run(*RECIPE, "execution.memory_format=contiguous"), model)
    assert distance(trained(engine(run, small_dataset)), plainly_trained(run, small_dataset)) < 1e-5


@pytest.mark.slow
def test_so_it_does_in_another_layout_of_memory(make_run: MakeRun, small_dataset: Dataset) -> None:
    """For SqueezeNet, which has no batch normalization; dropout apart, whose draws follow the order of memory."""
    run = with_model(make_run(*RECIPE, "execution.memory_format=channels_last"), "squeezenet")
    learner = engine(run, small_dataset)
    without_dropout(learner.state.model)
    assert distance(trained(learner), plainly_trained(run, small_dataset, dropout=False)) < 1e-5


@pytest.mark.parametrize(
    "model",
    ["shufflenetv2_x0_5", pytest.param("mobilenetv2_x0_75", marks=pytest.mark.slow)],
)
def test_layout_and_batch_normalization_differ_by_rounding_alone(
    make_run: MakeRun, small_dataset: Dataset, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_model(make_run(*RECIPE, "execution.memory_format=channels_last"), model)
    learner = engine(run, small_dataset)
    to_float64(learner, monkeypatch)
    reference = plainly_trained(run, small_dataset, dtype=torch.float64)
    assert distance(trained(learner), reference) < 1e-12


def test_recomputation_changes_no_bit(make_run: MakeRun, small_dataset: Dataset) -> None:
    few = dataclasses.replace(
        small_dataset, train_images=small_dataset.train_images[:7], train_labels=small_dataset.train_labels[:7]
    )
    hashes = []
    for recompute in ("false", "true"):
        run = with_model(make_run("recipe.batch_size=4", f"execution.recompute={recompute}"), "densenet100_k24")
        learner = engine(run, few)
        learner.feed.begin_epoch(1)
        for step in range(learner.feed.steps):
            learner.train_on_batch(step)
        assert learner.settings.recompute == (recompute == "true")
        hashes.append((learner.state.hash(), learner.evaluate()))
    assert hashes[0] == hashes[1]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_trains_as_the_plain_path_on_a_cpu_does(
    make_run: MakeRun, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = with_model(make_run(*RECIPE, "execution.deterministic=true"), "shufflenetv2_x0_5")
    stepper = engine(run, small_dataset, "cuda")
    to_float64(stepper, monkeypatch)
    reference = plainly_trained(run, small_dataset, dtype=torch.float64)
    # The learning rate is a float32 there, which alone makes 3e-10.
    assert distance(trained(stepper), reference) < 1e-8
