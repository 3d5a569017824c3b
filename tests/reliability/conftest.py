"""Proofs of docs/reliability-tests.md. Modules beside this one hold what several of them share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def proved(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Note a figure of a proof; ``pytest --figures`` prints all of them at the end."""

    def note(figure: str) -> None:
        record_property("proved", figure)

    return note
