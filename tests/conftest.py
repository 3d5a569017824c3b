from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from repro.config import load_table
from repro.errors import UserError

OWN = """\
table: mine
label: Mine
title: A study of my own
kind: study
dataset: {name: digits}
recipe:
  epochs: 4
  learning_rate: 1e-1
  decay_epochs: [2, 3]
columns:
  - {id: ce, title: CE loss, loss: ce}
  - {id: bias, title: Bias loss, loss: bias}
rows:
  - {id: squeezenet, title: SqueezeNet, model: squeezenet, published: {top1_percent: {ce: 90, bias: 91}}}
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A user's own experiment file, small and right."""
    file = tmp_path / "own.yaml"
    file.write_text(OWN)
    return file


@pytest.fixture
def own_text() -> str:
    """What is in it."""
    return OWN


@pytest.fixture
def refusal(own: Path) -> Callable[..., str]:
    """Puts a text into the user's file, and returns what a person reads when it is refused."""

    def refuse(text: str, *overrides: str) -> str:
        own.write_text(text)
        with pytest.raises(UserError) as caught:
            load_table(own, overrides)
        return str(caught.value).replace(str(own), "own.yaml")

    return refuse
