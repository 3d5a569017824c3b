"""``biasrepro bench``: how much faster training is here than the usual loop, on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from repro.cli.options import Threads, refuse_unused
from repro.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def bench(
    context: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="MODEL", help="Networks. Default: the five of Table 2.")
    ] = None,
    arms: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Of plain, resident, augment, memory, graph, format, compile, deterministic. Default: without the "
            "last two.",
        ),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, max=1_000, help="Timed epochs of each arm, in turn A B B A.")] = 5,
    batches: Annotated[
        int | None, typer.Option(min=1, help="Full batches in an epoch. Default: 20 on a CPU, 390 on a GPU.")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images in a batch.")] = 128,
    image_size: Annotated[
        int, typer.Option(help="32 (recipe and classes of Table 2) or 64 (of Table 1).", min=32, max=64)
    ] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or cuda:N.")] = "auto",
    threads: Threads = None,
    workers: Annotated[
        int | None, typer.Option(min=0, max=256, help="The plain loop's processes. Default: one a core, at most 8.")
    ] = None,
    precision: Annotated[Literal["fp32", "tf32", "bf16"], typer.Option(help="Of the arms from format on.")] = "fp32",
    recompute: Annotated[
        bool, typer.Option("--recompute", help="DenseNets: activations are made again (execution.recompute).")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the record, as JSON.", dir_okay=False)
    ] = None,
) -> None:
    """Compare our training with the plain loop that is usually written: same network, weights, images and batch.

    Images are random (their content costs nothing), an epoch is short (--batches), warm-up is timed apart.
    """
    from repro.bench.benchmark import Options, benchmark
    from repro.bench.configurations import choose_arms, has_precision
    from repro.cli.console import say
    from repro.engine.device import choose_device
    from repro.experiment.catalog import NETWORKS
    from repro.experiment.config import find_table
    from repro.machine import usable_cores

    if image_size not in (32, 64):
        raise UserError(f"--image-size {image_size}: 32 or 64")
    chosen = choose_device(device)
    cores = usable_cores()
    compared = choose_arms(arms, chosen.type)
    if "plain" not in compared:
        refuse_unused(context, "workers", because="is of the plain loop, which --arms leaves out")
    if not any(map(has_precision, compared)):
        refuse_unused(context, "precision", because="is of the arms from format on, which --arms leaves out")
    recomputing = [network.name for network in NETWORKS.values() if "recompute" in network.options]
    models = models or [row.model for row in find_table("table2").rows]
    if not set(recomputing) & set(models):
        refuse_unused(context, "recompute", because=f"is for DenseNets: {', '.join(recomputing)}")
    options = Options(
        arms=compared,
        rounds=rounds,
        device=str(chosen),
        threads=threads or cores,
        workers=min(8, cores) if workers is None else workers,
        image_size=image_size,
        batch_size=batch_size,
        batches=batches or (20 if chosen.type == "cpu" else 390),
        precision=precision,
        recompute=recompute,
    )
    if output is not None:
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"its folder cannot be made: {error.strerror}", where=str(output)) from error
    record = benchmark(models, options, lambda text: say(text, "dim", stderr=True))
    _show(record)
    if output is not None:
        from repro.cli.output import write_output

        write_output(output, json.dumps(record, indent=1).encode() + b"\n")


def _show(record: Mapping[str, Any]) -> None:
    """The record as a table, and what its figures mean."""
    from repro.cli.console import say, show_table, size

    options, machine, bound = record["options"], record["machine"], record["bound"]
    first = options["arms"][0]
    headers = ["network", "arm", "images/s", f"x {first}", "least-most", "whole run", "of bound", "batches", "memory"]
    print()
    show_table(headers, list(_lines(record["models"])), right=(2, 3, 4, 5, 6, 7, 8))
    print()
    say(f"{machine['device_name']}, {options['threads']} threads, {options['workers']} workers of the plain loop")
    say(
        f"bound: {bound['operations_per_second'] / 1e9:,.0f} GFLOP/s in a matrix product, "
        f"{size(bound['bytes_per_second'])}/s in a copy"
    )
    say(
        f"{options['rounds']} rounds of {options['batches']} batches of {options['batch_size']} random images of "
        f"{options['image_size']}x{options['image_size']}; medians, and the least and most of the rounds' ratios"
    )
    say("whole run: training for the recipe's epochs on the whole data set, with start and warm-up, without evaluation")
    say("batches: the share of the time that making them takes")


def _lines(models: Mapping[str, Any]) -> Iterator[list[str]]:
    from repro.cli.console import duration, size

    for model, results in models.items():
        for arm, result in results["arms"].items():
            median = result["images"] / result["images_per_second"]
            feed = result["feed_seconds"]
            yield [
                model,
                arm,
                f"{result['images_per_second']:,.0f}",
                f"{result['ratio']['median']:.2f}",
                f"{result['ratio']['least']:.2f}-{result['ratio']['greatest']:.2f}",
                f"{duration(result['whole_run_seconds'])} ({result['ratio_over_a_whole_run']:.2f})",
                f"{result['share_of_bound']:.0%} {results['bound_by']}",
                "–" if feed is None else f"{feed / median:.1%}",
                size(result["peak_memory_bytes"]),
            ]
