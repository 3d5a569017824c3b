"""``biasrepro models``: the networks in numbers, beside what the paper prints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from repro.cli.options import AsJson, Plugins
from repro.cli.references import complete_network
from repro.errors import UserError

# As the tables build them: classes and image size in pixels of CIFAR-100 and of Tiny ImageNet.
BUILT_FOR = ((100, 32), (200, 64))
CLASSES = 100  # of networks that are named

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NETWORK",
        autocompletion=complete_network,
        help="Only these, such as torchvision/mobilenet_v3_small: any classification network of torchvision. Shows the "
        "module whose output are the features. Without one: the networks of biasrepro.",
        show_default=False,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", min=1, max=1024, metavar="PIXELS", help="Also at this size; with NETWORK."),
]
Features = Annotated[
    str | None, typer.Option("--features", metavar="MODULE", help="Take the features there; with NETWORK.")
]


def models(
    names: Names = None,
    image_size: ImageSize = None,
    features: Features = None,
    plugin: Plugins = None,
    as_json: AsJson = False,
) -> None:
    """List the networks: parameters, multiply-accumulates, feature shape, and the parameters that the paper prints."""
    if names:
        return _describe(names, image_size, features, as_json=as_json)
    if image_size is not None or features is not None:
        raise UserError("--image-size and --features are of a NETWORK", hint="Name one, or leave them out.")
    from repro.cli.console import say, show_table
    from repro.cli.output import deliver
    from repro.experiment.catalog import NETWORKS
    from repro.models.describe import describe_model

    printed = printed_parameters()
    rows, data = [], []
    for name in NETWORKS:
        sizes = [describe_model(name, *built_for) for built_for in BUILT_FOR]
        by_table = printed.get(name, {})
        data.append({"model": name, "built": [asdict(size) for size in sizes], "printed_parameters_millions": by_table})
        row = [name, *(f"{size.parameters:,}" for size in sizes), *(f"{size.gmacs_per_image:.3f}" for size in sizes)]
        row.append("x".join(map(str, sizes[0].feature_shape)))
        row.append(", ".join(f"{millions:g}M" for millions in sorted(set(by_table.values()))) or "–")
        rows.append(row)
    if as_json:
        return deliver(json.dumps(data, indent=2) + "\n", None)
    (few, small), (many, large) = BUILT_FOR
    headers = ["model", f"{few} classes", f"{many} classes", f"at {small}", f"at {large}", "features", "paper"]
    show_table(headers, rows, right=(1, 2, 3, 4, 6))
    say(f"{few} and {many} classes: trainable parameters; paper: those that it prints")
    say(f"at {small} and {large}: 1e9 multiply-accumulates of a forward pass, for one image of that many pixels a side")
    say(f"features: channels, height, width at {small} with {few} classes; --json has those at {large} too")
    say("next  biasrepro sweep table2 --dry-run")
    return None


def _describe(names: Sequence[str], image_size: int | None, features: str | None, *, as_json: bool) -> None:
    """Show the networks ``names`` at the usual sizes and at ``image_size``. Raises UserError for an unknown one."""
    from repro.cli.console import say, show_table
    from repro.cli.output import deliver
    from repro.models.describe import describe_model

    options = {} if features is None else {"features": features}
    sizes = sorted({size for _, size in BUILT_FOR} | ({image_size} if image_size else set()))
    rows, data = [], []
    refusals: dict[str, UserError] = {}
    for name in names:
        built = []
        for size in sizes:
            try:
                built.append(describe_model(name, CLASSES, size, **options))
            except UserError as error:
                refusals[f"{name} at {size}"] = error
        if not built:
            raise refusals[f"{name} at {sizes[-1]}"]
        data.append({"model": name, "built": [asdict(network) for network in built]})
        for network in built:
            shape = "x".join(map(str, network.feature_shape))
            row = [name, str(network.image_size), f"{network.parameters:,}", f"{network.gmacs_per_image:.3f}"]
            rows.append([*row, shape, network.feature_module or "–"])
    if as_json:
        return deliver(json.dumps(data, indent=2) + "\n", None)
    show_table(["model", "pixels", "parameters", "GMACs", "features", "module"], rows, right=(1, 2, 3))
    for refusal in refusals.values():
        say(refusal.what)
    say(f"parameters: trainable, for {CLASSES} classes; GMACs: 1e9 multiply-accumulates of a forward pass of an image")
    say("features: their shape, and the module whose output they are; `options: {features: MODULE}` of a row sets it")
    return None


def printed_parameters() -> dict[str, dict[str, float]]:
    """The printed number of parameters of each model, in millions, by the label of the table that prints it."""
    from repro.experiment.config import builtin_names, find_table

    printed: dict[str, dict[str, float]] = {}
    for table in map(find_table, builtin_names()):
        for row in table.rows:
            if row.published is not None and row.published.parameters_millions is not None:
                printed.setdefault(row.model, {})[table.label] = row.published.parameters_millions
    return printed
