"""The networks of the three tables: ``build_model(name, num_classes, image_size, **options)``.

One family a file; each file's header cites its paper and names every deviation from it. All take images of 32x32 and
of 64x64 pixels and return ``(logits, features)``.

The stem is what changes between the two sizes. ``stem_stride`` 1 keeps the resolution with a 3x3 convolution;
``stem_stride`` 2 halves it with the first convolution of the published network. Neither has a max-pool, so that by
default (stride 1 at 32x32, stride 2 at 64x64) the first stage sees 32x32 pixels.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from torch import nn

from repro.errors import UserError
from repro.models.densenet import densenet100_k12, densenet100_k24, densenet121
from repro.models.efficientnet import efficientnet_b4
from repro.models.inception import inception_v3
from repro.models.mobilenetv2 import mobilenetv2_x0_75, mobilenetv2_x1_0
from repro.models.nasnet import nasnet_a
from repro.models.resnet import resnet18
from repro.models.shufflenetv2 import shufflenetv2_x0_5, shufflenetv2_x1_0
from repro.models.squeezenet import squeezenet, squeezenet_bn

__all__ = ["MODELS", "build_model"]

MODELS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
    {
        builder.__name__: builder
        for builder in (
            shufflenetv2_x0_5,
            shufflenetv2_x1_0,
            mobilenetv2_x0_75,
            mobilenetv2_x1_0,
            squeezenet,
            squeezenet_bn,
            nasnet_a,
            densenet100_k12,
            densenet100_k24,
            densenet121,
            resnet18,
            efficientnet_b4,
            inception_v3,
        )
    }
)

DEFAULT_STEM_STRIDES = {32: 1, 64: 2}  # by image size

# Every option's values, the default first.
OPTIONS: Mapping[str, tuple[object, ...]] = MappingProxyType(
    {"stem_stride": (None, 1, 2), "feature_point": ("default", "before_norm"), "recompute": (False, True)}
)


def build_model(name: str, num_classes: int, image_size: int = 32, **options: object) -> nn.Module:
    """Build network ``name`` for ``num_classes`` classes and square images of ``image_size`` pixels (32 or 64).

    ``model(images)``, images float (N, 3, image_size, image_size), returns ``(logits, features)``: logits
    (N, num_classes), features (N, C, H, W), the last feature map before the global pooling. The weights are drawn
    from torch's global generator: seed it first.

    Options: ``stem_stride`` (1, 2, or None for the one that belongs to the image size); ``feature_point`` ("default",
    after the last activation, or "before_norm", DenseNets only); ``recompute`` (DenseNets only: far less memory for
    the time of a second forward pass, the same numbers).

    Raises UserError for an unknown name, option or value, and for an option that the network does not have.
    """
    if name not in MODELS:
        raise UserError(f"unknown model {name!r}", hint=_nearest(name, MODELS))
    if image_size not in DEFAULT_STEM_STRIDES:
        raise UserError(f"no stem for images of {image_size} pixels", hint=_nearest(image_size, DEFAULT_STEM_STRIDES))
    if num_classes < 1:
        raise UserError(f"a classifier of {num_classes} classes", hint="num_classes must be at least 1")
    chosen = _chosen(name, options)
    chosen.setdefault("stem_stride", DEFAULT_STEM_STRIDES[image_size])
    return MODELS[name](num_classes, **chosen)


def _chosen(name: str, options: Mapping[str, object]) -> dict[str, object]:
    """The options that differ from the default, checked against what network ``name`` has."""
    chosen = {}
    for option, value in options.items():
        if option not in OPTIONS:
            raise UserError(f"unknown model option {option!r}", hint=_nearest(option, OPTIONS))
        # Not `in`: to Python True is 1, to a reader of an experiment it is not.
        if not any(type(value) is type(known) and value == known for known in OPTIONS[option]):
            raise UserError(f"unknown {option} {value!r}", hint=_nearest(value, OPTIONS[option]))
        if value == OPTIONS[option][0]:
            continue
        having = [model for model, builder in MODELS.items() if option in inspect.signature(builder).parameters]
        if name not in having:
            raise UserError(f"{name} has no {option} {value!r}", hint=f"models that have it: {', '.join(having)}")
        chosen[option] = value
    return chosen


def _nearest(given: object, known: Iterable[object]) -> str:
    """Name the nearest of ``known`` where one is near, and all of them."""
    names = [str(value) for value in known]
    near = difflib.get_close_matches(str(given), names, n=1)
    suggestion = f"did you mean {near[0]!r}? " if near else ""
    return f"{suggestion}There is: {', '.join(names)}"
