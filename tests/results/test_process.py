from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repro.results.process import this_place


def test_where_the_system_does_not_tell_the_place_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert this_place()

    def refuse(self: Path, **_: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    this_place.cache_clear()
    try:
        assert this_place() is None
    finally:
        this_place.cache_clear()
