"""The faster way through batch norm on a CPU: the same numbers, and the threads as they were afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from repro.engine.norms import batches_counted_at_once, norms_that_count, prepare_norms
from repro.models import build_model


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


class Noting(torch.autograd.Function):
    """The identity, which notes on how many threads it is called forwards and backwards."""

    noted: list[int]

    @staticmethod
    def forward(_context: object, maps: Tensor) -> Tensor:
        Noting.noted.append(torch.get_num_threads())
        return maps.clone(memory_format=torch.channels_last)

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:
        Noting.noted.append(torch.get_num_threads())
        return gradient


def images_of(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    maps = torch.randn(8, channels, 6, 6, generator=generator).to(memory_format=torch.channels_last)
    return maps.requires_grad_()


@pytest.mark.parametrize("channels", [16, 24, 44, 100, 132])
@pytest.mark.usefixtures("two_threads")
def test_the_gradients_are_batch_norms_own(channels: int) -> None:
    ours, plain = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
    prepare_norms(ours)
    weights = torch.randn(8, channels, 6, 6, generator=torch.Generator().manual_seed(1))
    results = []
    for norm in (ours, plain):
        images = images_of(channels)
        norm(images).mul(weights).sum().backward()
        assert images.grad is not None
        assert norm.weight.grad is not None
        results.append((images.grad, norm.weight.grad, norm.running_mean, norm.running_var))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("channels", "changes"), [(24, 2), (44, 4), (100, 2), (16, 0), (132, 0)])
@pytest.mark.usefixtures("two_threads")
def test_only_what_shares_cache_lines_goes_on_one_thread(
    channels: int, changes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    norm = nn.BatchNorm2d(channels)
    prepare_norms(norm)
    asked: list[int] = []
    real = torch.set_num_threads

    def note(count: int) -> None:
        asked.append(count)
        real(count)

    monkeypatch.setattr(torch, "set_num_threads", note)
    Noting.noted = []
    Noting.apply(norm(Noting.apply(images_of(channels)))).sum().backward()
    assert Noting.noted == [2, 2, 2, 2]  # on either side of the norm, both ways
    assert asked == [1, 2] * (changes // 2)
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("two_threads")
def test_a_norm_that_fails_leaves_the_threads_as_they_were() -> None:
    norm = nn.BatchNorm2d(44)
    prepare_norms(norm)
    with pytest.raises(RuntimeError):
        norm(images_of(40))
    assert torch.get_num_threads() == 2


def test_on_one_thread_nothing_is_to_be_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    norm = nn.BatchNorm2d(24)
    prepare_norms(norm)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: pytest.fail(f"asked for {count}"))
    norm(images_of(24)).sum().backward()


@pytest.mark.parametrize("name", ["shufflenetv2_x0_5", "squeezenet"])  # many batch norms, and none
def test_norms_counted_at_once_end_in_the_same_bits(name: str) -> None:
    plain = build_model(name, 10, 32).train()
    ours = copy.deepcopy(plain)
    norms = norms_that_count(ours)
    assert len(norms) == sum(isinstance(module, nn.BatchNorm2d) for module in plain.modules())
    for seed in range(3):
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)  # of dropout
        plain(images)[0].sum().backward()
        torch.manual_seed(seed)
        with batches_counted_at_once(norms):
            assert all(norm.num_batches_tracked is None for norm in norms)
            ours(images)[0].sum().backward()
    expected, found = plain.state_dict(), ours.state_dict()
    assert list(found) == list(expected)  # the state's hash follows their order
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert all(int(norm.num_batches_tracked) == 3 for norm in norms)


def test_a_norm_that_cannot_do_without_its_counter_keeps_it() -> None:
    norm = nn.BatchNorm2d(2)
    assert norms_that_count(nn.Sequential(nn.BatchNorm2d(2, momentum=None), norm)) == [norm]
    with pytest.raises(RuntimeError), batches_counted_at_once([norm]):
        norm(torch.zeros(2, 3, 1, 1))
    assert int(norm.num_batches_tracked) == 0  # a step that failed is not counted
