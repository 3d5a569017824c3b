"""What holds for every network: shapes, counts, gradients, initialization, memory formats."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from repro.experiment.catalog import NETWORKS
from repro.models import build_model

# (C, H, W) of the features by default, at 32x32 and at 64x64; None: one map a class.
FEATURE_SHAPES = {
    "shufflenetv2_x0_5": ((1024, 4, 4), (1024, 4, 4)),
    "shufflenetv2_x1_0": ((1024, 4, 4), (1024, 4, 4)),
    "mobilenetv2_x0_75": ((1280, 4, 4), (1280, 4, 4)),
    "mobilenetv2_x1_0": ((1280, 4, 4), (1280, 4, 4)),
    "squeezenet": ((10, 8, 8), (10, 8, 8)),
    "squeezenet_bn": ((10, 4, 4), (10, 4, 4)),
    "nasnet_a": ((1056, 8, 8), (1056, 8, 8)),
    "densenet100_k12": ((1168, 8, 8), (1168, 8, 8)),
    "densenet100_k24": ((2320, 8, 8), (2320, 8, 8)),
    "densenet121": ((1024, 4, 4), (1024, 4, 4)),
    "resnet18": ((512, 4, 4), (512, 4, 4)),
    "efficientnet_b4": ((1792, 2, 2), (1792, 2, 2)),
    "inception_v3": ((2048, 5, 5), (2048, 6, 6)),
}

# Its own stem and strides are kept (paper/README.md), and they go below.
BELOW_4X4 = {"efficientnet_b4"}

# ReLU's least value is 0; these end in a SiLU, and in a convolution without an activation.
LEAST_ACTIVATION = {"efficientnet_b4": -0.2785, "squeezenet_bn": -float("inf")}

# name, classes, image size, parameters. The comment is the figure of the paper or of its evidence, in millions.
PARAMETERS = [
    ("shufflenetv2_x0_5", 1000, 32, 1_366_792),  # 1.367, printed 1.4
    ("shufflenetv2_x0_5", 100, 32, 444_292),  # 0.444
    ("shufflenetv2_x1_0", 100, 32, 1_356_104),  # 1.356
    ("mobilenetv2_x0_75", 1000, 32, 2_636_424),  # 2.636, printed 2.6
    ("mobilenetv2_x0_75", 100, 32, 1_483_524),  # 1.484
    ("mobilenetv2_x1_0", 100, 32, 2_351_972),  # 2.352
    ("squeezenet", 1000, 64, 1_248_424),  # 1.248, printed 1.25: the form with the published 7x7 convolution
    ("squeezenet", 100, 64, 786_724),  # 0.787
    ("squeezenet", 100, 32, 775_204),  # the same with the 3x3 convolution: 96 x 3 x (49 - 9) = 11,520 fewer
    ("squeezenet_bn", 100, 32, 781_156),  # 0.78 in the base's table
    ("nasnet_a", 1000, 32, 5_259_924),  # printed 5.3
    ("nasnet_a", 100, 32, 4_308_624),  # 4.31; the base's 5.22 counts 0.89 that no forward pass uses
    ("densenet100_k12", 10, 32, 6_979_642),  # 7.0 in the DenseNet paper
    ("densenet100_k12", 100, 32, 7_084_852),  # 7.1
    ("densenet100_k24", 10, 32, 27_249_082),  # 27.2 in the DenseNet paper
    ("densenet100_k24", 100, 32, 27_457_972),  # 27.5
    ("densenet121", 100, 32, 7_048_676),  # 7.05
    ("resnet18", 100, 32, 11_220_132),  # 11.22
    ("resnet18", 200, 64, 11_279_112),  # 11.28
    ("efficientnet_b4", 1000, 64, 19_341_616),  # 19.34, printed 19
    ("efficientnet_b4", 200, 64, 17_907_216),  # 17.91
    ("inception_v3", 1000, 64, 23_834_568),  # 23.83, printed 24
    ("inception_v3", 200, 64, 22_195_368),  # 22.20
]

HEAVY = {"nasnet_a", "densenet100_k12", "densenet100_k24", "densenet121", "efficientnet_b4", "inception_v3"}
EVERY_MODEL_HEAVY_SLOW = [pytest.param(n, marks=pytest.mark.slow) if n in HEAVY else n for n in NETWORKS]
# The larger twin shares every line of code with densenet100_k12.
EVERY_MODEL_TWIN_SLOW = [pytest.param(n, marks=pytest.mark.slow) if n == "densenet100_k24" else n for n in NETWORKS]


def built(name: str, seed: int = 0, image_size: int = 32) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(name, 10, image_size)


def test_every_model_is_covered_here() -> None:
    assert set(FEATURE_SHAPES) == set(NETWORKS)
    assert {name for name, *_ in PARAMETERS} == set(NETWORKS)


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_in_training(name: str, image_size: int) -> None:
    # On the meta device no tensor has values: whatever reads one (a host sync on a GPU) raises here.
    with torch.device("meta"):
        logits, features = build_model(name, 10, image_size).train()(torch.empty(2, 3, image_size, image_size))
    assert logits.shape == (2, 10)
    assert features.shape == (2, *FEATURE_SHAPES[name][image_size // 64])


def test_the_last_feature_map_has_4x4_pixels_or_more() -> None:
    smaller = {name for name, shapes in FEATURE_SHAPES.items() for shape in shapes if min(shape[1:]) < 4}
    assert smaller == BELOW_4X4


@pytest.mark.parametrize(("name", "num_classes", "image_size", "parameters"), PARAMETERS)
def test_parameter_count(name: str, num_classes: int, image_size: int, parameters: int) -> None:
    with torch.device("meta"):
        model = build_model(name, num_classes, image_size)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("name", EVERY_MODEL_HEAVY_SLOW)
def test_every_parameter_gets_a_finite_gradient(name: str) -> None:
    model = built(name).train()
    logits, features = model(torch.randn(4, 3, 32, 32))
    assert logits.isfinite().all()
    assert features.isfinite().all()
    nn.functional.cross_entropy(logits, torch.tensor([1, 3, 5, 7])).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.any(), parameter_name


@pytest.mark.parametrize("name", EVERY_MODEL_HEAVY_SLOW)
def test_the_classifier_pools_the_features(name: str) -> None:
    logits, features = built(name).eval()(torch.randn(2, 3, 32, 32))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), features)
    assert gradient.any()
    # The derivative of an average is the same at every pixel.
    torch.testing.assert_close(gradient, gradient[:, :, :1, :1].expand_as(gradient))


@pytest.mark.parametrize("name", EVERY_MODEL_TWIN_SLOW)
def test_features_are_activations_and_the_same_in_channels_last(name: str) -> None:
    model, images = built(name).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected_logits, expected_features = model(images)
        model.to(memory_format=torch.channels_last)
        logits, features = model(images.to(memory_format=torch.channels_last))
    assert expected_features.min() >= LEAST_ACTIVATION.get(name, 0)
    for actual, expected in ((logits, expected_logits), (features, expected_features)):
        assert expected.any()
        torch.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", EVERY_MODEL_TWIN_SLOW)
def test_the_seed_decides_the_initialization(name: str) -> None:
    first, again, other = (built(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    drawn = [key for key, value in first.items() if value.dim() > 1]
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


@pytest.mark.parametrize("name", EVERY_MODEL_HEAVY_SLOW)
def test_bfloat16_autocast(name: str) -> None:
    model = built(name).train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, features = model(torch.randn(2, 3, 32, 32))
    assert logits.dtype == features.dtype == torch.bfloat16
    assert logits.isfinite().all()
