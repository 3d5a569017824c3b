"""What of a run is recorded besides its numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recording:
    """``anonymous`` leaves host and command empty; ``keep_weights`` keeps the final weights beside the record."""

    anonymous: bool = False
    keep_weights: bool = False


NUMBERS_ALONE = Recording()
