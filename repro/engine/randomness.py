"""Random numbers by name: each draw is determined by (seed, purpose, counters).

So a run can resume at any step without a saved generator state, and a draw in one place cannot shift those in another.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed: the same for the same arguments on every machine, unrelated for others."""
    text = "/".join([str(seed), purpose, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, purpose: str, *counters: int) -> torch.Generator:
    """A CPU generator for one purpose at one point of a run, such as ("order", epoch)."""
    return torch.Generator().manual_seed(derived_seed(seed, purpose, *counters))


def seed_device(device: torch.device, seed: int) -> None:
    """Seed the default generator that dropout on ``device`` draws from."""
    if device.type == "cuda":
        index = device.index if device.index is not None else torch.cuda.current_device()
        torch.cuda.default_generators[index].manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
