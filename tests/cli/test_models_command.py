from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from repro.cli.models import printed_parameters


def test_what_is_printed_is_read_off_the_tables() -> None:
    printed = printed_parameters()
    assert printed["squeezenet_bn"] == {"Table 2": 1.25}
    assert printed["densenet100_k12"] == {"Table 1": 7.0, "Table 2": 7.0}
    assert "densenet121" not in printed


@pytest.mark.slow
def test_all_models_are_listed_as_text_and_as_data(say: Callable[..., Any]) -> None:
    from repro.experiment.catalog import NETWORKS

    text = say("models")
    assert text.code == 0
    lines = {line.split()[0]: line for line in text.out.splitlines()}
    assert set(NETWORKS) <= set(lines)
    assert max(len(lines[name]) for name in NETWORKS) <= 80
    squeezenet = lines["squeezenet_bn"].split()
    assert (squeezenet[1], squeezenet[-1]) == ("781,156", "1.25M")
    data = {entry["model"]: entry for entry in json.loads(say("models", "--json").out)}
    assert set(data) == set(NETWORKS)
    assert data["squeezenet"]["built"][0]["parameters"] == 775_204
    assert data["squeezenet"]["built"][1]["image_size"] == 64
    assert data["squeezenet_bn"]["printed_parameters_millions"] == {"Table 2": 1.25}
