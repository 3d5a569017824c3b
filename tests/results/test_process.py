from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from repro.results.process import is_alive, process_start, this_place


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


def test_another_users_process_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, _signal: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "kill", refuse)
    assert is_alive(os.getpid(), process_start(os.getpid())) is True
