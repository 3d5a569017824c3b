"""``biasrepro models``: the networks in numbers, beside what the paper prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

# As the tables build them: classes and image size in pixels of CIFAR-100 and of Tiny ImageNet.
BUILT_FOR = ((100, 32), (200, 64))


def models(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with exact counts.")] = False,
) -> None:
    """List the networks: parameters, multiply-accumulates, feature shape, and the parameters that the paper prints."""
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


def printed_parameters() -> dict[str, dict[str, float]]:
    """The printed number of parameters of each model, in millions, by the label of the table that prints it."""
    from repro.experiment.config import builtin_names, find_table

    printed: dict[str, dict[str, float]] = {}
    for table in map(find_table, builtin_names()):
        for row in table.rows:
            if row.published is not None and row.published.parameters_millions is not None:
                printed.setdefault(row.model, {})[table.label] = row.published.parameters_millions
    return printed
