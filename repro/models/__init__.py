"""The networks: ``build_model(name, num_classes, image_size, **options)``.

One family per file; the file's header cites its paper and lists every deviation from it. All take square images
of 32 to 224 pixels in steps of 32 and return ``(logits, features)``.

Only the stem depends on the size. ``stem_stride`` 1 keeps the resolution with a 3x3 convolution; ``stem_stride`` 2
halves it with the first convolution of the published network, if that has stride 2. Neither has a max-pool, except in
``squeezenet_bn``, so that by default (stride 1 at 32x32, stride 2 at 64x64) the first stage of the others sees 32x32
pixels.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from repro.errors import UserError, nearest
from repro.experiment.catalog import builder_of, network, networks_with

__all__ = ["build_model"]

LARGEST_WITH_FULL_STEM = 32  # pixels: larger images are halved by the stem, unless ``stem_stride`` says otherwise

# The values of every option, the default first; ``features`` also takes the name of any module.
OPTIONS: dict[str, tuple[object, ...]] = {
    "stem_stride": (None, 1, 2),
    "feature_point": ("default", "before_norm"),
    "recompute": (False, True),
    "initialization": ("network", "layers"),
    "features": (None,),
}


def build_model(name: str, num_classes: int, image_size: int = 32, **options: object) -> nn.Module:
    """Build network ``name`` for ``num_classes`` classes and square images of ``image_size`` pixels.

    ``model(images)``, images float (N, 3, image_size, image_size), returns ``(logits, features)``: logits
    (N, num_classes), features (N, C, H, W), the last feature map before the global pooling. The weights are drawn
    from torch's global generator: seed it first.

    Options: ``stem_stride`` (1, 2, or None for the default of the image size); ``feature_point`` ("default", after the
    last activation, or "before_norm"; DenseNets only); ``recompute`` (DenseNets only: far less memory for the time of a
    second forward pass, and the same numbers); ``initialization`` ("network", that of its paper or torchvision, or
    "layers", PyTorch's default of each layer, as in the authors' code and its base); ``features`` (networks of
    torchvision only: the module whose output they are, None for the one whose output is pooled). Raises UserError for
    an unknown name, option or value, and for an option that the network does not have.
    """
    entry = network(name)
    build = builder_of(entry)
    if num_classes < 1:
        raise UserError(f"cannot build a classifier of {num_classes} classes", hint="num_classes must be at least 1.")
    chosen = _chosen(name, options)
    if "stem_stride" in entry.options and "stem_stride" not in chosen:
        chosen["stem_stride"] = 1 if image_size <= LARGEST_WITH_FULL_STEM else 2
    initialization = chosen.pop("initialization", "network")
    sized = {"image_size": image_size} if entry.takes_image_size else {}
    model: nn.Module = build(num_classes, **entry.arguments, **sized, **chosen)
    if initialization == "layers":
        for layer in model.modules():
            if callable(reset := getattr(layer, "reset_parameters", None)):
                reset()
    return model


def _chosen(name: str, options: Mapping[str, object]) -> dict[str, object]:
    """The options that differ from the default, checked against those that network ``name`` has."""
    chosen = {}
    for option, value in options.items():
        if option not in OPTIONS:
            raise UserError(f"unknown model option {option!r}", hint=nearest(option, OPTIONS))
        # Not `in`: in Python True equals 1, in an experiment file it does not.
        is_module = option == "features" and isinstance(value, str)
        if not is_module and not any(type(value) is type(known) and value == known for known in OPTIONS[option]):
            raise UserError(f"unknown {option} {value!r}", hint=nearest(str(value), map(str, OPTIONS[option])))
        if value == OPTIONS[option][0]:
            continue
        if option not in network(name).options:
            hint = f"Networks that have it: {', '.join(networks_with(option))}."
            raise UserError(f"{name} has no {option} {value!r}", hint=hint)
        chosen[option] = value
    return chosen
