from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from repro.analysis.evidence import Evidence
from repro.experiment.config import find_table
from repro.figures import Recorded, draw_figure, recorded
from repro.results import Found


@pytest.fixture(scope="session")
def recorded_of(fake_runs: Any) -> Callable[..., Recorded]:
    """A table with the runs of some of its rows and columns (all by default), by their ids, with some seeds."""

    def make(
        name: str,
        seeds: Sequence[int] = (),
        *,
        rows: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        more: Sequence[Found] = (),
    ) -> Recorded:
        table = find_table(name)
        found = [
            one
            for one in fake_runs.of(table, seeds)
            if (rows is None or one.record.row in rows) and (columns is None or one.record.column in columns)
        ]
        return recorded(table, Evidence([*found, *more]))

    return make


@pytest.fixture(scope="session")
def svg_of() -> Callable[..., ET.Element]:
    """The SVG of a figure, parsed."""

    def draw(name: str, *tables: Recorded) -> ET.Element:
        return ET.fromstring(draw_figure(name, tables).to_bytes("svg"))

    return draw


@pytest.fixture(scope="session")
def texts_of(svg_of: Callable[..., ET.Element]) -> Callable[..., str]:
    """All that a figure says, one text a line."""

    def texts(name: str, *tables: Recorded) -> str:
        found = svg_of(name, *tables).iter("{http://www.w3.org/2000/svg}text")
        return "\n".join("".join(text.itertext()) for text in found)

    return texts
