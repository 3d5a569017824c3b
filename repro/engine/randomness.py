"""Random numbers by name: every draw comes from (seed, purpose, counters), never from a stream.

A run can therefore be taken up at any step by arithmetic alone: there is no generator state to save, and nothing that
draws elsewhere can shift what comes after it.
"""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, purpose: str, *counters: int) -> int:
    """A 63-bit seed that is the same for the same arguments on every machine, and unrelated for any others."""
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
