"""What a plugin's functions are called with and return: each mistake of their author is one message."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from repro.errors import ConfigError
from repro.experiment.catalog import DATASETS, imported
from repro.losses import build_loss
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


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("unused", "the network never calls the module 'unused', so that it has no features\n  Name a module that"),
        ("pair", "the module 'pair' of the network returns a tuple, not a tensor of features\n  Name a module that"),
    ],
)
def test_features_that_are_not_there_are_one_message(module: str, message: str, tmp_path: Path) -> None:
    text = f"""
class Pair(nn.Module):
    def forward(self, images):
        return images, images


@network(features={module!r})
class net(Net):
    def __init__(self, num_classes):
        super().__init__(num_classes)
        self.unused, self.pair = nn.ReLU(), Pair()

    def forward(self, images):
        return super().forward(self.pair(images)[0])[0]
"""
    network = built(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        network(torch.zeros(2, 3, 8, 8))
    assert str(refused.value).startswith(message)


DATA = "@dataset(num_classes=2, image_size=8, train_count=4, test_count={count})\ndef images(): ...\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "@network\ndef f(num_classes, width): ...",
            "the network 'f' cannot be called: missing a required argument: 'wi",
        ),
        ("@network\ndef f(classes): ...", "the network 'f' cannot be called: missing a required argument: 'classes'"),
        (
            "@network\ndef f(): ...",
            "the network 'f' cannot be called: got an unexpected keyword argument 'num_classes'",
        ),
        ("@loss\ndef f(gamma): ...", "the loss 'f' cannot be called: missing a required argument: 'gamma'"),
        ("@loss\ndef f(alpha, /): ...", "the loss 'f' cannot be called: 'alpha' parameter is positional only"),
        (DATA.format(count=4).replace("()", "(root)"), "the data set 'images' cannot be called: missing a required"),
        (
            DATA.format(count=0),
            "test_count of the data set study/images is 0\n  It must be a whole number of at least 1",
        ),
        (DATA.format(count=2.0), "test_count of the data set study/images is 2.0\n  It must be a whole number"),
    ],
)
def test_what_cannot_be_called_with_what_it_is_given_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert message in str(refused.value)
    assert "study.py" in str(refused.value) or "study/" in str(refused.value)


@pytest.mark.parametrize("given", ["alpha", "*, beta, gamma=2", "normalization, label_smoothing", "**others", ""])
def test_what_is_given_needs_no_default(given: str, tmp_path: Path) -> None:
    load(tmp_path, f"@loss\ndef f({given}):\n    return nn.ReLU()\n")
    assert isinstance(build_loss("study/f"), nn.ReLU)


WHOLE = "[0.0, 1.0, 0, True]"


@pytest.mark.parametrize("labels", ["[0.9, 1.9, 0, 1]", "[0, 1, 0, float('nan')]", "np.array([0.5, 1, 0, 1], object)"])
def test_labels_that_are_not_whole_numbers_are_refused(labels: str, tmp_path: Path) -> None:
    text = f"return (np.zeros((4, 3, 8, 8), np.uint8), {labels}), (np.zeros((2, 3, 8, 8), np.uint8), np.arange(2))"
    function = DATA.format(count=2).replace("...", f"\n    import numpy as np\n    {text}")
    load(tmp_path, function)
    with pytest.raises(
        ConfigError, match=r"study/images has labels that are not whole numbers\n  Labels are class num"
    ):
        imported("study:data_set.images")(DATASETS["study/images"])
    load(tmp_path, function.replace(labels, WHOLE))
    decoded = imported("study:data_set.images")(DATASETS["study/images"])
    assert decoded.train_labels.tolist() == [0, 1, 0, 1]
