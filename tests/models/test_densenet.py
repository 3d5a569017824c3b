"""DenseNet: the same network as torchvision's, and recomputation that changes no bit."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from repro.models import build_model
from repro.models.densenet import DenseLayer, DenseNet


def small(*, bottleneck: bool, recompute: bool) -> DenseNet:
    torch.manual_seed(0)
    return DenseNet(
        nn.Conv2d(3, 8, kernel_size=3, padding=1, bias=False),
        channels=8,
        layers_per_block=(4, 4),
        growth_rate=4,
        bottleneck=bottleneck,
        compression=0.5 if bottleneck else 1.0,
        num_classes=5,
        recompute=recompute,
    )


def trained(model: nn.Module, steps: int, *, autocast: bool = False) -> list[Tensor]:
    """Losses, and all parameters and buffers, after some steps of SGD on fixed random batches."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        images = torch.randn(4, 3, 16, 16, generator=generator)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits, features = model(images)
        loss = F.cross_entropy(logits.float(), torch.arange(4)) + features.float().var()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *model.state_dict().values()]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_recompute_changes_no_bit(bottleneck: bool, autocast: bool) -> None:
    plain = trained(small(bottleneck=bottleneck, recompute=False), steps=3, autocast=autocast)
    recomputed = trained(small(bottleneck=bottleneck, recompute=True), steps=3, autocast=autocast)
    assert len(plain) == len(recomputed)
    # Running means and variances and the count of batches are among them.
    assert all(torch.equal(ours, other) for ours, other in zip(plain, recomputed, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["densenet100_k12", "densenet121"])
def test_recompute_changes_no_bit_of_a_whole_network(name: str) -> None:
    def after_training(**options: object) -> list[Tensor]:
        torch.manual_seed(0)
        return trained(build_model(name, 5, **options), steps=2)

    plain, recomputed = after_training(), after_training(recompute=True)
    assert all(torch.equal(ours, other) for ours, other in zip(plain, recomputed, strict=True))


def test_batch_norm_keeps_its_own_buffers_and_counts_every_batch_once() -> None:
    model = small(bottleneck=True, recompute=True)
    buffers = dict(model.named_buffers())
    trained(model, steps=3)
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    assert {int(buffer) for name, buffer in buffers.items() if name.endswith("num_batches_tracked")} == {3}


def test_recompute_in_evaluation_reads_the_running_statistics() -> None:
    def gradients(*, recompute: bool) -> list[Tensor]:
        model = small(bottleneck=True, recompute=recompute)
        trained(model, steps=1)
        model.eval()
        model.zero_grad()
        model(torch.ones(2, 3, 16, 16))[0].sum().backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    pairs = zip(gradients(recompute=False), gradients(recompute=True), strict=True)
    assert all(torch.equal(ours, other) for ours, other in pairs)


@pytest.mark.parametrize("name", ["densenet100_k12", "densenet100_k24", "densenet121"])
def test_recompute_reaches_every_dense_layer(name: str) -> None:
    with torch.device("meta"):
        model = build_model(name, 10, recompute=True)
    layers = [module for module in model.modules() if isinstance(module, DenseLayer)]
    assert len(layers) == {"densenet121": 58}.get(name, 96)
    assert all(layer.recompute for layer in layers)


def test_recompute_keeps_far_less_for_the_backward_pass() -> None:
    def bytes_kept(*, recompute: bool) -> int:
        kept: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor
            return tensor

        with torch.device("meta"):
            model = build_model("densenet100_k12", 10, recompute=recompute)
            # What recomputation itself holds on to: the new maps of each layer.
            for module in model.modules():
                if isinstance(module, DenseLayer):
                    module.register_forward_hook(lambda _layer, _inputs, new_maps: keep(new_maps))
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                model(torch.empty(8, 3, 32, 32))
        return sum(tensor.nbytes for tensor in kept.values())

    assert bytes_kept(recompute=True) < bytes_kept(recompute=False) / 8


def test_densenet121_is_torchvision_s() -> None:
    torch.manual_seed(0)
    theirs = models.densenet121(weights=None, num_classes=10)
    theirs.features.pool0 = nn.Identity()  # our stem has none
    ours = build_model("densenet121", 10, 64)
    named = zip(ours.state_dict().keys(), theirs.state_dict().values(), strict=True)
    ours.load_state_dict(dict(named))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(images)[0], theirs(images))
