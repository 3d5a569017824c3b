"""Every format in every situation, against files that a person has looked at.

``BIASREPRO_UPDATE_GOLDEN=1 pytest tests/tables/test_golden.py`` writes them anew: look at the difference before it is
committed.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from repro.tables import RENDERERS, SUFFIXES, AssembledTable

GOLDEN = Path(__file__).parent / "golden"
SUFFIX = {name: suffix for suffix, name in SUFFIXES.items()}


@pytest.mark.parametrize("format_name", RENDERERS)
def test_output_is_what_was_looked_at(situation: tuple[str, list[AssembledTable]], format_name: str) -> None:
    name, tables = situation
    text = RENDERERS[format_name](tables, f"biasrepro table --format {format_name}")
    golden = GOLDEN / f"{name}{SUFFIX[format_name]}"
    if os.environ.get("BIASREPRO_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")
