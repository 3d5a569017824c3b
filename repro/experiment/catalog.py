"""Networks, losses and data sets by name: one entry each, with everything that any part of the package needs of it.

An entry names its code as ``module:function``; ``imported`` imports it when it is needed. A name with a slash,
``my_study/tinynet``, is of the plugin ``my_study``, whose entries are known once its file is loaded. Its tables can be
read, and its records shown, without the file.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from repro.errors import ConfigError
from repro.experiment.plugins import checked_name, is_torchvisions, missing
from repro.wording import shell_line

Precision = Literal["fp32", "ieee", "tf32", "bf16"]


@dataclass(frozen=True)
class Network:
    """A network.

    ``builder``: called with ``num_classes``, ``arguments``, ``image_size`` if ``takes_image_size``, and those
    ``options`` that it accepts; returns a module that maps images (N, 3, H, W) to logits (N, num_classes) and features
    (N, C, h, w). ``parameters_at_most``: an upper bound for any
    data set, to plan disk space before anything is measured. ``cpu_memory_format``: what ``execution.memory_format:
    auto`` means on a CPU; ``cuda_memory_format``: on a GPU in tf32 and bf16, not measured yet (benchmarks/choices.py).
    """

    name: str
    builder: str
    options: tuple[str, ...] = ()
    parameters_at_most: int = 50_000_000
    cpu_memory_format: str = "channels_last"
    cuda_memory_format: str = "channels_last"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    takes_image_size: bool = False


@dataclass(frozen=True)
class Loss:
    """A loss.

    ``builder``: called with ``arguments`` and, if the loss is ``weighted``, with alpha, beta and normalization; returns
    a module (its contract: docs/architecture.md). If it is not weighted, the section ``weighting`` is in no hash.
    ``label_smoothing``: whether the builder takes it.
    ``proposed``: the loss that a paper proposes, shown if one loss stands for a table. ``colour``, ``dashes``,
    ``marker``: how figures draw it; without a colour they choose one.
    """

    name: str
    builder: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weighted: bool = False
    label_smoothing: bool = False
    proposed: bool = False
    colour: str = ""
    dashes: tuple[float, ...] = ()
    marker: str = ""


@dataclass(frozen=True)
class Archive:
    """A published file or folder that holds a whole data set.

    ``urls``: its addresses, tried in turn; none for one that is read if it is found but never downloaded. ``md5`` is
    None if no checksum is published.
    """

    file_name: str
    urls: tuple[str, ...] = ()
    md5: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class DatasetFacts:
    """A data set: ``image_size`` in pixels (square), counts in images.

    ``archives``: what it can be read from, the downloaded one first. ``decoder``: called with the archive or folder
    found, these facts, and a progress function (images done, total); returns ``DecodedImages``. Without archives the
    images come with the code, and the decoder is called with these facts alone. ``example``: a built-in table of it.
    ``folder``: where a user's own images are; ``cache_folder``: where they are decoded, below the data folder.
    ``train_counts``, ``test_counts``: the images of each class; nothing if all have as many.
    """

    name: str
    title: str
    num_classes: int
    image_size: int
    train_count: int
    test_count: int
    source: str = ""
    archives: tuple[Archive, ...] = ()
    decoder: str = ""
    example: str = ""
    folder: Path | None = None
    cache_folder: str = ""
    train_counts: tuple[int, ...] = ()
    test_counts: tuple[int, ...] = ()

    @property
    def download(self) -> Archive | None:
        """The archive that ``biasrepro data fetch`` downloads; None if there is none."""
        return next((archive for archive in self.archives if archive.urls), None)

    @property
    def included(self) -> bool:
        """Whether the images come with the code."""
        return not self.archives and self.folder is None

    @property
    def decoded_bytes(self) -> int:
        """Size of all images as uint8 pixels with their int64 labels, in bytes."""
        return (self.train_count + self.test_count) * (3 * self.image_size**2 + 8)


_STEM = ("stem_stride", "initialization")
# cuDNN's depthwise convolutions may be much slower in channels_last.
_DEPTHWISE: dict[str, Any] = {"cuda_memory_format": "contiguous"}
_DENSENET = (*_STEM, "feature_point", "recompute")

# Parameter counts are rounded up; a test counts them.
NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("shufflenetv2_x0_5", "repro.models.shufflenetv2:shufflenetv2_x0_5", _STEM, 600_000, **_DEPTHWISE),
        Network("shufflenetv2_x1_0", "repro.models.shufflenetv2:shufflenetv2_x1_0", _STEM, 1_500_000, **_DEPTHWISE),
        Network("mobilenetv2_x0_75", "repro.models.mobilenetv2:mobilenetv2_x0_75", _STEM, 1_700_000, **_DEPTHWISE),
        Network("mobilenetv2_x1_0", "repro.models.mobilenetv2:mobilenetv2_x1_0", _STEM, 2_500_000, **_DEPTHWISE),
        Network("squeezenet", "repro.models.squeezenet:squeezenet", _STEM, 900_000),
        Network("squeezenet_bn", "repro.models.squeezenet:squeezenet_bn", _STEM, 900_000),
        Network("nasnet_a", "repro.models.nasnet:nasnet_a", _STEM, 4_500_000, **_DEPTHWISE),
        Network("densenet100_k12", "repro.models.densenet:densenet100_k12", _DENSENET, 7_300_000),
        Network("densenet100_k24", "repro.models.densenet:densenet100_k24", _DENSENET, 28_000_000),
        Network("densenet121", "repro.models.densenet:densenet121", _DENSENET, 7_300_000),
        Network("resnet18", "repro.models.resnet:resnet18", _STEM, 11_500_000),
        Network("efficientnet_b4", "repro.models.efficientnet:efficientnet_b4", _STEM, 18_000_000, **_DEPTHWISE),
        Network("inception_v3", "repro.models.inception:inception_v3", _STEM, 22_500_000),
    )
}

_BIAS_LOSS = "repro.losses:BiasLoss"
_VARIANCE, _MEAN, _BOTH = ({"measures": names} for names in (("variance",), ("mean",), ("mean", "variance")))
_INVERSE = {**_VARIANCE, "inverse": True}
_BIAS_CONTROL = "repro.losses:BiasControl"
_MEAN_ONE, _CONSTANT, _SHUFFLED = ({"control": name} for name in ("mean_one", "constant", "shuffled"))

# The colours are Okabe and Ito's (2008, Color Universal Design).
LOSSES: dict[str, Loss] = {
    loss.name: replace(loss, label_smoothing=True)
    for loss in (
        Loss("ce", "repro.losses:CrossEntropy", colour="#1a1a1a", dashes=(1.2, 1.2), marker="s"),
        Loss("bias", _BIAS_LOSS, _VARIANCE, weighted=True, proposed=True, colour="#0072b2", marker="o"),
        Loss("inverse_bias", _BIAS_LOSS, _INVERSE, weighted=True, colour="#d55e00", dashes=(4.0, 1.6), marker="^"),
        Loss("mean_bias", _BIAS_LOSS, _MEAN, weighted=True, colour="#009e73", dashes=(5.0, 1.4, 1.2, 1.4), marker="v"),
        Loss("mean_variance_bias", _BIAS_LOSS, _BOTH, weighted=True, colour="#cc79a7", dashes=(8.0, 2.0), marker="P"),
        Loss("mean_one_bias", _BIAS_CONTROL, _MEAN_ONE | _VARIANCE, weighted=True),
        Loss("constant_bias", _BIAS_CONTROL, _CONSTANT | _VARIANCE, weighted=True),
        Loss("shuffled_bias", _BIAS_CONTROL, _SHUFFLED | _VARIANCE, weighted=True),
        Loss("mean_one_inverse_bias", _BIAS_CONTROL, _MEAN_ONE | _INVERSE, weighted=True),
        Loss("constant_inverse_bias", _BIAS_CONTROL, _CONSTANT | _INVERSE, weighted=True),
        Loss("shuffled_inverse_bias", _BIAS_CONTROL, _SHUFFLED | _INVERSE, weighted=True),
    )
}

DATASETS: dict[str, DatasetFacts] = {
    facts.name: facts
    for facts in (
        DatasetFacts(
            name="cifar100",
            title="CIFAR-100",
            num_classes=100,
            image_size=32,
            train_count=50_000,
            test_count=10_000,
            source="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            decoder="repro.data.cifar100:decode_cifar100",
            example="table2",
            archives=(
                Archive(
                    "cifar-100-binary.tar.gz",
                    urls=(
                        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                        "http://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
                    ),
                    md5="03b5dce01913d631647c71ecec9e9cb8",
                    size_bytes=168_513_733,
                ),
                Archive("cifar-100-python.tar.gz", md5="eb9058c3a382ffc7106e4002c42a8d85", size_bytes=169_001_437),
            ),
        ),
        DatasetFacts(
            name="tiny_imagenet",
            title="Tiny ImageNet",
            num_classes=200,
            image_size=64,
            train_count=100_000,
            test_count=10_000,
            source="Stanford CS231n; a subset of ILSVRC 2014. Its validation images are the test set here",
            decoder="repro.data.tiny_imagenet:decode_tiny_imagenet",
            example="table1",
            archives=(
                Archive(
                    "tiny-imagenet-200.zip",
                    urls=(
                        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
                        "https://cs231n.stanford.edu/tiny-imagenet-200.zip",
                    ),
                    md5="90528d7ca1a48142e341f4ef8d21d0de",
                    size_bytes=248_100_043,
                ),
                Archive("tiny-imagenet-200.tar.xz"),
                Archive("tiny-imagenet-200"),
            ),
        ),
        DatasetFacts(
            name="digits",
            title="UCI digits",
            num_classes=10,
            image_size=32,
            train_count=1_442,
            test_count=355,
            source="UCI Optical Recognition of Handwritten Digits, test part; included in biasrepro",
            decoder="repro.data.digits:decode_digits",
            example="demo",
        ),
    )
}


def network(name: str) -> Network:
    """The network of that name; one without a builder if its plugin is not loaded. Raises ConfigError for no name."""
    if is_torchvisions(name):
        builder = "repro.models.torchvision_networks:torchvision_network"
        return Network(name, builder, ("features",), arguments={"name": name.partition("/")[2]}, takes_image_size=True)
    return NETWORKS.get(name) or Network(checked_name("network", name, NETWORKS), builder="")


def loss(name: str) -> Loss:
    """The loss of that name; one without a builder if its plugin is not loaded. Raises ConfigError for no name."""
    return LOSSES.get(name) or Loss(checked_name("loss", name, LOSSES), builder="", weighted=True, label_smoothing=True)


def dataset_facts(name: str) -> DatasetFacts:
    """The facts of a data set. Raises ConfigError for no name, and if its plugin is not loaded."""
    if name not in DATASETS:
        raise missing("data set", checked_name("data set", name, DATASETS), DATASETS)
    return DATASETS[name]


def networks_with(option: str) -> list[str]:
    """The networks that have an option."""
    if option == "features":
        return ["those of torchvision, such as torchvision/mobilenet_v3_small"]
    return [entry.name for entry in NETWORKS.values() if option in entry.options]


def builder_of(entry: Network | Loss) -> Any:
    """What builds a network or a loss. Raises ConfigError if its plugin is not loaded."""
    require_builder(entry)
    return imported(entry.builder)


def require_builder(entry: Network | Loss) -> None:
    """Raises ConfigError if the plugin of a network or a loss is not loaded. Imports nothing."""
    if not entry.builder:
        kind, entries = ("network", NETWORKS) if isinstance(entry, Network) else ("loss", LOSSES)
        raise missing(kind, entry.name, entries)


PROVIDED: dict[str, Any] = {}  # by plugins, under such a path


def imported(path: str) -> Any:
    """The object that ``module:name`` names. Raises ConfigError, or ModuleNotFoundError for a package that it needs."""
    if path in PROVIDED:
        return PROVIDED[path]
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ConfigError(f"cannot import '{path}': {error}", hint="Write module:function.") from error


def default_root() -> Path:
    """The default folder for data: $BIASREPRO_DATA, or ``data`` in the working directory."""
    return Path(os.environ.get("BIASREPRO_DATA") or "data")


def fetch_command(facts: DatasetFacts, root: Path, name: str = "") -> str:
    """The command that fetches a data set into ``root``, ready to paste; a user's folder needs its table's file."""
    return shell_line(["biasrepro", "data", "fetch", name or facts.name, "--root", str(root)])
