"""What a plugin's functions are called with and return: each mistake of their author is one message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from repro.errors import ConfigError
from repro.models import build_model
from repro.models.describe import describe_model
from repro.plugin_files import load_plugin

pytestmark = pytest.mark.usefixtures("no_plugin_stays")

HEAD = """from torch import nn
from repro.api import dataset, loss, network


class Net(nn.Module):
    def __init__(self, outputs, depth=18):
        super().__init__()
        self.depth = depth
        self.stem = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, outputs)

    def forward(self, images):
        features = self.stem(images)
        return self.head(features.mean((2, 3))), features


"""


def load(folder: Path, text: str) -> None:
    """Loads the plugin ``study`` of this text, after ``HEAD``."""
    (folder / "study.py").write_text(HEAD + text)
    load_plugin(folder / "study.py")


def built(folder: Path, text: str) -> nn.Module:
    """The network ``study/net`` of this text, for 3 classes."""
    load(folder, text)
    return build_model("study/net", 3)


@pytest.mark.parametrize(
    "parameters", ["depth=18, num_classes=1000", "*, num_classes, depth=18", "depth=18, **options"]
)
def test_a_network_is_given_its_classes_by_name(parameters: str, tmp_path: Path) -> None:
    classes = "options['num_classes']" if "options" in parameters else "num_classes"
    network = built(tmp_path, f"@network\ndef net({parameters}):\n    return Net({classes}, depth)\n")
    assert network.depth == 18
    assert network(torch.zeros(2, 3, 8, 8))[0].shape == (2, 3)


@pytest.mark.parametrize("features", ["", "(features='stem')"])
@pytest.mark.parametrize("outputs", [2, 1000])
def test_a_wrong_number_of_logits_is_refused(outputs: int, features: str, tmp_path: Path) -> None:
    returned = f"Net({outputs})"
    if features:
        head = f"nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, {outputs})"
        returned = (
            f"nn.Sequential(); n.add_module('stem', nn.Conv2d(3, 4, 3)); n.add_module('h', nn.Sequential({head}))"
        )
    text = f"@network{features}\ndef net(num_classes):\n    n = {returned}\n    return n\n"
    network = built(tmp_path, text)
    for call in (lambda: network(torch.zeros(2, 3, 8, 8)), lambda: describe_model("study/net", 3)):
        with pytest.raises(ConfigError) as refused:
            call()
        assert str(refused.value) == (
            f"the network study/net returns {outputs} logits an image, for 3 classes\n"
            "  Give its last layer num_classes outputs."
        )


def test_a_network_that_names_its_features_returns_logits_alone(tmp_path: Path) -> None:
    network = built(tmp_path, "@network(features='stem')\ndef net(num_classes):\n    return Net(num_classes)\n")
    with pytest.raises(ConfigError, match=r"study/net does not return a pair .*\n  With features='stem', it returns"):
        network(torch.zeros(2, 3, 8, 8))
