"""Draws by name: the same for the same name, on every machine."""

from __future__ import annotations

import torch

from repro.engine.randomness import derived_seed, generator, seed_device


def test_a_name_has_one_seed_everywhere() -> None:
    # Pinned: a change here would change every recorded run.
    assert derived_seed(0, "order", 1) == 4489457307835839548


def test_every_part_of_the_name_counts() -> None:
    names = [
        (0, "order", 1),
        (1, "order", 1),
        (0, "augmentation", 1),
        (0, "order", 2),
        (0, "order", 1, 0),
        (0, "order", 11),
    ]
    assert len({derived_seed(*name) for name in names}) == len(names)


def test_generators_do_not_touch_the_global_stream() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    torch.rand(5, generator=generator(0, "order", 1))
    assert torch.equal(torch.rand(1), expected)


def test_dropout_is_a_function_of_the_seed() -> None:
    def drop() -> torch.Tensor:
        seed_device(torch.device("cpu"), 11)
        return torch.nn.functional.dropout(torch.ones(100), 0.5)

    assert torch.equal(drop(), drop())
