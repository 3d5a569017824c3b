"""``biasrepro models``: the networks, in numbers, beside what the paper prints."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from repro.models.describe import ModelDescription

# As the tables build them: classes and image size in pixels of CIFAR-100 and of Tiny ImageNet.
BUILT_FOR = (("CIFAR-100", 100, 32), ("Tiny ImageNet", 200, 64))


def models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with exact counts.")] = False,
) -> None:
    """List the networks: parameters, multiply-accumulates, feature shape, and the figure that the paper prints."""
    from repro.experiment.catalog import NETWORKS
    from repro.models.describe import describe_model

    printed = printed_parameters()
    described = {
        name: [describe_model(name, classes, image_size) for _, classes, image_size in BUILT_FOR] for name in NETWORKS
    }
    if as_json:
        print(json.dumps([_as_data(name, sizes, printed.get(name, {})) for name, sizes in described.items()], indent=2))
        return
    from repro.cli.console import say, show_table

    headers = ["model", *(f"{classes} classes" for _, classes, _ in BUILT_FOR)]
    headers += [f"at {pixels}" for _, _, pixels in BUILT_FOR]
    headers += ["features", "paper"]
    rows = [
        [
            name,
            *(f"{size.parameters:,}" for size in sizes),
            *(f"{size.gmacs_per_image:.3f}" for size in sizes),
            "x".join(str(extent) for extent in sizes[0].feature_shape),
            ", ".join(f"{millions:g}M" for millions in sorted(set(printed.get(name, {}).values()))) or "–",
        ]
        for name, sizes in described.items()
    ]
    show_table(headers, rows, right=(1, 2, 3, 4, 6))
    (_, few, small), (_, many, large) = BUILT_FOR
    say(f"{few} and {many} classes: trainable parameters; paper: those that it prints")
    say(f"at {small} and {large}: 1e9 multiply-accumulates of a forward pass, for one image of so many pixels a side")
    say(f"features: channels, height, width at {small} with {few} classes; --json has those at {large} too")
    say("next  biasrepro sweep table2 --dry-run")


def printed_parameters() -> dict[str, dict[str, float]]:
    """What is printed of each model's parameters, in millions, by the label of the table that prints it."""
    from repro.experiment.config import builtin_names, find_table

    printed: dict[str, dict[str, float]] = {}
    for table in map(find_table, builtin_names()):
        for row in table.rows:
            if row.published is not None and row.published.parameters_millions is not None:
                printed.setdefault(row.model, {})[table.label] = row.published.parameters_millions
    return printed


def _as_data(name: str, sizes: list[ModelDescription], by_table: dict[str, float]) -> dict[str, Any]:
    return {
        "model": name,
        "built": [
            {
                "num_classes": size.num_classes,
                "image_size": size.image_size,
                "parameters": size.parameters,
                "gmacs_per_image": size.gmacs_per_image,
                "feature_shape": list(size.feature_shape),
            }
            for size in sizes
        ],
        "printed_parameters_millions": by_table,
    }
