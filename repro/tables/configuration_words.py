"""The configuration of runs in words, from the records themselves: data, training, weights of the loss."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from repro.experiment.added_keys import with_neutral
from repro.experiment.catalog import DATASETS
from repro.wording import counted

_OPTIMIZERS = {"sgd": "SGD", "adamw": "AdamW"}


class Configured(Protocol):
    """A record, or the place of a planned run."""

    @property
    def row(self) -> str:
        """The id of its row."""

    @property
    def column(self) -> str:
        """The id of its column."""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """Its resolved configuration."""


def configuration_lines(runs: Sequence[Configured]) -> list[tuple[str, str]]:
    """What was trained on, how, and with which weights: a heading and a text each.

    Where runs differ, there is a line for each variety, and its heading names the rows or columns that have it.
    """
    lines = []
    for heading, section, words in (
        ("Data", "dataset", data_words),
        ("Training", "recipe", training_words),
        ("Weights z", "weighting", weighting_words),
        ("Networks", "options", option_words),
    ):
        alike: dict[str, list[Configured]] = defaultdict(list)
        for run in runs:
            settings = with_neutral(run.configuration).get(section)
            alike[words(settings) if settings else ""].append(run)
        # Nothing to say: a loss without weights, a network with its usual options.
        unsaid = alike.pop("", [])
        for text, those in alike.items():
            others = [run for other, found in alike.items() if other != text for run in found]
            lines.append((f"{heading}{_whose(those, [*others, *(unsaid if section == 'options' else [])])}", text))
    return lines


def data_words(dataset: Mapping[str, Any]) -> str:
    """``Tiny ImageNet, its first 20 classes``."""
    rest = dict(dataset)
    name, classes = rest.pop("name"), rest.pop("classes")
    title = DATASETS[name].title if name in DATASETS else name
    return ", ".join([title, *([f"its first {classes} classes"] if classes else []), *_others(rest)])


def training_words(recipe: Mapping[str, Any]) -> str:
    """``12 epochs in batches of 128, SGD, learning rate 0.1, times 0.1 after epochs 7 and 10, ...``."""
    rest = dict(recipe)
    take = rest.pop
    epochs, optimizer, schedule = take("epochs"), take("optimizer"), take("schedule")
    words = [f"{counted(epochs, 'epoch')} in batches of {take('batch_size')}"]
    words.append(f"{_OPTIMIZERS.get(optimizer, optimizer)}, learning rate {take('learning_rate'):g}")
    last_rate, factor = take("final_learning_rate"), take("decay_factor")
    decays = [epoch for epoch in take("decay_epochs") if epoch < epochs]
    if schedule == "cosine":
        words.append(f"falling to {last_rate:g} along a cosine")
    elif decays:
        words.append(f"times {factor:g} after epoch{'s' if len(decays) > 1 else ''} {_listed(decays)}")
    if warmup := take("warmup_epochs"):
        words.append(f"{counted(warmup, 'epoch')} of linear warm-up")
    momentum, nesterov, betas, epsilon = take("momentum"), take("nesterov"), take("betas"), take("epsilon")
    if optimizer == "adamw":
        words.append(f"betas {_listed(f'{beta:g}' for beta in betas)}, epsilon {epsilon:g}")
    elif momentum:
        words.append(f"momentum {momentum:g}{' (Nesterov)' if nesterov else ''}")
    words.append(f"weight decay {take('weight_decay'):g}")
    if smoothing := take("label_smoothing"):
        words.append(f"labels smoothed by {smoothing:g}")
    if take("drop_last"):
        words.append("an epoch's last short batch left out")
    words.append(_augmentation_words(take("augmentation")))
    return ", ".join([*words, *_others(rest)])


def weighting_words(weighting: Mapping[str, Any]) -> str:
    """``alpha 0.3, beta 0.3, measures scaled by batch``."""
    rest = dict(weighting)
    alpha, beta, normalization = rest.pop("alpha"), rest.pop("beta"), rest.pop("normalization")
    return ", ".join([f"alpha {alpha:g}, beta {beta:g}, normalization {normalization}", *_others(rest)])


def option_words(options: Mapping[str, Any]) -> str:
    """The options of a network that are not the defaults; empty if all are."""
    from repro.experiment.schema import ModelOptions

    default = ModelOptions().model_dump(mode="json")
    return ", ".join(_others({key: value for key, value in options.items() if value != default.get(key)}))


def _augmentation_words(augmentation: Mapping[str, Any]) -> str:
    padding, degrees = augmentation["crop_padding_pixels"], augmentation["rotation_degrees"]
    words = [f"random crops with {counted(padding, 'pixel')} of padding"] if padding else []
    words += ["horizontal flips"] if augmentation["horizontal_flip"] else []
    words += [f"rotations by up to {degrees:g} degrees"] if degrees else []
    return _listed(words) if words else "no augmentation"


def _others(settings: Mapping[str, Any]) -> list[str]:
    """Settings without words of their own, by their keys."""
    return [f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if value not in (None, False)]


def _listed(items: Iterable[Any]) -> str:
    *most, last = map(str, items)
    return f"{', '.join(most)} and {last}" if most else last


def _whose(runs: Sequence[Configured], others: Sequence[Configured]) -> str:
    """The rows or columns that these runs have and ``others`` have not; else how many they are."""
    if not others:
        return ""
    for part in ("row", "column"):
        names = dict.fromkeys(getattr(run, part) for run in runs)
        if not names.keys() & {getattr(run, part) for run in others}:
            return f" of {_listed(names)}"
    return f" of {counted(len(runs), 'run')}"
