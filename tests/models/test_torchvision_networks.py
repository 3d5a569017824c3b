"""Every classification network of torchvision has features, and computes what it computes in torchvision."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from repro.errors import ConfigError
from repro.losses import build_loss, per_sample
from repro.models import build_model
from repro.models.describe import describe_model

NAMES = torchvision.models.list_models(module=torchvision.models)
# One a family: the module whose output its global pooling takes.
FEATURES = {
    "alexnet": "features",
    "convnext_tiny": "features",
    "densenet121": "features",
    "efficientnet_b0": "features",
    "googlenet": "inception5b",
    "mnasnet0_5": "layers",
    "mobilenet_v2": "features",
    "mobilenet_v3_small": "features",
    "regnet_y_400mf": "trunk_output",
    "resnet50": "layer4",
    "shufflenet_v2_x0_5": "conv5",
    "squeezenet1_1": "classifier.2",
    "swin_t": "permute",
    "vgg11_bn": "features",
}


@pytest.mark.parametrize("name", FEATURES)
def test_the_features_are_what_is_pooled(name: str) -> None:
    described = describe_model(f"torchvision/{name}", 10, 64)
    assert described.feature_module == FEATURES[name]
    assert len(described.feature_shape) == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_network_has_features(name: str) -> None:
    options = {"features": "encoder"} if name.startswith("vit_") else {}
    described = describe_model(f"torchvision/{name}", 10, 224, **options)
    assert described.feature_module
    assert described.parameters > 300_000  # the smallest, of ShuffleNetV2 0.5x, are 352,042


@pytest.mark.parametrize("name", ["mobilenet_v2", "densenet121", "squeezenet1_1"])
def test_it_computes_what_torchvisions_computes(name: str) -> None:
    torch.manual_seed(0)
    ours = build_model(f"torchvision/{name}", 10, 32).eval()
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        logits, features = ours(images)
        torch.testing.assert_close(logits, theirs(images), rtol=0, atol=0)
        torch.testing.assert_close(features, _features_of(theirs, FEATURES[name], images), rtol=0, atol=0)


def _features_of(network: nn.Module, name: str, images: torch.Tensor) -> torch.Tensor:
    """The features by torchvision's own feature extraction; an in-place ReLU may follow the module."""
    from torchvision.models.feature_extraction import create_feature_extractor

    features: torch.Tensor = create_feature_extractor(network, {name: "features"})(images)["features"]
    return features.relu()


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_step_reaches_every_parameter(compiled: bool) -> None:
    torch.manual_seed(0)
    model = build_model("torchvision/mobilenet_v3_small", 10, 32)
    forward = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    logits, features = forward(torch.randn(4, 3, 32, 32))
    losses, weights = per_sample(build_loss("bias"), logits=logits, features=features, targets=torch.arange(4))
    losses.mean().backward()
    assert weights.std() > 0
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_tokens_are_features_too() -> None:
    model = build_model("torchvision/vit_b_32", 10, 64, features="encoder").eval()
    with torch.no_grad():
        logits, features = model(torch.randn(2, 3, 64, 64))
    assert features.shape == (2, 5, 768)
    losses, _ = per_sample(build_loss("bias"), logits=logits, features=features, targets=torch.arange(2))
    assert losses.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "mobilenet_v3_smal",
            {},
            "no classification network 'mobilenet_v3_smal'\n  Did you mean 'mobilenet_v3_",
        ),
        ("fcn_resnet50", {}, "torchvision has no classification network 'fcn_resnet50'"),
        ("inception_v3", {}, "torchvision/inception_v3 does not take images of 32x32 pixels: Calculated padded"),
        ("vit_b_16", {}, "torchvision/vit_b_16 pools no feature map that a module returns\n  Name the module"),
        ("vit_h_14", {}, "torchvision/vit_h_14 does not take images of 32x32 pixels: "),
        ("resnet18", {"features": "layer5"}, "has no module 'layer5' that is called\n  Did you mean 'layer"),
        ("resnet18", {"features": "fc"}, r"the module 'fc' of torchvision/resnet18 returns a tensor of shape (2, 10)"),
        ("resnet18", {"stem_stride": 1}, "torchvision/resnet18 has no stem_stride 1\n  Networks that have it: shuf"),
    ],
)
def test_what_cannot_be_built_is_one_message(name: str, options: dict[str, object], message: str) -> None:
    with torch.device("meta"), pytest.raises(Exception) as caught:  # noqa: PT011 - the message is what counts
        build_model(f"torchvision/{name}", 10, 32, **options)
    assert message in str(caught.value)


def test_a_catalog_network_has_no_features_option() -> None:
    with pytest.raises(Exception, match=r"resnet18 has no features 'layer4'\n  Networks that have it: those of tor"):
        build_model("resnet18", 10, features="layer4")
    with pytest.raises(ConfigError, match="unknown network 'torchvision/'"):
        build_model("torchvision/", 10)
