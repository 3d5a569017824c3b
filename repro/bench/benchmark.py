"""The benchmark: compares arms for some networks; returns a record as plain data."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from repro.bench.bound import Bound, need_of
from repro.bench.compare import ArmResult, compare, measure_bound, ratio, whole_run_seconds
from repro.bench.configurations import Setting, with_execution
from repro.engine.device import choose_device
from repro.engine.provenance import machine_facts
from repro.experiment.catalog import network, require_builder
from repro.experiment.config import find_table
from repro.experiment.plugins import PLUGINS
from repro.experiment.schema import Cell, Execution, Run

_TABLE_OF_SIZE = {32: "table2", 64: "table1"}


@dataclass(frozen=True)
class Options:
    """Which ``arms`` are compared, in ``rounds`` epochs of ``batches`` full batches each."""

    arms: tuple[str, ...]
    rounds: int
    device: str
    threads: int
    workers: int
    image_size: int
    batch_size: int
    batches: int
    precision: str
    recompute: bool = False


def benchmark(
    models: Sequence[str], options: Options, tell: Callable[[str], None], save: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Compare the arms for each network; ``tell`` gets progress messages. Raises ConfigError for an unknown network.

    ``save`` gets the record after each round, with ``finished`` false until the end and each network's rounds so far.
    """
    cells = [cell_of(model, options) for model in models]
    tell("measuring the device: a large matrix product and a large copy")
    bound = measure_bound(options.device, options.precision, options.threads)
    record: dict[str, Any] = {
        "kind": "benchmark",
        "finished": False,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["biasrepro", *sys.argv[1:]],
        "options": asdict(options),
        "machine": machine_facts(choose_device(options.device)),
        "bound": bound,
        "models": {},
    }
    plugins = tuple(str(plugin.file) for plugin in PLUGINS.values())
    for model, cell in zip(models, cells, strict=True):
        settings = [
            Setting(
                arm=arm,
                run=with_execution(Run(cell=cell, seed=0), arm, options.precision),
                device=options.device,
                threads=options.threads,
                workers=options.workers,
                images=options.batches * options.batch_size,
                plugins=plugins,
            )
            for arm in options.arms
        ]
        tell(f"{model}: {', '.join(options.arms)}")
        for arms in compare(settings, options.rounds, tell):
            record["models"][model] = _summary(cell, arms, bound)
            save(record)
    record["finished"] = True
    save(record)
    return record


def cell_of(model: str, options: Options) -> Cell:
    """The cell whose steps are timed: ``model`` in the recipe of the table with such images, with the bias loss."""
    require_builder(network(model))
    table = find_table(f"{_TABLE_OF_SIZE[options.image_size]}+recipe.batch_size={options.batch_size}")
    execution = Execution(recompute=options.recompute)
    row = table.rows[0].model_copy(update={"model": model, "id": "measured", "published": None, "execution": execution})
    return table.cell(row, table.proposed)


def _summary(cell: Cell, arms: Sequence[ArmResult], bound: dict[str, float]) -> dict[str, Any]:
    """Each arm's figures, its ratio to the first arm, and its share of the bound."""
    need = need_of(cell)
    most, by = need.images_per_second(Bound(**bound))
    facts = cell.dataset.known_facts
    whole_run = cell.recipe.epochs * facts.train_count
    return {
        "rounds": len(arms[0].epoch_seconds),
        "classes": cell.dataset.num_classes,
        "bound_images_per_second": most,
        "bound_by": by,
        "need": asdict(need),
        "arms": {
            arm.arm: {
                **asdict(arm),
                "images_per_second": arm.images_per_second,
                "ratio": asdict(ratio(arm, arms[0])),
                "whole_run_seconds": whole_run_seconds(arm, whole_run),
                "ratio_over_a_whole_run": whole_run_seconds(arms[0], whole_run) / whole_run_seconds(arm, whole_run),
                "share_of_bound": arm.images_per_second / most,
            }
            for arm in arms
        },
    }
