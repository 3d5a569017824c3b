"""``biasrepro bench``: training speed of the engine and of a standard PyTorch loop, on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from repro.cli.options import (
    Device,
    Overwrite,
    Plugins,
    complete,
    complete_list,
    output_option,
    refuse_unused,
    threads_option,
)
from repro.cli.references import complete_network
from repro.errors import UserError
from repro.experiment.catalog import Precision
from repro.wording import duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


def complete_arms(incomplete: str) -> list[str]:
    """The arms that follow what is typed of a list."""
    from repro.bench.configurations import ARMS

    return complete_list(*ARMS)(incomplete)


Models = Annotated[
    list[str] | None,
    typer.Argument(metavar="MODEL", help="Networks. Default: the five of Table 2.", autocompletion=complete_network),
]
Arms = Annotated[
    str | None,
    typer.Option(
        metavar="A,B",
        autocompletion=complete_arms,
        help="Arms to compare, of plain, resident, augment, memory, graph, format, compile, deterministic. Default: "
        "all but the last two.",
    ),
]
Batches = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Full batches in an epoch. Default: 20 on a CPU, 390 on a GPU.")
]
ImageSize = Annotated[
    int,
    typer.Option(
        min=32,
        max=64,
        autocompletion=complete("32", "64"),
        help="32 (recipe and classes of Table 2) or 64 (of Table 1).",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=0, max=256, help="Data loader processes of the plain loop. Default: one per core, at most 8."),
]
PrecisionOption = Annotated[Precision, typer.Option(help="Precision of format and the arms after it.")]
Recompute = Annotated[bool, typer.Option("--recompute", help="DenseNets: recompute activations (execution.recompute).")]


def bench(
    context: typer.Context,
    models: Models = None,
    arms: Arms = None,
    rounds: Annotated[int, typer.Option(min=1, max=1_000, help="Timed epochs of each arm, in turn A B B A.")] = 5,
    batches: Batches = None,
    batch_size: Annotated[int, typer.Option(min=2, max=65_536, help="Images in a batch.")] = 128,
    image_size: ImageSize = 32,
    device: Device = "auto",
    threads: Annotated[int | None, threads_option("all cores")] = None,
    workers: Workers = None,
    precision: PrecisionOption = "fp32",
    recompute: Recompute = False,
    plugin: Plugins = None,
    output: Annotated[Path | None, output_option("nowhere")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare our training with a standard PyTorch training loop: same network, weights, images and batch size.

    The standard loop has torch's own defaults, whatever --precision says; on a GPU these are TF32 convolutions.
    Images are random (their content does not change the speed), an epoch is short (--batches), warm-up is timed apart.
    """
    from repro.bench.benchmark import Options, benchmark
    from repro.bench.configurations import choose_arms
    from repro.cli.console import say
    from repro.cli.output import refuse_unwritable, write_output
    from repro.engine.device import choose_device
    from repro.experiment.config import find_table
    from repro.machine import usable_cores

    if image_size not in (32, 64):
        raise UserError(f"--image-size {image_size} is not supported", hint="Use 32 or 64.")
    chosen = choose_device(device)
    cores = usable_cores()
    models = models or [row.model for row in find_table("table2").rows]
    options = Options(
        arms=choose_arms(arms, chosen.type),
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
    _refuse_unused(context, models, options.arms)
    if output is not None:
        _make_folder(output.parent)
        refuse_unwritable(output, "benchmark", overwrite=overwrite)

    def save(record: Mapping[str, Any]) -> None:
        finished = record["finished"]
        if output is not None and (finished or output.is_file() or not output.exists()):  # a pipe gets only the end
            write_output(output, json.dumps(record, indent=1).encode() + b"\n", quiet=not finished)

    _show(benchmark(models, options, lambda text: say(text, "dim", stderr=True), save))


def _refuse_unused(context: typer.Context, models: Sequence[str], arms: Sequence[str]) -> None:
    """Raise UserError for options that change nothing for these networks and arms."""
    from repro.bench.configurations import has_precision
    from repro.experiment.catalog import NETWORKS

    if "plain" not in arms:
        refuse_unused(context, "workers", because="is for the arm plain, which --arms leaves out")
    if not any(map(has_precision, arms)):
        refuse_unused(context, "precision", because="is for format and the arms after it, which --arms leaves out")
    recomputing = [network.name for network in NETWORKS.values() if "recompute" in network.options]
    if not set(recomputing) & set(models):
        refuse_unused(context, "recompute", because=f"is for DenseNets: {', '.join(recomputing)}")
    elif context.params["recompute"] and "compile" in arms:
        raise UserError("torch cannot compile a network with --recompute", hint="Leave it or the arm compile out.")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"this folder cannot be made: {error.strerror}", where=str(folder)) from error


def _show(record: Mapping[str, Any]) -> None:
    """Print the record as a table, and explain its columns."""
    from repro.cli.console import say, show_table, size

    options, machine, bound = record["options"], record["machine"], record["bound"]
    first = options["arms"][0]
    headers = ["network", "arm", "images/s", f"x {first}", "range", "whole run", "% of bound", "batches", "memory"]
    say("")
    show_table(headers, list(_lines(record["models"])), right=(2, 3, 4, 5, 6, 7, 8))
    say("")
    say(f"{machine['device_name']}, {options['threads']} threads, {options['workers']} data loader workers of plain")
    say(
        f"% of bound: of {bound['operations_per_second'] / 1e9:,.0f} GFLOP/s (a large matrix product) or "
        f"{size(bound['bytes_per_second'])}/s (a large copy), whichever limits the network"
    )
    say(
        f"{options['rounds']} rounds of {options['batches']} batches of {options['batch_size']} random images of "
        f"{options['image_size']}x{options['image_size']}; medians, and the range of the rounds' ratios"
    )
    say("whole run: the recipe's epochs on the whole data set, with start-up and warm-up, without evaluation")
    say("batches: the share of the time that goes into making batches")


def _lines(models: Mapping[str, Any]) -> Iterator[list[str]]:
    from repro.cli.console import size

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
