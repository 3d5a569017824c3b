"""Checks before any run starts, which give one message instead of one per run: results folder, disk, data set."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from repro.errors import ConfigError, UserError

if TYPE_CHECKING:
    from repro.experiment.schema import Cell, DatasetChoice, Run, Table
    from repro.sweep.selection import Plan


def require_writable(results: Path, runs: Sequence[Run] = ()) -> None:
    """Raise UserError if the results folder, or the folder of a cell of ``runs``, is not writable."""
    from repro.results.files import permission_hint

    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        way_out = permission_hint(results) if isinstance(error, PermissionError) else "Free disk space"
        hint = f"{way_out}, or choose another folder with --results."
        raise UserError(
            f"cannot write to the results folder: {error.strerror}", where=str(results), hint=hint
        ) from error
    for cell in {run.cell.id for run in runs}:
        folder = next(place for place in (results / cell, *(results / cell).parents) if place.exists())
        if not os.access(folder, os.W_OK | os.X_OK):  # another user made it
            raise UserError(
                "cannot write to the results folder: Permission denied",
                where=str(folder),
                hint=f"{permission_hint(folder)}, or choose another folder with --results.",
            )


def require_space(results: Path, plan: Plan, at_once: int, *, keep_weights: bool) -> None:
    """Raise UserError if the records, checkpoints and kept weights of the remaining runs do not fit on the disk."""
    from repro.cli.console import size
    from repro.results.disk_space import free_bytes
    from repro.sweep.cost.estimate import estimate
    from repro.wording import counted

    needed, free = estimate(plan.todo, {}, at_once, keep_weights=keep_weights).disk_bytes, free_bytes(results)
    if free < needed:
        raise UserError(
            f"not enough disk space: {counted(len(plan.todo), 'run')} may need {size(needed)}; {size(free)} free",
            where=str(results),
            hint="Free disk space (`biasrepro verify` lists what may be deleted), or choose another --results folder.",
        )


def say_warnings(tables: Iterable[Table]) -> None:
    """Print what is perhaps not meant in the files of ``tables`` or in what the command line sets."""
    from repro.cli.console import say
    from repro.experiment.config import warnings_of

    for warning in dict.fromkeys(filter(None, map(warnings_of, tables))):
        say(f"warning: {warning}", "yellow", stderr=True)


def require_known(cells: Iterable[Cell]) -> None:
    """Raise ConfigError for a network, a loss or a data set whose plugin is not loaded, or that torchvision has not.

    It also builds the networks of torchvision, without memory for their weights.
    """
    from repro.experiment.catalog import dataset_facts, loss, network, require_builder
    from repro.experiment.plugins import is_torchvisions, plugin_of

    built: set[str] = set()
    for cell in {cell.id: cell for cell in cells}.values():
        require_builder(loss(cell.column.loss))
        require_builder(network(cell.row.model))
        if plugin_of(cell.dataset.name) is not None:
            dataset_facts(cell.dataset.name)
        if is_torchvisions(cell.row.model) and cell.row.id not in built:
            from repro.models.describe import describe_model

            options = cell.row.options.model_dump()
            try:
                describe_model(cell.row.model, cell.dataset.num_classes, cell.dataset.side_pixels, **options)
            except ConfigError as error:
                raise ConfigError(error.what, where=f"{cell.table}, row '{cell.row.id}'", hint=error.hint) from error
            built.add(cell.row.id)


def prepare_images(choice: DatasetChoice, root: Path, *, finished: bool) -> None:
    """Decode what a run needs that is not decoded yet; nothing of an archive for a run that is ``finished``."""
    know_images(choice, root)
    if not finished:
        decode_with_progress(choice, root)


def decode_with_progress(choice: DatasetChoice, root: Path) -> None:
    """Decode a data set that is only there as an archive or a folder; otherwise do nothing."""
    from repro.data.prepare import cache_path, find_source

    facts = choice.facts
    if facts is None or facts.included:
        return
    if not cache_path(facts, root).exists() and find_source(facts, root) is not None:
        make_data_ready(choice, root)


def make_data_ready(choice: DatasetChoice, root: Path) -> None:
    """Open the decoded images of a data set, decoding its archive or folder first if necessary.

    Raises DataError for missing data, with their size and the command that fetches them.
    """
    from repro.data.prepare import open_decoded

    facts = choice.known_facts
    if not facts.included:
        with _progress_of(facts.title) as report:
            open_decoded(facts, root, report)


def know_images(choice: DatasetChoice, root: Path, *, quiet: bool = False) -> None:
    """Decode a folder of images that is here, so that records of other images are known as such.

    Prints what should be known of it before a run starts, unless ``quiet``.
    """
    from repro.cli.console import say, size
    from repro.data.prepare import know_fingerprint
    from repro.machine import memory_bytes

    facts = choice.facts
    if facts is None or facts.folder is None:
        return
    if quiet:
        know_fingerprint(facts, root)
        return
    with _progress_of(facts.title) as report:
        know_fingerprint(facts, root, report)
    counts = facts.train_counts[: choice.classes]
    if min(counts) < max(counts):
        fewest, most = f"{min(counts):,}", f"{max(counts):,}"
        say(f"{facts.title} has {fewest} to {most} training images a class; top-1 counts every test image alike")
    if facts.decoded_bytes > memory_bytes():
        needed, here = size(facts.decoded_bytes), size(memory_bytes())
        say(f"its images take {needed}, and this machine has {here} of memory: on a CPU, every epoch reads the disk")


@contextmanager
def _progress_of(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Give a function that shows the progress of decoding: a bar on a terminal, a line per stage elsewhere."""
    from repro.cli.console import console, say

    if not sys.stdout.isatty():
        stages: set[str] = set()

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages.add(stage)
                say(f"{stage} {title}")

        yield report
        return
    from rich.progress import Progress

    with Progress(console=console(), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda stage, done, total: bar.update(task, description=f"{stage} {title}", completed=done, total=total)
