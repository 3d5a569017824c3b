"""The options of build_model, and what it says to a wrong name or value."""

from __future__ import annotations

import pytest
import torch

from repro.errors import UserError
from repro.experiment.catalog import NETWORKS
from repro.models import build_model
from repro.models.describe import describe_model

DENSENETS = ("densenet100_k12", "densenet100_k24", "densenet121")


ONE_OF_EACH_FAMILY = (
    "shufflenetv2_x0_5",
    "mobilenetv2_x0_75",
    "squeezenet",
    "nasnet_a",
    "densenet100_k12",
    "densenet121",
    "resnet18",
    "efficientnet_b4",
)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_stem_stride_scales_everything_after_it(name: str) -> None:
    channels, height, width = describe_model(name, 10, 32, stem_stride=2).feature_shape
    assert describe_model(name, 10, 64, stem_stride=1).feature_shape == (channels, 4 * height, 4 * width)


def test_inception_pads_nothing_so_its_scales_are_not_halves() -> None:
    assert describe_model("inception_v3", 10, 64, stem_stride=1).feature_shape == (2048, 13, 13)
    assert describe_model("inception_v3", 10, 32, stem_stride=2).feature_shape == (2048, 2, 2)


def test_inception_has_27_13_and_6_pixels_at_its_three_scales() -> None:
    with torch.device("meta"):
        model = build_model("inception_v3", 200, 64).eval()
        images = torch.empty(1, 3, 64, 64)
    sides: list[int] = []
    for block in model.body:
        block.register_forward_hook(lambda _block, _inputs, output: sides.append(output.shape[-1]))
    model(images)
    assert sides == [31, 29, 29, 29, 27, 27, 27, 27, 13, 13, 13, 13, 13, 6, 6, 6]


def test_the_first_dense_layer_and_the_first_residual_block_see_32x32_pixels() -> None:
    for name, image_size in (("resnet18", 32), ("resnet18", 64), ("densenet121", 32), ("densenet121", 64)):
        with torch.device("meta"):
            model = build_model(name, 10, image_size).eval()
            stem = model.body[0](torch.empty(1, 3, image_size, image_size))
        assert stem.shape[-2:] == (32, 32)


@pytest.mark.parametrize("name", ["densenet100_k12", "densenet121"])
def test_before_norm_takes_the_maps_that_the_final_norm_takes(name: str) -> None:
    images = torch.randn(2, 3, 32, 32)
    torch.manual_seed(0)
    after = build_model(name, 10).eval()
    before = build_model(name, 10, feature_point="before_norm").eval()
    before.load_state_dict(after.state_dict())
    torch.nn.init.normal_(before.final_norm.bias)
    after.load_state_dict(before.state_dict())
    with torch.no_grad():
        logits, features = after(images)
        logits_before, maps = before(images)
        assert torch.equal(logits, logits_before)
        assert not torch.equal(features, maps)
        assert torch.equal(features, torch.relu(after.final_norm(maps)))


@pytest.mark.parametrize("option", [{"feature_point": "before_norm"}, {"recompute": True}])
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(DENSENETS)))
def test_densenet_options_elsewhere_name_the_densenets(name: str, option: dict[str, object]) -> None:
    with pytest.raises(UserError, match=name) as raised:
        build_model(name, 10, **option)
    assert all(densenet in str(raised.value) for densenet in DENSENETS)


def test_the_defaults_may_be_spelt_out_everywhere() -> None:
    with torch.device("meta"):
        for name in NETWORKS:
            build_model(name, 10, stem_stride=None, feature_point="default", recompute=False)


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        (("resnet81", 10), {}, "Did you mean 'resnet18'"),
        (("ShuffleNetV2_x0_5", 10), {}, "Did you mean 'shufflenetv2_x0_5'"),
        (("resnet18", 10), {"stem_strides": 1}, "Did you mean 'stem_stride'"),
        (("resnet18", 10), {"stem_stride": 3}, "unknown stem_stride 3"),
        (("resnet18", 10), {"stem_stride": True}, "unknown stem_stride True"),
        (("densenet121", 10), {"feature_point": "before_norms"}, "Did you mean 'before_norm'"),
        (("densenet121", 10), {"recompute": 1}, "unknown recompute 1"),
        (("resnet18", 0), {}, "a classifier of 0 classes"),
    ],
)
def test_a_wrong_name_or_value_is_named_with_the_nearest_right_one(
    arguments: tuple[object, ...], options: dict[str, object], told: str
) -> None:
    with pytest.raises(UserError) as raised:
        build_model(*arguments, **options)
    assert told in str(raised.value)


@pytest.mark.parametrize(("size", "seen"), [(24, 24), (32, 32), (48, 24), (64, 32)])
def test_the_default_stem_halves_images_of_more_than_32_pixels(size: int, seen: int) -> None:
    _, features = build_model("resnet18", 10, size).eval()(torch.zeros(1, 3, size, size))
    assert features.shape[-1] * 8 == seen


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_x1_0", "nasnet_a"])
def test_layers_start_as_pytorch_makes_each_where_that_is_asked(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(name, 10, initialization="layers")
    for layer in model.modules():
        if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and layer.weight.numel() > 2000:
            # Uniform within 1 / sqrt(fan-in), whose standard deviation is 1 / sqrt(3 fan-in).
            scaled = float(layer.weight.detach().std()) * layer.weight[0].numel() ** 0.5
            assert scaled == pytest.approx(3**-0.5, rel=0.06)
    before = build_model(name, 10)
    assert len(list(before.parameters())) == len(list(model.parameters()))
