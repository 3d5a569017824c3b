"""What a plugin needs: a Python file of yours that adds networks, losses and data sets, given with ``--plugin FILE``.

    from repro.api import dataset, loss, network

    @network
    def tinynet(num_classes: int) -> nn.Module: ...

In a file ``my_study.py`` this is ``model: my_study/tinynet`` of a row. Each decorator registers what follows it and
returns it unchanged; where no plugin is being loaded, as in your own tests, it only returns it. docs/your-own.md has an
example.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from numbers import Integral
from typing import Any, TypeVar, overload

from repro.errors import ConfigError
from repro.experiment.catalog import DATASETS, LOSSES, NETWORKS, PROVIDED, DatasetFacts, Loss, Network
from repro.experiment.plugins import BUILT_BY, plugin_of

__all__ = ["dataset", "loss", "network"]

Builder = TypeVar("Builder", bound=Callable[..., Any])

_loading: list[str] = []  # the plugin that is being loaded, if one is

# What is given by keyword to the functions of each kind that have such parameters; num_classes to every network.
_GIVEN: dict[str, tuple[str, ...]] = {
    "network": ("num_classes", "image_size"),
    "loss": ("alpha", "beta", "normalization", "label_smoothing"),
    "data set": (),
}


@overload
def network(build: Builder) -> Builder: ...
@overload
def network(*, name: str | None = None, features: str | None = None) -> Callable[[Builder], Builder]: ...
def network(build: Any = None, *, name: str | None = None, features: str | None = None) -> Any:
    """Register a function or class that builds a network, by its own name or by ``name``.

    It is called with ``num_classes``, and with ``image_size`` (pixels) if it has such a parameter, by keyword, and
    returns an ``nn.Module``. This maps images, float (N, 3, H, W), to ``(logits, features)``: logits (N, num_classes)
    and the last feature map (N, C, H, W), or tokens (N, L, D). If it returns logits alone, ``features`` names the
    module of it whose output are the features. Draw weights from torch's global generator: it is seeded before.
    """
    if build is None:
        return partial(network, name=name, features=features)

    def add(full_name: str, path: str) -> None:
        PROVIDED[path] = partial(_built_network, build, full_name, features)
        takes_image_size = "image_size" in _parameters(build)
        NETWORKS[full_name] = Network(full_name, path, takes_image_size=takes_image_size)

    return _registered("network", NETWORKS, build, name, add)


@overload
def loss(build: Builder) -> Builder: ...
@overload
def loss(*, name: str | None = None) -> Callable[[Builder], Builder]: ...
def loss(build: Any = None, *, name: str | None = None) -> Any:
    """Register a function or class that builds a loss, by its own name or by ``name``.

    It is called with those of ``alpha``, ``beta``, ``normalization`` (of the table's ``weighting``) and
    ``label_smoothing`` that it has as parameters, and returns an ``nn.Module``. This is called with ``logits`` (N, K),
    ``features`` and int64 ``targets`` (N,), by keyword, and returns the losses (N,) of the samples, float32; or a pair:
    such losses, already weighted, and their weights (N,). Training takes the mean. State belongs into buffers.
    """
    if build is None:
        return partial(loss, name=name)

    def add(full_name: str, path: str) -> None:
        parameters = _parameters(build)
        PROVIDED[path] = partial(_built_loss, build, full_name, parameters)
        smoothed = "label_smoothing" in parameters
        LOSSES[full_name] = Loss(full_name, path, weighted=True, label_smoothing=smoothed)

    return _registered("loss", LOSSES, build, name, add)


def dataset(
    *,
    num_classes: int,
    image_size: int,
    train_count: int,
    test_count: int,
    name: str | None = None,
    title: str | None = None,
) -> Callable[[Builder], Builder]:
    """Register a function that returns a data set, by its own name or by ``name``; counts are of images.

    It is called without arguments whenever a run starts, and returns ``(train_images, train_labels), (test_images,
    test_labels)``: NumPy arrays, images uint8 (N, 3, image_size, image_size), labels whole numbers from 0 to
    ``num_classes`` - 1.
    """

    def register(load: Builder) -> Builder:
        def add(full_name: str, path: str) -> None:
            numbers = {"num_classes": num_classes, "image_size": image_size}
            _require_counts(full_name, {**numbers, "train_count": train_count, "test_count": test_count})
            PROVIDED[path] = partial(_decoded, load)
            DATASETS[full_name] = DatasetFacts(
                full_name,
                title or full_name,
                num_classes=num_classes,
                image_size=image_size,
                train_count=train_count,
                test_count=test_count,
                source=f"the plugin {plugin_of(full_name)}",
                decoder=path,
            )

        return _registered("data set", DATASETS, load, name, add)

    return register


@contextmanager
def loading(plugin: str) -> Iterator[None]:
    """While this is active, decorators register for ``plugin``."""
    _loading.append(plugin)
    try:
        yield
    finally:
        _loading.pop()


def _registered(
    kind: str, names: Mapping[str, Any], build: Builder, name: str | None, add: Callable[[str, str], None]
) -> Builder:
    """``build``, added under its name if a plugin is being loaded. Raises ConfigError for a name that cannot be."""
    if not _loading:
        return build
    plugin = _loading[-1]
    own_name = str(name or getattr(build, "__name__", ""))
    full_name = f"{plugin}/{own_name}"
    code = getattr(build, "__code__", None)
    where = f"{code.co_filename}:{code.co_firstlineno}" if code else getattr(sys.modules.get(plugin), "__file__", None)
    if not callable(build):
        what = f"a {type(build).__name__} cannot be registered as a {kind}"
        raise ConfigError(what, where=where, hint="Decorate a function or a class.")
    if plugin_of(full_name) is None:
        raise ConfigError(f"{own_name!r} cannot be a name", where=where, hint="Use letters, digits, '_', '-' and '.'.")
    _require_defaults(kind, own_name, build, where)
    if full_name in names:
        raise ConfigError(f"two of this file are the {kind} '{own_name}'", where=where, hint="Give one another name.")
    add(full_name, f"{plugin}:{kind.replace(' ', '_')}.{own_name}")
    return build


def _parameters(build: Callable[..., Any]) -> set[str]:
    """The names of the parameters of ``build``."""
    try:
        return set(inspect.signature(build).parameters)
    except (TypeError, ValueError):  # a class written in C
        return set()


def _require_defaults(kind: str, name: str, build: Callable[..., Any], where: str | None) -> None:
    """Raises ConfigError if ``build`` cannot be called with what its ``kind`` is given."""
    try:
        signature = inspect.signature(build)
    except (TypeError, ValueError):  # a class written in C
        return
    given = {option for option in _GIVEN[kind] if option in signature.parameters or option == "num_classes"}
    try:
        signature.bind(**dict.fromkeys(given))
    except TypeError as error:
        what = f"the {kind} '{name}' cannot be called: {error}"
        by_name = f"by name, as far as it has them, {', '.join(_GIVEN[kind])}" if _GIVEN[kind] else "nothing"
        hint = f"It is given {by_name}. Other parameters need a default."
        raise ConfigError(what, where=where, hint=hint) from error


def _require_counts(name: str, counts: Mapping[str, int]) -> None:
    """Raises ConfigError unless each of the ``counts`` of a data set is a whole number of at least 1."""
    for key, count in counts.items():
        if not isinstance(count, Integral) or count < 1:
            what = f"{key} of the data set {name} is {count!r}"
            raise ConfigError(what, hint="It must be a whole number of at least 1.")


def _built_network(build: Callable[..., Any], name: str, features: str | None, num_classes: int, **options: Any) -> Any:
    """The network that ``build`` returns, with features, and a check of what it returns."""
    from repro.models.classifier import ChosenFeatures, require_outputs

    # By keyword: the first parameter of a function of the user's own may be another one.
    built = _module(build(num_classes=num_classes, **options), "network", name)
    if features is not None:
        built = ChosenFeatures(built, features)
    built.register_forward_hook(partial(require_outputs, name, num_classes))
    return built


def _built_loss(build: Callable[..., Any], name: str, parameters: set[str], **options: Any) -> Any:
    """The loss that ``build`` returns."""
    return _module(build(**{key: value for key, value in options.items() if key in parameters}), "loss", name)


def _module(built: Any, kind: str, name: str) -> Any:
    """``built``, marked as its plugin's. Raises ConfigError if it is no module."""
    from torch import nn

    if not isinstance(built, nn.Module):
        raise ConfigError(f"the {kind} {name} is a {type(built).__name__}, not a torch.nn.Module")
    setattr(built, BUILT_BY, plugin_of(name))
    return built


def _decoded(load: Callable[[], Any], facts: DatasetFacts) -> Any:
    """What ``load`` returns, as decoded images. Raises ConfigError if it is not two pairs of arrays."""
    import numpy as np

    from repro.data.decoded import DecodedImages

    try:
        (train_images, train_labels), (test_images, test_labels) = load()
        labels = [np.asarray(given) for given in (train_labels, test_labels)]
        with np.errstate(invalid="ignore"):  # of NaN, which is found below
            numbers = [array.astype(np.int64) for array in labels]
        images = [np.ascontiguousarray(images) for images in (train_images, test_images)]
    except (TypeError, ValueError) as error:
        what = f"the data set {facts.name} does not return (train_images, train_labels), (test_images, test_labels)"
        raise ConfigError(what, hint=str(error)) from error
    for array, rounded in zip(labels, numbers, strict=True):
        if array.dtype.kind not in "US" and not np.array_equal(array, rounded):
            hint = f"Labels are class numbers, from 0 to {facts.num_classes - 1}."
            raise ConfigError(f"the data set {facts.name} has labels that are not whole numbers", hint=hint)
    classes = tuple(str(index) for index in range(facts.num_classes))
    return DecodedImages(images[0], numbers[0], images[1], numbers[1], classes)
